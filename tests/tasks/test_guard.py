"""Free space and the age of the checkpoint stop a backup in time."""

from __future__ import annotations

import threading
import time
from uuid import UUID

import pytest

from hvpsbridge.contract.results import VolumeInfo
from hvpsbridge.errors import ExitCode, Gated, HostNoSpace, NotEligible, StoppedByPolicy
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.events import Meter, Progress
from hvpsbridge.tasks.planning.build_trust import BuildTrust
from hvpsbridge.tasks.planning.plan import DiskFacts, plan_disks
from hvpsbridge.tasks.planning.space import MIN_CHILD_BYTES, child_growth, volume_of
from hvpsbridge.tasks.policy import ConsistencyPolicy, OnUnexpectedFull
from hvpsbridge.units import GIB, MIB
from tests.tasks import builders as make
from tests.tasks.world import SLOT, Steps, World
from tests.waiting import wait_until


def fill(world: World, free_bytes: int) -> None:
    """Other files take the volume's space until so much is left."""
    volume = world.model.volumes.all()[0]
    taken = volume.used_elsewhere_bytes + world.model.volumes.free_bytes(volume.root) - free_bytes
    world.model.setup.add_volume(volume.root, volume.total_bytes, taken)


def test_a_volume_that_is_too_full_stops_the_plan_and_nothing_is_made(world: World) -> None:
    vm_id = world.vm()
    fill(world, 2 * MIB)
    result = world.backup(vm_id)
    assert isinstance(result.error, HostNoSpace)
    assert result.exit_code is ExitCode.NO_SPACE
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    assert world.model.volumes.free_bytes(world.model.volumes.all()[0].root) == 2 * MIB


def test_a_volume_that_fills_during_the_read_stops_and_undoes(world: World) -> None:
    vm_id = world.vm()

    def filling() -> None:
        fill(world, 10 * MIB)
        # Having seen it, the watch has nothing more to look for.
        wait_until(lambda: all(thread.name != "space-watch" for thread in threading.enumerate()))

    result = world.backup(vm_id, observer=Steps(("READ", "before"), filling), free_space_floor=64 * MIB)
    assert isinstance(result.error, HostNoSpace)
    world.assert_clean(vm_id, reference_points=0)


def test_a_checkpoint_that_grows_too_old_stops_and_undoes(world: World) -> None:
    vm_id = world.vm()
    result = world.backup(
        vm_id,
        observer=Steps(("CHECK_FROZEN", "before"), lambda: time.sleep(0.3)),
        checkpoint_age=0.2,
    )
    assert isinstance(result.error, StoppedByPolicy)
    assert "old" in result.error.reason
    assert result.exit_code is ExitCode.POLICY
    world.assert_clean(vm_id, reference_points=0)


def test_another_products_checkpoint_is_waited_for_then_the_vm_is_skipped(world: World) -> None:
    vm_id = world.vm()
    job = world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="Other Product"))
    steps = Steps()
    result = world.backup(vm_id, observer=steps)
    assert isinstance(result.error, Gated)
    assert result.exit_code is ExitCode.GATED
    assert any("waiting" in note for note in steps.notes)
    assert [str(point.checkpoint_id) for point in world.model.checkpoints.all(vm_id)] == [
        job.results["checkpoint"]
    ]


def test_another_products_checkpoint_that_ends_in_time_lets_the_backup_go_on(world: World) -> None:
    vm_id = world.vm()
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="Other Product"))

    class Ending(Steps):
        def noted(self, vm: object, text: str) -> None:
            super().noted(vm, text)
            if text.startswith("waiting"):
                (other,) = world.model.checkpoints.all(vm_id)
                world.model.jobs.wait(world.model.checkpoints.remove(other.checkpoint_id))

    assert world.backup(vm_id, observer=Ending(), wait=20.0).error is None
    world.assert_points_equal(vm_id)


