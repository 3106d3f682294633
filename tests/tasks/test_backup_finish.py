"""The end of a backup: merges that do not end, the deadline of the undo, a host that is not clean."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, HostNotClean, Interrupted, NotEligible
from hvpsbridge.sim.engines.operations import context
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.units import MIB
from tests.tasks.world import Steps, World

SMALL = 2 * MIB
CHILD, OTHER, BASE = "C:\\web_1.avhdx", "C:\\db_7.avhdx", "C:\\web.vhdx"


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


def test_files_that_are_busy_while_they_merge_do_not_end_the_waiting(world: World) -> None:
    vm_id = world.vm(disks=(SMALL, SMALL))
    world.model.set_knob("vhd_busy_while_merging", True)
    world.model.set_knob("merge_seconds", 0.3)
    for _ in range(2):
        result = world.good_backup(vm_id)
        assert not result.warnings
        world.churn(vm_id)


@pytest.mark.parametrize("cmdlet", ["Get-VHD", "Get-VMHardDiskDrive", "Get-VM"])
def test_one_busy_answer_while_waiting_for_the_merge_costs_nothing(world: World, cmdlet: str) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.model.set_knob("merge_seconds", 0.1)

    def busy() -> None:
        world.model.faults.arm_call(cmdlet, 2, error="busy")

    result = world.good_backup(vm_id, observer=Steps(("MERGE", "before"), busy))
    assert not result.warnings
    assert not world.model.faults.armed()


def test_a_file_that_is_busy_is_waited_for_and_then_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "BUSY_SECONDS", 0.05)
    vm_id = world.vm(disks=(SMALL,))
    world.model.faults.arm_call("Get-VHD", 12, error="busy")
    world.good_backup(vm_id)
    world.model.faults.clear()
    world.model.faults.arm_call("Get-VHD", 100_000, error="busy")
    result = world.backup(vm_id, held_merge_seconds=0.3)
    assert isinstance(result.error, NotEligible)
    assert "Hvps.DiskBusy" in str(result.error)
    assert result.exit_code is ExitCode.VM_FAILED


def test_a_users_merge_at_the_end_of_a_backup_is_not_ours_to_wait_for(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, kind=SnapshotType.Standard))

    def remove() -> None:
        world.model.jobs.wait(world.model.checkpoints.remove(UUID(made.results["checkpoint"])))
        # From here on no merge ends; that of the backup has ended before.
        world.model.set_knob("merge_seconds", 1e6)

    result = world.backup(vm_id, observer=Steps(("CHECK_CLEAN", "before"), remove), merge_seconds=30.0)
    assert result.error is None
    assert not result.leftovers, result.leftovers
    world.assert_points_equal(vm_id)
