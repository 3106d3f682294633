"""Two names are one machine only if each session sees the other one's shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import VmState
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.tasks import listing
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.listing import list_vms
from hvpsbridge.tasks.machines import Seen, find_machines, same_machine
from tests.tasks.test_backup_node_deaths import connect

ID = UUID(int=1)


def seen(shell: str, *shells: str, machine_id: UUID | None = ID) -> Seen:
    return Seen(machine_id, shell, frozenset({shell.upper(), *shells}))


@pytest.mark.parametrize("machine_id", [ID, None])
def test_sessions_that_see_each_other_are_on_one_machine(machine_id: UUID | None) -> None:
    assert same_machine(seen("a", "B", machine_id=machine_id), seen("b", "A"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen("a", "B"), seen("b")),
        (seen("a"), seen("b", "A")),
        (seen("a"), seen("b")),
        (seen("a"), seen("a")),
        (seen("a", "B"), seen("b", "A", machine_id=UUID(int=2))),
    ],
    ids=["only one sees", "only the other sees", "an equal id", "an equal shell", "another id"],
)
def test_nothing_less_makes_two_names_one_machine(one: Seen, other: Seen) -> None:
    assert not same_machine(one, other)


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[tuple[HostTarget, ...]]:
    """One host under two names, and another one with the same VM."""
    vm_id = uuid4()
    with ExitStack() as stack:
        urls = []
        for name in ("one", "two"):
            model = Model(tmp_path / name)
            stack.callback(model.close)
            model.setup.create_vm("web", vm_id=vm_id)
            urls.append(stack.enter_context(SimulatedHost(model)).url)
        yield tuple(
            HostTarget(name, lambda name=name, url=url: connect(name, url))  # type: ignore[misc]
            for name, url in (("a", urls[0]), ("b", urls[0]), ("c", urls[1]))
        )


def test_two_names_of_a_real_session_are_found(targets: tuple[HostTarget, ...]) -> None:
    assert find_machines(targets, Cancellation()) == {"a": "a", "b": "a", "c": "c"}


def test_a_host_under_two_names_has_its_vms_once(targets: tuple[HostTarget, ...]) -> None:
    listed = list_vms(targets[:2], lambda vm_id: "b", Cancellation())
    (contest,) = listed.claims.contests
    assert contest.proper
    assert contest.winner is not None
    assert (contest.winner.host, contest.winner.state) == ("b", VmState.RUNNING)


def test_another_host_with_that_vm_is_another_host(
    targets: tuple[HostTarget, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LIST_AGAIN_SECONDS", (0.0,))
    (contest,) = list_vms(targets, lambda vm_id: None, Cancellation()).claims.contests
    assert not contest.proper
    assert contest.winner is None
