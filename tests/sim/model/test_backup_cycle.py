"""The cycle a backup goes through, on the model alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.extents import Extent, normalise, subtract
from hvpsbridge.sim.model import (
    Consistency,
    ControllerType,
    DiskError,
    HyperVError,
    ManualClock,
    Model,
    Slot,
    SnapshotType,
    Win32,
    Wmi,
)
from hvpsbridge.units import KIB, MIB, TIB

SLOT = Slot(ControllerType.SCSI, 0, 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def model(tmp_path: Path, clock: ManualClock) -> Iterator[Model]:
    world = Model(tmp_path / "world", clock=clock, seed=7)
    yield world
    world.close()


def checkpoint(
    model: Model, clock: ManualClock, vm_id: UUID, kind: SnapshotType = SnapshotType.Recovery
) -> UUID:
    job = model.checkpoints.create(vm_id, kind=kind, consistency=Consistency.Crash)
    clock.advance(1.0)
    assert not model.jobs.get(job.job_id).error_code
    return UUID(job.results["checkpoint"])


def frozen_path(model: Model, checkpoint_id: UUID) -> str:
    return model.disks.layer(model.checkpoints.get(checkpoint_id).disks[str(SLOT)]).path


def frozen_bytes(model: Model, path: str) -> bytes:
    handle = model.driver.open(path, "test")
    model.driver.attach(handle)
    data = model.driver.read(handle, 0, model.disks.at(path).size_bytes)
    model.driver.close(handle)
    return data


def convert(model: Model, clock: ManualClock, checkpoint_id: UUID) -> str:
    job = model.checkpoints.convert(checkpoint_id)
    clock.advance(1.0)
    assert not model.jobs.get(job.job_id).error_code
    return job.results["reference_point"]


def changed(model: Model, path: str, rct_id: str) -> tuple[Extent, ...]:
    size = model.disks.at(path).size_bytes
    found: list[Extent] = []
    position = 0
    while position < size:
        page = model.driver.query_changes(path, rct_id, position, size - position)
        assert page.processed_bytes > 0
        found += page.extents
        position += page.processed_bytes
    return normalise(found, size)


def test_a_frozen_disk_stays_what_the_image_kept_apart_says_while_the_guest_writes_on(
    model: Model, clock: ManualClock
) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    model.guests.write(vm.vm_id, SLOT, 1 * MIB, b"before" + bytes(506))
    point = checkpoint(model, clock, vm.vm_id)
    model.guests.write(vm.vm_id, SLOT, 1 * MIB, b"after!" + bytes(506))

    path = frozen_path(model, point)
    kept = model.golden.at_checkpoint(point, SLOT).read_bytes()
    assert frozen_bytes(model, path) == kept
    assert kept[MIB : MIB + 6] == b"before"
    assert model.guests.read(vm.vm_id, SLOT, MIB, 512)[:6] == b"after!"


def test_the_live_disk_is_the_child_until_its_merge_has_ended(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    base = model.disks.chain(model.disks.drives(vm.vm_id)[0].layer or 0)[0].path
    model.knobs.merge_seconds = 60.0
    point = checkpoint(model, clock, vm.vm_id)
    model.guests.write(vm.vm_id, SLOT, 0, b"x" * 512)
    assert frozen_path(model, point) == base
    child = model.disks.drives(vm.vm_id)[0].layer
    convert(model, clock, point)
    assert model.vms.status(vm.vm_id) == (2, 32772)
    assert model.disks.drives(vm.vm_id)[0].layer == child
    clock.advance(61.0)
    assert model.vms.status(vm.vm_id) == (2,)
    assert model.disks.layer(model.disks.drives(vm.vm_id)[0].layer or 0).path == base
    assert model.guests.read(vm.vm_id, SLOT, 0, 512) == b"x" * 512


def test_a_merge_waits_for_an_attached_reader_and_says_so_in_the_log(
    model: Model, clock: ManualClock
) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    point = checkpoint(model, clock, vm.vm_id)
    handle = model.driver.open(frozen_path(model, point), "reader")
    model.driver.attach(handle)
    convert(model, clock, point)
    clock.advance(5.0)
    assert [event.event_id for event in model.nodes.events()] == [19070, 19100]
    assert len(model.disks.chain(model.disks.drives(vm.vm_id)[0].layer or 0)) == 2
    model.driver.close(handle)
    clock.advance(5.0)
    assert len(model.disks.chain(model.disks.drives(vm.vm_id)[0].layer or 0)) == 1


def test_an_attach_is_exclusive_and_never_of_the_layer_a_running_vm_writes(
    model: Model, clock: ManualClock
) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    live = model.driver.open(model.disks.layer(model.disks.drives(vm.vm_id)[0].layer or 0).path, "a")
    with pytest.raises(DiskError) as writable:
        model.driver.attach(live)
    assert writable.value.code == Win32.VHD_ONLINE_AND_WRITABLE
    path = frozen_path(model, checkpoint(model, clock, vm.vm_id))
    first, second = model.driver.open(path, "a"), model.driver.open(path, "b")
    model.driver.attach(first)
    with pytest.raises(DiskError) as owned:
        model.driver.attach(second)
    assert owned.value.code == Win32.VHD_ALREADY_OWNED
    model.driver.close_owner("a")
    model.driver.attach(second)


@pytest.mark.parametrize("seed", range(25))
def test_reported_changes_hold_every_byte_that_differs(tmp_path: Path, seed: int) -> None:
    chance, clock = random.Random(seed), ManualClock()
    model = Model(tmp_path, clock=clock, seed=seed)
    model.knobs.ranges_per_page = chance.choice([1, 7, 4096])
    model.knobs.over_report = chance.random()
    vm = model.setup.create_vm("web01")
    size = chance.randrange(2, 64) * 128 * KIB + chance.choice([0, 512, 4608])
    model.setup.add_disk(vm.vm_id, size_bytes=size)
    base: tuple[UUID, str] | None = None
    for _ in range(6):
        for _ in range(chance.randrange(12)):
            start = chance.randrange(size // 512) * 512
            length = min(chance.randrange(1, 200) * 512, size - start)
            if chance.random() < 0.2:
                model.guests.unmap(vm.vm_id, SLOT, start, length)
            else:
                model.guests.write(vm.vm_id, SLOT, start, chance.randbytes(length))
        if chance.random() < 0.3:
            checkpoint(model, clock, vm.vm_id, SnapshotType.Standard)
        elif chance.random() < 0.3 and model.checkpoints.all(vm.vm_id):
            model.checkpoints.remove(chance.choice(model.checkpoints.all(vm.vm_id)).checkpoint_id)
        clock.advance(5.0)
        point = checkpoint(model, clock, vm.vm_id)
        path = frozen_path(model, point)
        new = model.golden.at_checkpoint(point, SLOT).read_bytes()
        assert frozen_bytes(model, path) == new
        recent = model.driver.tracking_state(path)
        assert recent[0]
        assert not recent[1]
        assert recent[2]
        if base is not None:
            old = model.golden.at_checkpoint(base[0], SLOT).read_bytes()
            reported = changed(model, path, base[1])
            different = [
                Extent(at, 512) for at in range(0, size, 512) if old[at : at + 512] != new[at : at + 512]
            ]
            assert not subtract(normalise(different, size), reported)
        reference = convert(model, clock, point)
        assert [rp.rct_ids for rp in model.reference_points.all(vm.vm_id) if rp.instance_id == reference] == [
            [recent[2]]
        ]
        base = point, recent[2]
        clock.advance(5.0)
    model.close()


def test_a_disk_of_several_tebibytes_costs_nothing(model: Model, clock: ManualClock, tmp_path: Path) -> None:
    vm = model.setup.create_vm("huge")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * TIB + 512)
    model.guests.write(vm.vm_id, SLOT, 8 * TIB, b"z" * 512)
    point = checkpoint(model, clock, vm.vm_id)
    path = frozen_path(model, point)
    model.guests.write(vm.vm_id, SLOT, 3 * TIB, b"y" * 4096)
    model.guests.unmap(vm.vm_id, SLOT, 0, 2 * TIB)
    first = model.driver.tracking_state(path)[2]
    assert first
    convert(model, clock, point)
    clock.advance(5.0)
    second = checkpoint(model, clock, vm.vm_id)
    ranges = changed(model, frozen_path(model, second), first)
    assert not subtract([Extent(0, 2 * TIB), Extent(3 * TIB, 4096)], ranges)
    assert sum(extent.length for extent in ranges) < 3 * TIB
    used = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*.raw"))
    assert used < 4 * MIB


def test_unknown_ids_and_untracked_disks_are_refused_with_their_codes(
    model: Model, clock: ManualClock
) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    path = model.disks.layer(model.disks.drives(vm.vm_id)[0].layer or 0).path
    with pytest.raises(DiskError) as disabled:
        model.driver.query_changes(path, "rctX:never", 0, 8 * MIB)
    assert disabled.value.code == Win32.VHD_TRACKING_DISABLED
    checkpoint(model, clock, vm.vm_id)
    with pytest.raises(DiskError) as unknown:
        model.driver.query_changes(path, "rctX:never", 0, 8 * MIB)
    assert unknown.value.code == Win32.VHD_INVALID_TRACKING_ID


def test_ids_of_an_abandoned_branch_are_unknown_after_an_apply(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    user = checkpoint(model, clock, vm.vm_id, SnapshotType.Standard)
    model.guests.write(vm.vm_id, SLOT, 0, b"a" * 512)
    point = checkpoint(model, clock, vm.vm_id)
    base = model.driver.tracking_state(frozen_path(model, point))[2]
    assert base
    convert(model, clock, point)
    clock.advance(5.0)
    model.checkpoints.apply(user)
    clock.advance(5.0)
    assert model.guests.read(vm.vm_id, SLOT, 0, 512) == bytes(512)
    again = checkpoint(model, clock, vm.vm_id)
    assert (
        frozen_bytes(model, frozen_path(model, again)) == model.golden.at_checkpoint(again, SLOT).read_bytes()
    )
    with pytest.raises(DiskError) as unknown:
        model.driver.query_changes(frozen_path(model, again), base, 0, 8 * MIB)
    assert unknown.value.code == Win32.VHD_INVALID_TRACKING_ID


def test_a_second_job_on_a_busy_vm_is_refused(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    model.checkpoints.create(vm.vm_id)
    with pytest.raises(HyperVError) as busy:
        model.checkpoints.create(vm.vm_id)
    assert busy.value.code == Wmi.INVALID_STATE


def test_a_job_vanishes_after_its_time_and_a_checkpoint_shows_late(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    model.knobs.visibility_seconds = 3.0
    job = model.checkpoints.create(vm.vm_id)
    clock.advance(1.0)
    assert model.jobs.get(job.job_id).done
    assert model.checkpoints.all(vm.vm_id) == ()
    assert len(model.checkpoints.all(vm.vm_id, hidden=True)) == 1
    clock.advance(3.0)
    assert len(model.checkpoints.all(vm.vm_id)) == 1
    clock.advance(300.0)
    with pytest.raises(HyperVError):
        model.jobs.get(job.job_id)


def test_the_name_of_a_checkpoint_has_at_most_100_characters(model: Model, clock: ManualClock) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    with pytest.raises(HyperVError) as refused:
        model.checkpoints.create(vm.vm_id, name="x" * 101)
    assert (refused.value.identifier, refused.value.hresult) == ("InvalidParameter", 0x80070057)
    point = checkpoint(model, clock, vm.vm_id)
    model.checkpoints.rename(point, "x" * 100)
    with pytest.raises(HyperVError):
        model.checkpoints.rename(point, "y" * 101)
    assert model.checkpoints.get(point).name == "x" * 100


def test_a_newer_image_arrives_as_writes_of_what_differs_only(model: Model, tmp_path: Path) -> None:
    vm = model.setup.create_vm("web01")
    old = bytearray(random.Random(3).randbytes(4 * MIB) + bytes(4 * MIB))
    (tmp_path / "old.raw").write_bytes(old)
    model.setup.add_disk(vm.vm_id, image=tmp_path / "old.raw")
    old[5000:5010] = b"0123456789"
    old[6 * MIB : 6 * MIB + 4] = b"last"
    (tmp_path / "new.raw").write_bytes(old)
    assert model.guests.apply_image(vm.vm_id, SLOT, tmp_path / "new.raw") == 2 * 4096
    assert model.guests.read(vm.vm_id, SLOT, 0, 8 * MIB) == bytes(old)
    assert model.golden.live(vm.vm_id, SLOT).read_bytes() == bytes(old)
    assert model.guests.apply_image(vm.vm_id, SLOT, tmp_path / "new.raw") == 0


def test_a_world_is_taken_up_again_where_it_was_left(tmp_path: Path) -> None:
    clock = ManualClock()
    model = Model(tmp_path / "w", clock=clock, seed=1)
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    point = checkpoint(model, clock, vm.vm_id)
    model.guests.write(vm.vm_id, SLOT, 0, b"a" * 512)
    path = frozen_path(model, point)
    model.close()
    again = Model(tmp_path / "w", clock=clock)
    assert again.vms.get(vm.vm_id) == vm
    assert frozen_path(again, point) == path
    assert again.guests.read(vm.vm_id, SLOT, 0, 512) == b"a" * 512
    convert(again, clock, point)
    clock.advance(5.0)
    assert again.guests.read(vm.vm_id, SLOT, 0, 512) == b"a" * 512
    again.close()


def test_a_world_that_saves_on_change_survives_a_kill_at_any_structural_step(tmp_path: Path) -> None:
    clock = ManualClock()
    model = Model(tmp_path / "w", clock=clock, seed=1)
    model.save_on_change()
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    model.guests.write(vm.vm_id, SLOT, 0, b"a" * 512)
    model.save()
    point = checkpoint(model, clock, vm.vm_id)
    kept = model.golden.at_checkpoint(point, SLOT).read_bytes()
    # No close, no save: the process was killed here. The child it had made is in the state file.
    again = Model(tmp_path / "w", clock=clock)
    assert frozen_bytes(again, frozen_path(again, point)) == kept
    convert(again, clock, point)
    clock.advance(5.0)
    again.jobs.all()
    assert len(again.disks.chain(again.disks.drives(vm.vm_id)[0].layer or 0)) == 1
    (tmp_path / "w" / "disks" / "999.raw").write_bytes(b"left over")
    again.close()
    third = Model(tmp_path / "w", clock=clock)
    assert third.guests.read(vm.vm_id, SLOT, 0, 512) == b"a" * 512
    assert not (tmp_path / "w" / "disks" / "999.raw").exists()
    third.close()


def test_a_moment_stands_still_and_a_merged_layer_is_found_where_it_went(
    model: Model, clock: ManualClock
) -> None:
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, size_bytes=8 * MIB)
    convert(model, clock, checkpoint(model, clock, vm.vm_id))
    model.jobs.all()
    model.knobs.merge_seconds = 50.0
    convert(model, clock, checkpoint(model, clock, vm.vm_id))
    child = model.disks.drives(vm.vm_id)[0].layer
    assert child is not None
    with model.timeline.hold():
        clock.advance(100.0)
        assert model.vms.status(vm.vm_id) == (2, 32772)
        assert len(model.disks.chain(child)) == 2
    assert model.vms.status(vm.vm_id) == (2,)
    assert model.disks.layer(child).parent is None
    assert model.disks.layer(child).number == model.disks.drives(vm.vm_id)[0].layer
