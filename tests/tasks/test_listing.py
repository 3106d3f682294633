"""Hosts are asked for their VMs together; one that fails or hangs does not hold the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from uuid import UUID

import pytest

from hvpsbridge.contract.results import ReplicationMode, VmState
from hvpsbridge.errors import (
    HostBusy,
    HostError,
    HostRefused,
    HostUnreachable,
    KdcUnreachable,
    OperationTimedOut,
    ProtocolViolation,
    VmNotFound,
    VmOnSeveralHosts,
)
from hvpsbridge.tasks import ask, listing
from hvpsbridge.tasks.ask import ask_all
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import Hosts, HostTarget
from hvpsbridge.tasks.listing import list_vms
from hvpsbridge.tasks.planning.claims import Candidate

VM = UUID(int=1)


class Host:
    """A host that lists VMs, or raises."""

    def __init__(self, name: str, answers: Callable[[], object], mode: ReplicationMode) -> None:
        self.name, self._answers, self._mode, self.closed = name, answers, mode, 0

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *err: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1

    def host_info(self) -> object:
        return SimpleNamespace(machine_id=None)

    def shells(self) -> tuple[object, ...]:
        return ()

    shell_id = "X"

    def vms(self) -> list[object]:
        found = self._answers()
        return [
            SimpleNamespace(vm_id=VM, name="web", state=VmState.RUNNING, replication_mode=self._mode)
        ] * bool(found)

    def list_vms(self) -> tuple[list[object], list[object]]:
        return self.vms(), []

    def vm(self, vm_id: UUID) -> object:
        for vm in self.vms():
            return vm
        raise VmNotFound(self.name, "Get-HvpsVm", "Hvps.VmNotFound", "ObjectNotFound", None, "gone")


def target(
    name: str, answers: Callable[[], object] = lambda: True, mode: ReplicationMode = ReplicationMode.NONE
) -> HostTarget:
    return HostTarget(name, lambda: Host(name, answers, mode))  # type: ignore[arg-type,return-value]


def fails(err: Exception) -> Callable[[], object]:
    def answers() -> object:
        raise err

    return answers


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LIST_AGAIN_SECONDS", (0.0, 0.0))


def test_any_exception_is_an_error_of_its_host_only() -> None:
    targets = [
        target("deep", fails(RecursionError("too deep"))),
        target("big", fails(MemoryError())),
        target("down", fails(HostUnreachable("down", "no route"))),
        target("good"),
    ]
    listed = list_vms(targets, lambda vm_id: None, Cancellation())
    assert [vm.host for vm in listed.claims.vms] == ["good"]
    errors = dict(listed.errors)
    assert isinstance(errors["deep"], ProtocolViolation)
    assert "RecursionError: too deep" in str(errors["deep"])
    assert isinstance(errors["big"], ProtocolViolation)
    assert isinstance(errors["down"], HostUnreachable)


def test_a_host_that_hangs_does_not_hold_the_others() -> None:
    hang = threading.Event()
    answers = ask_all(
        [target("slow", hang.wait), target("good")],
        lambda one: one.connect().list_vms(),
        Cancellation(),
        host_seconds=0.2,
    )
    hang.set()
    assert list(answers.of) == ["good"]
    assert isinstance(answers.errors["slow"], OperationTimedOut)


def test_more_hosts_than_are_asked_at_once_are_all_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "MAX_HOSTS_AT_ONCE", 2)
    hang = threading.Event()
    targets = [target("slow 1", hang.wait), target("slow 2", hang.wait), target("good 1"), target("good 2")]
    answers = ask_all(targets, lambda one: one.connect().list_vms(), Cancellation(), host_seconds=0.2)
    hang.set()
    assert sorted(answers.of) == ["good 1", "good 2"]
    assert sorted(answers.errors) == ["slow 1", "slow 2"]


@pytest.mark.parametrize("signals", [1, 2])
def test_signals_are_heard_while_a_host_hangs(signals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "STOP_SECONDS", 0.2 if signals == 1 else 60.0)
    hang, cancel = threading.Event(), Cancellation()

    def hangs() -> object:
        for _ in range(signals):
            cancel.request("SIGTERM")
        return hang.wait()

    started = time.monotonic()
    listed = list_vms([target("slow", hangs)], lambda vm_id: None, cancel)
    hang.set()
    assert not listed.claims.vms
    assert time.monotonic() - started < 30


def test_hosts_that_list_one_vm_are_asked_again_since_it_may_be_moving() -> None:
    asked = iter([True, True, False])
    listed = list_vms(
        [target("a", lambda: next(asked, False)), target("b")], lambda vm_id: None, Cancellation()
    )
    assert [vm.host for vm in listed.claims.vms] == ["b"]
    assert not listed.claims.contests


def test_a_host_that_does_not_answer_the_second_time_has_withdrawn_nothing() -> None:
    asked = iter([True])

    def once() -> object:
        if next(asked, False):
            return True
        raise HostUnreachable("a", "no route")

    listed = list_vms([target("a", once), target("b")], lambda vm_id: None, Cancellation())
    (contest,) = listed.claims.contests
    assert contest.winner is None
    assert dict(listed.errors).keys() == {"a"}


def owner(*targets: HostTarget, rivals: tuple[str, ...] = ()) -> str:
    return Hosts(targets, rivals).connect_owner(VM, "a").name


def gone() -> object:
    return False


def test_the_host_of_a_vm_keeps_it_as_long_as_it_lists_it() -> None:
    assert owner(target("b"), target("a")) == "a"


@pytest.mark.parametrize("a", [gone, fails(HostUnreachable("a", "no route"))])
def test_a_vm_that_left_its_host_is_at_the_only_other_one_that_lists_it(a: Callable[[], object]) -> None:
    replica = target("r", mode=ReplicationMode.REPLICA)
    assert owner(target("a", a), target("x", fails(ValueError("bad"))), replica, target("b")) == "b"


@pytest.mark.parametrize(
    "err",
    [
        ProtocolViolation("a", "Get-HvpsVm", "?"),
        RecursionError(),
        HostBusy("a", "too many shells"),
        KdcUnreachable("a", "no answer"),
        HostRefused("a", "wrong password"),
        OperationTimedOut("a", "Get-HvpsVm", 1.0),
    ],
    ids=lambda err: type(err).__name__,
)
def test_nobody_takes_a_vm_over_because_its_host_answers_badly(err: Exception) -> None:
    with pytest.raises(HostError) as caught:
        owner(target("a", fails(err)), target("b"))
    assert caught.value.host == "a"


def test_a_host_that_claimed_the_vm_from_the_start_never_takes_it_over() -> None:
    with pytest.raises(VmNotFound):
        owner(target("a", gone), target("b"), rivals=("b",))


def test_a_vm_that_left_its_host_and_that_two_others_list_is_at_neither() -> None:
    with pytest.raises(VmOnSeveralHosts):
        owner(target("a", gone), target("b"), target("c"))


def test_a_vm_that_cannot_be_read_is_an_error_beside_the_other_vms() -> None:
    class Partly(Host):
        def list_vms(self) -> tuple[list[object], list[object]]:
            return self.vms(), [ProtocolViolation("a", "Get-HvpsVm", "Name is null")]

    one = HostTarget("a", lambda: Partly("a", lambda: True, ReplicationMode.NONE))  # type: ignore[arg-type,return-value]
    listed = list_vms([one], lambda vm_id: None, Cancellation())
    assert [vm.host for vm in listed.claims.vms] == ["a"]
    assert [name for name, _ in listed.errors] == ["a"]


def test_the_host_of_an_earlier_play_keeps_the_vms_that_it_still_lists() -> None:
    found = {VM: (target("a"), Candidate(VM, "web", "a"))}
    claims = list_vms([target("b")], {VM: "A"}.get, Cancellation(), found).claims
    assert not claims.vms
    (contest,) = claims.contests
    assert contest.winner is not None
    assert contest.winner.host == "a"
    assert not contest.proper


@pytest.mark.parametrize(
    ("a", "host"), [(gone, ["b"]), (fails(HostUnreachable("a", "no route")), [])], ids=["left", "silent"]
)
def test_a_vm_that_left_the_host_of_an_earlier_play_has_moved(
    a: Callable[[], object], host: list[str]
) -> None:
    found = {VM: (target("a", a), Candidate(VM, "web", "a"))}
    listed = list_vms([target("b")], lambda vm_id: None, Cancellation(), found)
    assert [vm.host for vm in listed.claims.vms] == host
    assert not listed.errors


def test_a_replica_in_a_later_play_is_left_out() -> None:
    found = {VM: (target("a"), Candidate(VM, "web", "a"))}
    replica = target("b", mode=ReplicationMode.REPLICA)
    (contest,) = list_vms([replica], lambda vm_id: None, Cancellation(), found).claims.contests
    assert contest.proper
    assert contest.winner is not None
    assert contest.winner.host == "a"
