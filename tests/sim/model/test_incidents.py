"""Crashes, migration, competitors and meddling, as a backup would find them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.sim.model import (
    Consistency,
    ControllerType,
    DiskError,
    HyperVError,
    ManualClock,
    Model,
    Slot,
    SnapshotType,
    VhdFormat,
    VMState,
    Win32,
)
from hvpsbridge.sim.model.faults import MODEL_FAULTS
from hvpsbridge.sim.model.state import CheckpointType, Job, JobState
from hvpsbridge.units import MIB

SLOT = Slot(ControllerType.SCSI, 0, 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def model(tmp_path: Path, clock: ManualClock) -> Iterator[Model]:
    world = Model(tmp_path, clock=clock, seed=2)
    world.knobs.over_report = 0.0
    yield world
    world.close()


@pytest.fixture
def vm(model: Model) -> UUID:
    made = model.setup.create_vm("web01")
    model.setup.add_disk(made.vm_id, SLOT, size_bytes=8 * MIB)
    return made.vm_id


def done(model: Model, clock: ManualClock, job: Job) -> Job:
    clock.advance(1.0)
    model.jobs.all()
    assert job.done
    return job


def top(model: Model, vm: UUID) -> int:
    number = model.disks.drives(vm)[0].layer
    assert number is not None
    return number


def backup(model: Model, clock: ManualClock, vm: UUID) -> str:
    """An id sealed by a whole backup."""
    job = done(model, clock, model.checkpoints.create(vm))
    point = model.checkpoints.get(UUID(job.results["checkpoint"]))
    recent = model.driver.tracking_state(model.disks.layer(point.disks[str(SLOT)]).path)[2]
    done(model, clock, model.checkpoints.convert(point.checkpoint_id))
    clock.advance(5.0)
    assert recent
    return recent


def test_a_crashed_host_has_no_handles_and_no_jobs_and_its_vms_are_off(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    point = done(model, clock, model.checkpoints.create(vm)).results["checkpoint"]
    path = model.disks.layer(model.checkpoints.get(UUID(point)).disks[str(SLOT)]).path
    handle = model.driver.open(path, "pid:1", "HV01")
    model.driver.attach(handle)
    job = model.checkpoints.remove(UUID(point))
    model.incidents.crash_host("HV01")
    assert model.driver.attached() == ()
    assert model.vms.get(vm).state is VMState.Off
    assert model.jobs.progress(job)[0] is JobState.Exception
    # The checkpoint outlives the crash: somebody has to settle it.
    assert len(model.checkpoints.all(vm)) == 1


def test_a_migrated_vm_is_found_on_its_new_host_with_its_checkpoint_and_without_old_handles(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    model.setup.add_node("HV02")
    base = backup(model, clock, vm)
    model.guests.write(vm, SLOT, 0, b"x" * 512)
    point = UUID(done(model, clock, model.checkpoints.create(vm)).results["checkpoint"])
    path = model.disks.layer(model.checkpoints.get(point).disks[str(SLOT)]).path
    handle = model.driver.open(path, "pid:1", "HV01")
    model.driver.attach(handle)
    model.incidents.migrate(vm, "HV02", seconds=5.0)
    assert model.vms.status(vm) == (2, 32774)
    with pytest.raises(HyperVError):
        model.checkpoints.remove(point)
    clock.advance(5.0)
    with pytest.raises(HyperVError):
        model.vms.get(vm, "HV01")
    assert model.vms.get(vm, "HV02").vm_id == vm
    with pytest.raises(DiskError):
        model.driver.read(handle, 0, 512)
    assert model.driver.query_changes(path, base, 0, 8 * MIB).extents[0].offset == 0


def test_a_dead_hosts_clustered_vms_start_elsewhere_and_others_do_not(
    model: Model, clock: ManualClock
) -> None:
    model.setup.add_node("HV02", cluster="C1")
    model.setup.add_node("HV03", cluster="C1")
    moving = model.setup.create_vm("moving", node="HV02", clustered=True)
    staying = model.setup.create_vm("staying", node="HV02")
    model.incidents.kill_host("HV02")
    assert (model.vms.get(moving.vm_id).node, moving.state) == ("HV03", VMState.Running)
    assert (model.vms.get(staying.vm_id).node, staying.state) == ("HV02", VMState.Off)
    assert not model.nodes.get("HV02").alive
    model.incidents.revive_host("HV02")
    assert model.nodes.get("HV02").alive


def test_lost_tracking_answers_no_id_until_the_next_seal_and_none_from_before_after_it(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    base = backup(model, clock, vm)
    model.incidents.lose_tracking(vm, SLOT)
    path = model.disks.layer(top(model, vm)).path
    with pytest.raises(DiskError) as missing:
        model.driver.query_changes(path, base, 0, 8 * MIB)
    assert missing.value.code == Win32.VHD_TRACKING_MISSING
    done(model, clock, model.checkpoints.create(vm))
    with pytest.raises(DiskError) as unknown:
        model.driver.query_changes(path, base, 0, 8 * MIB)
    assert unknown.value.code == Win32.VHD_INVALID_TRACKING_ID


def test_an_edit_that_tracking_never_saw_is_not_reported(model: Model, clock: ManualClock, vm: UUID) -> None:
    base = backup(model, clock, vm)
    with pytest.raises(HyperVError):
        model.incidents.edit_offline(vm, SLOT, 0, b"e" * 512)
    model.vms.set_state(vm, "stop")
    model.incidents.edit_offline(vm, SLOT, 0, b"e" * 512)
    path = model.disks.layer(top(model, vm)).path
    assert model.driver.query_changes(path, base, 0, 8 * MIB).extents == ()
    model.incidents.edit_offline(vm, SLOT, MIB, b"e" * 512, tracked=True)
    assert [extent.offset for extent in model.driver.query_changes(path, base, 0, 8 * MIB).extents] == [MIB]


def test_children_without_a_checkpoint_merge_with_the_next_one(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    model.guests.write(vm, SLOT, 0, b"a" * 512)
    model.incidents.leave_children(vm)
    model.guests.write(vm, SLOT, 512, b"b" * 512)
    assert len(model.disks.chain(top(model, vm))) == 2
    assert model.checkpoints.all(vm, hidden=True) == ()
    backup(model, clock, vm)
    assert len(model.disks.chain(top(model, vm))) == 1
    assert model.guests.read(vm, SLOT, 0, 1024) == b"a" * 512 + b"b" * 512


def test_merging_that_is_switched_off_leaves_children_until_it_is_on_again(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    model.setup.change_vm(vm, merge_enabled=False)
    backup(model, clock, vm)
    assert len(model.disks.chain(top(model, vm))) == 2
    model.setup.change_vm(vm, merge_enabled=True)
    clock.advance(5.0)
    assert len(model.disks.chain(top(model, vm))) == 1


def test_another_products_reference_point_has_ids_of_its_own_and_all_can_be_destroyed(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    base = backup(model, clock, vm)
    theirs = model.incidents.add_reference_point(vm)
    model.guests.write(vm, SLOT, 0, b"x" * 512)
    path = model.disks.layer(top(model, vm)).path
    their_id = next(p for p in model.reference_points.all(vm) if p.instance_id == theirs).rct_ids[0]
    assert their_id != base
    assert model.driver.query_changes(path, base, 0, 8 * MIB) == model.driver.query_changes(
        path, their_id, 0, 8 * MIB
    )
    assert model.incidents.destroy_reference_points(vm) == 2
    # The object is gone; the id may still be asked for (docs/hyperv-facts.md#ids-outlive-objects).
    assert model.driver.query_changes(path, base, 0, 8 * MIB).extents


def test_a_swapped_disk_at_the_same_path_knows_no_id(model: Model, clock: ManualClock, vm: UUID) -> None:
    base = backup(model, clock, vm)
    before = model.disks.layer(top(model, vm))
    model.setup.swap_disk(vm, SLOT, disk_id=before.disk_id)
    after = model.disks.layer(top(model, vm))
    assert (after.path, after.disk_id, after.size_bytes) == (before.path, before.disk_id, before.size_bytes)
    assert after.number != before.number
    with pytest.raises(DiskError):
        model.driver.query_changes(after.path, base, 0, 8 * MIB)


def test_drives_that_cannot_be_checkpointed_fail_the_job_or_are_left_out(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    model.setup.add_pass_through(vm, Slot(ControllerType.SCSI, 0, 1), 3)
    model.setup.add_disk(vm, Slot(ControllerType.SCSI, 0, 2), size_bytes=MIB, shared=True)
    model.setup.add_empty_drive(vm, Slot(ControllerType.IDE, 1, 0))
    assert done(model, clock, model.checkpoints.create(vm)).error_code == 32770
    job = done(model, clock, model.checkpoints.create(vm, ignore_disks=True))
    assert list(model.checkpoints.get(UUID(job.results["checkpoint"])).disks) == [str(SLOT)]


def test_a_vhd_is_checkpointed_without_tracking(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("old", generation=1, version="8.0").vm_id
    model.setup.add_disk(vm, Slot(ControllerType.IDE, 0, 0), size_bytes=MIB, format=VhdFormat.VHD)
    point = model.checkpoints.get(
        UUID(done(model, clock, model.checkpoints.create(vm)).results["checkpoint"])
    )
    path = model.disks.layer(point.disks["ide0:0"]).path
    assert path.endswith(".vhd")
    assert model.driver.tracking_state(path) == (False, False, None)
    assert model.disks.layer(top(model, vm)).path.endswith(".avhd")
    job = done(model, clock, model.checkpoints.convert(point.checkpoint_id))
    assert model.reference_points.all(vm)[0].rct_ids == []
    assert not job.error_code


@pytest.mark.parametrize(
    ("state", "consistency", "works"),
    [
        (VMState.Running, Consistency.Application, True),
        (VMState.Off, Consistency.Application, True),
        (VMState.Saved, Consistency.Application, False),
        (VMState.Saved, Consistency.Crash, True),
        (VMState.Paused, Consistency.Crash, True),
    ],
)
def test_a_checkpoint_is_as_consistent_as_the_vms_state_allows(
    model: Model, clock: ManualClock, vm: UUID, state: VMState, consistency: Consistency, works: bool
) -> None:
    model.setup.change_vm(vm, state=state)
    job = done(model, clock, model.checkpoints.create(vm, consistency=consistency))
    assert (job.error_code == 0) is works


@pytest.mark.parametrize("state", [VMState.Starting, VMState.Stopping, VMState.Saving, VMState.Resuming])
def test_a_vm_between_states_is_refused(model: Model, vm: UUID, state: VMState) -> None:
    model.setup.change_vm(vm, state=state)
    with pytest.raises(HyperVError) as busy:
        model.checkpoints.create(vm)
    assert busy.value.code == 32775


def test_users_checkpoints_that_are_disabled_are_refused(model: Model, vm: UUID) -> None:
    model.setup.change_vm(vm, checkpoint_type="disabled")
    assert model.vms.get(vm).checkpoint_type is CheckpointType.Disabled
    with pytest.raises(HyperVError):
        model.checkpoints.create(vm, kind=SnapshotType.Standard)


def test_a_vm_shows_the_statuses_that_were_set(model: Model, vm: UUID) -> None:
    model.setup.change_vm(vm, primary_status=11, second_status=32773)
    assert model.vms.status(vm) == (11, 32773)


def test_a_full_volume_pauses_the_vm(model: Model, vm: UUID) -> None:
    model.setup.add_volume("C:\\", 100 * MIB, used_elsewhere_bytes=90 * MIB)
    with pytest.raises(HyperVError):
        model.guests.write(vm, SLOT, 0, b"x" * 512)
    assert model.vms.get(vm).state is VMState.PausedCritical
    assert [event.event_id for event in model.nodes.events()] == [16050]


def test_commit_fork_events_are_in_the_log(model: Model, vm: UUID) -> None:
    model.setup.change_vm(vm, commit_fork_events=2)
    assert [event.event_id for event in model.nodes.events()] == [3216, 3216]


def _codes(model: Model, clock: ManualClock, vm: UUID, fault: str | None) -> object:
    """What happens with ``fault`` armed, in one value that differs from an undisturbed run's."""
    # Longer than a job, so that somebody can look while it goes on.
    model.set_knob("merge_seconds", 4.0)
    model.guests.write(vm, SLOT, 0, b"x" * 512)
    base = backup(model, clock, vm)
    for number in range(8):
        model.guests.write(vm, SLOT, number * MIB, b"y" * 512)
    if fault is not None:
        model.faults.arm(fault)
    try:
        made = done(model, clock, model.checkpoints.create(vm, consistency=Consistency.Application))
        if made.error_code:
            return made.error_code, made.error_text
        point = model.checkpoints.get(UUID(made.results["checkpoint"]))
        if not point.disks:
            return "no disks"
        path = model.disks.layer(point.disks[str(SLOT)]).path
        answer = model.driver.query_changes(path, base, 0, 8 * MIB)
        handle = model.driver.open(path, "test")
        model.driver.attach(handle)
        data = model.driver.read(handle, 0, 4096)
        model.driver.close(handle)
        model.guests.write(vm, SLOT, 0, b"z" * 512)
        converted = done(model, clock, model.checkpoints.convert(point.checkpoint_id))
        if converted.error_code:
            removed = done(model, clock, model.checkpoints.remove(point.checkpoint_id))
            return converted.error_text, removed.error_code
        chain = [layer.path for layer in model.disks.chain(top(model, vm))]
        same = model.reference_points.all(vm)[-1].rct_ids == list(point.sealed.values())
        first = done(
            model, clock, model.reference_points.remove(model.reference_points.all(vm)[0].instance_id)
        )
        clock.advance(10.0)
        events = [event.event_id for event in model.nodes.events()]
        again = done(model, clock, model.checkpoints.create(vm))
        last = done(model, clock, model.checkpoints.remove(UUID(again.results["checkpoint"])))
    except (HyperVError, DiskError) as err:
        return type(err).__name__, err.code
    return answer, data, len(chain), same, first.error_code, last.error_code, events


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_fault_shows_once_and_the_next_backup_is_undisturbed(
    tmp_path: Path, model: Model, clock: ManualClock, vm: UUID, fault: str
) -> None:
    said = _codes(model, clock, vm, fault)
    assert model.faults.armed() == {}
    assert said != _calm(tmp_path, clock)
    for point in model.checkpoints.all(vm, hidden=True):
        done(model, clock, model.checkpoints.remove(point.checkpoint_id))
    for handle in model.driver.attached():
        model.driver.close(handle)
    clock.advance(10.0)
    if model.vms.get(vm).state is not VMState.Running:
        model.vms.set_state(vm, "start")
    assert backup(model, clock, vm)