def test_a_users_checkpoint_is_no_obstacle(world: World) -> None:
    vm_id = world.vm()
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="mine", kind=SnapshotType.Standard))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def test_an_unexpected_compare_is_warned_of_stopped_or_accepted(world: World) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)

    def lose_reference_point() -> None:
        world.churn(vm_id)
        for point in world.model.reference_points.all(vm_id):
            world.model.jobs.wait(world.model.reference_points.remove(point.instance_id))

    lose_reference_point()
    stopped = world.backup(vm_id, on_unexpected_full=OnUnexpectedFull.STOP)
    assert isinstance(stopped.error, StoppedByPolicy)
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    warned = world.good_backup(vm_id)
    assert warned.exit_code is ExitCode.DEGRADED
    lose_reference_point()
    again = world.good_backup(vm_id)
    assert "2 times in a row" in again.warnings[0]
    lose_reference_point()
    accepted = world.good_backup(vm_id, on_unexpected_full=OnUnexpectedFull.ACCEPT)
    assert accepted.exit_code is ExitCode.DONE
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize(
    ("required", "guest_backup", "reached"),
    [
        (ConsistencyPolicy.APPLICATION, True, "application"),
        (ConsistencyPolicy.CRASH, True, "crash"),
        (ConsistencyPolicy.APPLICATION_OR_CRASH, False, "crash"),
        (ConsistencyPolicy.APPLICATION_OR_CRASH, True, "application"),
        (ConsistencyPolicy.APPLICATION, False, ""),
    ],
)
def test_consistency_falls_back_or_fails_as_asked(
    world: World, required: ConsistencyPolicy, guest_backup: bool, reached: str
) -> None:
    vm_id = world.vm(guest_backup=guest_backup)
    result = world.backup(vm_id, consistency=required)
    assert result.consistency == reached
    assert (result.error is None) == bool(reached)
    world.assert_clean(vm_id, reference_points=1 if reached else 0)
    if reached:
        assert world.repository.catalog.points(vm_id)[0].manifest.consistency == reached
        assert world.repository.catalog.points(vm_id)[0].manifest.consistency_asked == required.value


def test_disks_that_change_between_plan_and_freeze_end_the_run(world: World) -> None:
    vm_id = world.vm()

    def add() -> None:
        other = type(SLOT)(SLOT.controller_type, 0, 5)
        world.model.setup.add_disk(vm_id, other, size_bytes=1 * MIB)

    result = world.backup(vm_id, observer=Steps(("MAKE_CHECKPOINT", "before"), add))
    assert isinstance(result.error, NotEligible)
    assert "scsi 0:5" in result.error.reason
    world.assert_clean(vm_id, reference_points=0)


def test_growth_is_estimated_per_volume_and_never_beyond_the_disk() -> None:
    disk = DiskFacts.of_drive(make.drive(size_bytes=100 * GIB))
    plans = plan_disks(
        make.vm(),
        [disk],
        make.lineage(),
        build=BuildTrust(build=make.BUILD, host="hv01"),
        reference_points=["rp-1"],
    )
    volumes = [VolumeInfo("C:\\", 1, 1), VolumeInfo("C:\\ClusterStorage\\one\\", 1, 1)]
    growth = child_growth(plans, {disk.slot: "c:\\clusterstorage\\one\\web.vhdx"}, volumes, make.lineage())
    assert set(growth) == {"C:\\ClusterStorage\\one\\"}
    assert MIN_CHILD_BYTES <= growth["C:\\ClusterStorage\\one\\"] <= 100 * GIB
    assert volume_of("E:\\other.vhdx", volumes) is None


def test_progress_has_a_rate_over_ten_seconds_and_the_time_left() -> None:
    now = [0.0]
    told: list[Progress] = []
    meter = Meter(told.append, "scsi 0:0", "read", 1000, clock=lambda: now[0])
    for second in range(1, 31):
        now[0] = float(second)
        meter.moved(10 if second <= 15 else 20, 5)
    assert told[-1].done_bytes == 15 * 10 + 15 * 20
    assert told[-1].wire_bytes == 150
    assert told[-1].rate_bytes == pytest.approx(20, rel=0.2)
    assert told[-1].left_seconds == pytest.approx((1000 - 450) / told[-1].rate_bytes)
    now[0] = 30.01
    meter.moved(1, 0)
    assert told[-1].done_bytes == 450, "told too often"


def failed_merge(world: World, vm_id: UUID) -> None:
    """A user's checkpoint was removed, and its merge failed (event 19100) and is not tried again."""
    world.model.set_knob("merge_retry_seconds", 0.0)
    world.model.faults.arm("merge_fails", 1)
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="before the update"))
    world.model.jobs.wait(world.model.checkpoints.remove(UUID(made.results["checkpoint"])))
    (disk,) = world.host().disks(vm_id)
    assert len(disk.chain) == 2


def test_a_merge_that_failed_is_given_time_to_be_tried_again(world: World) -> None:
    vm_id = world.vm()
    failed_merge(world, vm_id)

    class TriedAgain(Steps):
        def noted(self, vm: object, text: str) -> None:
            super().noted(vm, text)
            if text.startswith("waiting"):
                world.model.jobs.finish_all(vm_id)

    observer = TriedAgain()
    assert world.backup(vm_id, observer=observer).error is None
    assert any(note.startswith("waiting") for note in observer.notes)
    world.assert_points_equal(vm_id)


def test_a_merge_that_nobody_tries_again_is_refused_after_a_while(world: World) -> None:
    vm_id = world.vm()
    failed_merge(world, vm_id)
    result = world.backup(vm_id, held_merge_seconds=0.1)
    assert isinstance(result.error, NotEligible)
    assert not world.model.checkpoints.all(vm_id, hidden=True)
