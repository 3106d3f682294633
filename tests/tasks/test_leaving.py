"""Leaving a host: how long merges are waited for, what an undo may take, what a host not clean comes to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID, uuid4

from hvpsbridge.contract.results import MergeState
from hvpsbridge.errors import ExitCode, HostNotClean, Interrupted
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.units import MIB
from tests.tasks.world import Steps, World

SMALL = 2 * MIB
CHILD, OTHER, BASE = "C:\\web_1.avhdx", "C:\\db_7.avhdx", "C:\\web.vhdx"


@dataclass
class Merging:
    """A host whose chains are these, one after the other."""

    chains: list[tuple[str, ...]]
    asked: int = 0

    def merge_state(self, vm_id: UUID) -> MergeState:
        self.asked += 1
        # Whatever else goes on: the VM is said to merge all the time.
        return MergeState(vm_id, True, (2, 32772), self.chains[min(self.asked, len(self.chains)) - 1])


def waited(host: Merging, children: tuple[str, ...], now: list[float]) -> tuple[str, ...]:
    def pause(seconds: float) -> bool:
        now[0] += seconds
        return True

    limits = BackupLimits(merge_seconds=60.0, poll_seconds=10.0)
    return wait_for_merge(host, uuid4(), children, limits, pause, lambda: now[0])  # type: ignore[arg-type]


def test_a_merge_is_over_when_our_child_is_on_no_chain_whatever_else_merges() -> None:
    host, now = Merging([(CHILD, BASE), (OTHER, CHILD.upper(), BASE), (OTHER, BASE)]), [0.0]
    assert waited(host, (CHILD,), now) == ()
    assert (host.asked, now[0]) == (3, 20.0)


def test_a_merge_that_does_not_end_is_waited_for_so_long_and_named() -> None:
    host, now = Merging([(CHILD, BASE)]), [0.0]
    (left,) = waited(host, (CHILD,), now)
    assert CHILD in left
    assert 60.0 < now[0] <= 80.0


def test_without_a_child_of_ours_nothing_is_waited_for() -> None:
    host = Merging([(OTHER, BASE)])
    assert waited(host, (), [0.0]) == ()
    assert host.asked == 0


def test_data_that_is_safe_on_a_host_that_is_not_clean_is_exit_6(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.model.set_knob("merge_seconds", 1e6)
    result = world.backup(vm_id, merge_seconds=0.1)
    assert result.error is None
    assert result.point_id is not None
    assert result.exit_code is ExitCode.HOST_NOT_CLEAN
    (condition,) = result.conditions
    assert isinstance(condition, HostNotClean)
    assert "is still being merged" in result.leftovers[0]
    assert world.assert_points_equal(vm_id) == 1


def test_an_undo_ends_at_its_own_deadline_and_names_what_it_leaves(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.model.set_knob("merge_seconds", 1e6)
    cancel = Cancellation()
    started = time.monotonic()
    result = world.backup(
        vm_id,
        observer=Steps(("PROVE", "before"), lambda: cancel.request("SIGTERM")),
        cancel=cancel,
        merge_seconds=1e6,
        undo_seconds=0.3,
    )
    assert isinstance(result.error, Interrupted)
    assert result.exit_code is ExitCode.TERMINATED
    assert any("is still being merged" in left for left in result.leftovers)
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    assert time.monotonic() - started < 60, "it would have waited for the merge"


def test_a_users_merge_at_the_end_of_a_backup_is_not_ours_to_wait_for(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, kind=SnapshotType.Standard))

    def remove() -> None:
        world.model.jobs.wait(world.model.checkpoints.remove(UUID(made.results["checkpoint"])))
        # From here on nothing ends but by itself: ours had begun and ended before.
        world.model.set_knob("merge_seconds", 1e6)

    result = world.backup(vm_id, observer=Steps(("CHECK_CLEAN", "before"), remove), merge_seconds=30.0)
    assert result.error is None
    assert not result.leftovers, result.leftovers
    world.assert_points_equal(vm_id)