def _calm(folder: Path, clock: ManualClock) -> object:
    model = Model(folder / "undisturbed", clock=clock, seed=2)
    model.knobs.over_report = 0.0
    vm = model.setup.create_vm("web01").vm_id
    model.setup.add_disk(vm, SLOT, size_bytes=8 * MIB)
    try:
        return _codes(model, clock, vm, None)
    finally:
        model.close()


def test_user_checkpoints_made_before_during_and_after_are_left_alone(
    model: Model, clock: ManualClock, vm: UUID
) -> None:
    before = UUID(
        done(model, clock, model.checkpoints.create(vm, kind=SnapshotType.Standard)).results["checkpoint"]
    )
    ours = UUID(done(model, clock, model.checkpoints.create(vm)).results["checkpoint"])
    model.guests.write(vm, SLOT, 0, b"1" * 512)
    during = UUID(
        done(model, clock, model.checkpoints.create(vm, kind=SnapshotType.Standard)).results["checkpoint"]
    )
    model.guests.write(vm, SLOT, 512, b"2" * 512)
    done(model, clock, model.checkpoints.convert(ours))
    clock.advance(5.0)
    assert {point.checkpoint_id for point in model.checkpoints.all(vm)} == {before, during}
    assert model.guests.read(vm, SLOT, 0, 1024) == b"1" * 512 + b"2" * 512
    for point in (before, during):
        number = model.checkpoints.get(point).disks[str(SLOT)]
        handle = model.driver.open(model.disks.layer(number).path, "test")
        model.driver.attach(handle)
        assert model.driver.read(handle, 0, 8 * MIB) == model.golden.at_checkpoint(point, SLOT).read_bytes()
        model.driver.close(handle)
