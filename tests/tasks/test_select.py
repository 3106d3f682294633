"""Selection of VMs: a plain name means exactly one VM, a pattern any number."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.contract.results import ReplicationMode, VmState
from hvpsbridge.errors import AmbiguousVm, VmMissing, VmOnSeveralHosts, VmRenamed
from hvpsbridge.tasks.planning.claims import Candidate, Contest
from hvpsbridge.tasks.planning.select import SelectableState, VmSelection, choose_vms, names_vm

NAMES = ["sql-1", "SQL-2", "web", "web", "odd [x] $name's", "Übung"]
VMS = [
    Candidate(UUID(int=index), name, "hv01", VmState.OFF if name == "web" else VmState.RUNNING)
    for index, name in enumerate(NAMES)
]


def chosen(*include: str, limit: tuple[str, ...] = (), **more: object) -> list[str]:
    vms, problems = choose_vms(VMS, VmSelection(include or ("*",), **more), "hv01", limit)  # type: ignore[arg-type]
    assert not problems
    return [vm.name for vm in vms]


def test_patterns_are_shell_patterns_without_regard_to_case() -> None:
    assert chosen("sql*") == ["sql-1", "SQL-2"]
    assert chosen("ü*") == ["Übung"]
    assert len(chosen()) == len(NAMES)
    assert chosen("sql*", "SQL-?") == ["sql-1", "SQL-2"]


def test_names_may_hold_what_patterns_mean_otherwise() -> None:
    assert chosen("odd [x] $name's") == ["odd [x] $name's"]


def test_exclusion_state_and_limit_narrow_the_choice() -> None:
    assert chosen(exclude=("web", "ü*", "odd*")) == ["sql-1", "SQL-2"]
    assert chosen(state=(SelectableState.OFF,)) == ["web", "web"]
    assert chosen("sql*", limit=("*-2",)) == ["SQL-2"]


def test_a_plain_name_must_mean_exactly_one() -> None:
    vms, problems = choose_vms(VMS, VmSelection(("web", "mail", "sql-1")), "hv01")
    assert [vm.name for vm in vms] == ["sql-1"]
    ambiguous, missing = problems
    assert isinstance(ambiguous, AmbiguousVm)
    assert ambiguous.vm_ids == (str(UUID(int=2)), str(UUID(int=3)))
    assert isinstance(missing, VmMissing)
    assert missing.vm == "mail"


def test_an_id_names_one_of_equal_names() -> None:
    vms, problems = choose_vms(VMS, VmSelection((str(UUID(int=3)),)), "hv01")
    assert [vm.vm_id for vm in vms] == [UUID(int=3)]
    assert not problems


def test_a_name_is_looked_for_on_all_hosts_together() -> None:
    elsewhere = Candidate(UUID(int=50), "mail", "hv02")
    vms, problems = choose_vms([*VMS, elsewhere], VmSelection(("mail", "sql-1")), "hv01, hv02")
    assert [(vm.name, vm.host) for vm in vms] == [("mail", "hv02"), ("sql-1", "hv01")]
    assert not problems


def test_a_contested_vm_is_an_error_if_any_of_its_names_is_selected() -> None:
    real, other = Candidate(UUID(int=60), "mail", "hv01"), Candidate(UUID(int=60), "unrelated", "hv02")
    for contest in (Contest((real, other)), Contest((real, other), real, "kept")):
        vms, problems = choose_vms(VMS, VmSelection(("mail",)), "hv01, hv02", contests=[contest])
        assert [vm.host for vm in vms] == (["hv01"] if contest.winner else [])
        (problem,) = problems
        assert isinstance(problem, VmOnSeveralHosts)
        assert all(word in str(problem) for word in ("hv01", "hv02", "mail", str(UUID(int=60))))
        assert not choose_vms(VMS, VmSelection(("web*",)), "hv01, hv02", contests=[contest])[1]


def test_a_name_that_the_exclusion_matches_does_not_take_the_vm_of_another_host_out() -> None:
    real, other = Candidate(UUID(int=60), "mail", "hv01"), Candidate(UUID(int=60), "test-1", "hv02")
    contest = Contest((real, other), real, "kept")
    vms, problems = choose_vms((), VmSelection(("*",), ("test*",)), "hv01, hv02", contests=[contest])
    assert vms == (real,)
    assert problems


def test_a_second_vm_of_one_name_does_not_stop_the_one_that_was_backed_up_before() -> None:
    real, new = Candidate(UUID(int=61), "mail", "hv01"), Candidate(UUID(int=62), "mail", "hv02")
    newest = {real.vm_id: "HV01"}.get
    vms, problems = choose_vms([new, real], VmSelection(("mail",)), "hv01, hv02", newest_host=newest)
    assert vms == (real,)
    assert isinstance(problems[0], AmbiguousVm)


def test_a_test_replica_has_the_name_of_its_vm_and_is_not_meant() -> None:
    real = Candidate(UUID(int=61), "mail", "hv01")
    test = Candidate(UUID(int=62), "mail", "hv02", replication=ReplicationMode.TEST_REPLICA)
    assert choose_vms([test, real], VmSelection(("mail",)), "hv01, hv02") == ((real,), ())


def test_a_missing_name_proves_nothing_while_a_host_is_silent() -> None:
    assert choose_vms(VMS, VmSelection(("gone",)), "hv01", complete=False) == ((), ())


def test_a_name_from_before_a_rename_is_used_only_where_no_vm_has_it_now() -> None:
    def once_called(name: str) -> frozenset[UUID]:
        return frozenset({UUID(int=0)}) if name.casefold() in ("old", "web", "sql-2") else frozenset()

    def found(*include: str, limit: tuple[str, ...] = ()) -> tuple[list[str], list[type]]:
        vms, problems = choose_vms(VMS, VmSelection(include), "hv01", limit, once_called=once_called)
        return [vm.name for vm in vms], [type(problem) for problem in problems]

    assert found("OLD") == (["sql-1"], [VmRenamed])
    assert found("sql-2") == (["SQL-2"], [])
    assert found("*", limit=("old",)) == (["sql-1"], [])
    assert found("*", limit=("sql-2",)) == (["SQL-2"], [])
    assert found("ol*") == ([], [])


def test_only_a_name_or_an_id_names_a_vm() -> None:
    assert names_vm(VmSelection(("SQL-1",)), VMS[0])
    assert names_vm(VmSelection(("*", str(UUID(int=0)))), VMS[0])
    assert not names_vm(VmSelection(("*", "sql-?")), VMS[0])
