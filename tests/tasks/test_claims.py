"""Which host has a VM that several hosts list."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.contract.results import ReplicationMode, VmState
from hvpsbridge.tasks.planning.claims import Candidate, Contest, settle
from hvpsbridge.tasks.planning.select import VmSelection, choose_vms

VM = UUID(int=1)
REPLICAS = (ReplicationMode.REPLICA, ReplicationMode.EXTENDED_REPLICA)


def claim(host: str, mode: ReplicationMode = ReplicationMode.NONE, state: str = "running") -> Candidate:
    return Candidate(VM, "web", host, VmState(state), mode)


def contest(*claims: Candidate, newest: str | None = None, machines: dict[str, str] | None = None) -> Contest:
    (found,) = settle(claims, lambda vm_id: newest, machines).contests
    return found


def test_a_vm_of_one_host_is_not_contested_and_nobody_asks_for_its_points() -> None:
    def newest_host(vm_id: UUID) -> str | None:
        raise AssertionError

    other = Candidate(UUID(int=2), "web", "b")
    claims = settle([claim("a"), other], newest_host)
    assert claims.vms == (claim("a"), other)
    assert not claims.contests


def test_without_a_point_no_host_gets_a_vm_that_two_list() -> None:
    found = contest(claim("a"), claim("b"))
    assert found.winner is None
    assert not found.proper
    assert "a, b" in str(found.error)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_host_of_the_newest_point_keeps_the_vm_in_any_order(order: tuple[str, str]) -> None:
    found = contest(*map(claim, order), newest="A")
    assert found.winner == claim("a")
    assert found.losers == {"b"}
    assert not found.proper
    assert "from a," in str(found.error)


def test_a_host_that_does_not_list_the_vm_any_more_does_not_keep_it() -> None:
    assert contest(claim("a"), claim("b"), newest="c").winner is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("newest", [None, "b"])
def test_the_primary_is_the_vm_in_any_order_whichever_has_the_newest_point(
    order: tuple[int, ...], newest: str | None
) -> None:
    claims = [
        claim("a", ReplicationMode.PRIMARY),
        claim("b", REPLICAS[0], "off"),
        claim("c", REPLICAS[1], "off"),
    ]
    found = contest(*(claims[index] for index in order), newest=newest)
    assert found.winner == claims[0]
    assert found.proper
    assert found.losers == {"b", "c"}


def test_a_replica_that_runs_while_its_primary_does_not_is_reported() -> None:
    found = contest(claim("a", ReplicationMode.PRIMARY, "off"), claim("b", ReplicationMode.REPLICA))
    assert found.winner is not None
    assert found.winner.host == "a"
    assert not found.proper
    assert "failover" in str(found.error)


def test_two_primaries_are_settled_like_two_vms_without_replication() -> None:
    claims = [claim("a", ReplicationMode.PRIMARY), claim("b", ReplicationMode.PRIMARY)]
    assert contest(*claims).winner is None
    assert contest(*claims, newest="b").winner == claims[1]


def test_names_of_one_machine_are_one_host() -> None:
    found = contest(claim("a"), claim("b"), machines={"a": "a", "b": "a"}, newest="b")
    assert found.proper
    assert found.winner == claim("b")
    three = contest(claim("a"), claim("b"), claim("c"), machines={"a": "a", "b": "a"}, newest="b")
    assert not three.proper
    assert three.winner == claim("b")


NAMES, IDS = ("web", "web-2", "test-web"), tuple(UUID(int=number) for number in range(1, 5))
ANY = st.builds(
    Candidate,
    st.sampled_from(IDS),
    st.sampled_from(NAMES),
    st.just("evil"),
    st.sampled_from(VmState),
    st.sampled_from(ReplicationMode),
)
HONEST = st.builds(
    Candidate,
    st.sampled_from(IDS),
    st.sampled_from(NAMES),
    st.just("a"),
    st.sampled_from(VmState),
    st.sampled_from((ReplicationMode.NONE, ReplicationMode.PRIMARY)),
)


@given(
    st.lists(HONEST, unique_by=lambda vm: vm.vm_id),
    st.lists(ANY, unique_by=lambda vm: vm.vm_id),
    st.booleans(),
    st.lists(st.sampled_from((*NAMES, "web*", "*", str(IDS[0]))), min_size=1, unique=True),
    st.lists(st.sampled_from(("test*", "web-2")), max_size=1),
)
def test_no_host_keeps_a_vm_that_was_backed_up_before_out_of_the_backup(
    honest: list[Candidate], evil: list[Candidate], first: bool, include: list[str], exclude: list[str]
) -> None:
    def newest(vm_id: UUID) -> str | None:
        return "a" if any(vm.vm_id == vm_id for vm in honest) else None

    def selected(vms: list[Candidate]) -> set[Candidate]:
        claims = settle(vms, newest)
        chosen, _ = choose_vms(
            claims.vms,
            VmSelection(tuple(include), tuple(exclude)),
            "a, evil",
            contests=claims.contests,
            newest_host=newest,
        )
        assert len({vm.vm_id for vm in chosen}) == len(chosen)
        return set(chosen)

    alone = selected(honest)
    assert alone <= selected([*evil, *honest] if first else [*honest, *evil])
