"""Restoring into the disks of a VM: what is written, what stays, what is refused, the next backup."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, DiskDamaged, ExitCode
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.sim.model import ControllerType, HyperVError, Slot, SnapshotType, VhdFormat, VhdType, VMState
from hvpsbridge.sim.model.enums import ReplicationMode
from hvpsbridge.tasks.cleanup.restores import sweep_restores
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.host_check import Reached
from hvpsbridge.tasks.host_facts import examine_host
from hvpsbridge.tasks.host_records import HostRecords
from hvpsbridge.tasks.restore.in_place import InPlaceVm
from hvpsbridge.tasks.restore.in_place_checks import InPlaceOptions
from hvpsbridge.tasks.restore.in_place_disk import HostDisk
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place
from hvpsbridge.tasks.restore.results import RestoreResult, lines
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.tasks.restore.undo import forget_in_place, undo_in_place
from hvpsbridge.units import KIB, MIB
from tests.tasks.world import SIZE, SLOT, Died, World

SECOND = Slot(ControllerType.SCSI, 0, 1)
IDE = Slot(ControllerType.IDE, 0, 0)


def replaced(
    world: World,
    host: HyperVHost,
    vm_id: UUID,
    point: str = "latest",
    disk: int | None = None,
    skip_damaged: bool = False,
    **options: bool,
) -> RestoreResult:
    target = InPlaceVm(host, world.repository, uuid4(), InPlaceOptions(**options))
    wanted = RestoreOptions(to="raw:/unused", point=point, disk=disk, skip_damaged=skip_damaged)
    return restore_vm(world.context(VmRef("HV01", vm_id, "web")), wanted, target)


def content(world: World, vm_id: UUID, slot: Slot = SLOT) -> bytes:
    return world.model.golden.live(vm_id, slot).read_bytes()


def switch_off(world: World, vm_id: UUID) -> None:
    world.model.vms.set_state(vm_id, "stop")


def test_only_what_differs_is_written_and_the_next_backup_compares(
    world: World, host: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id)
    before = content(world, vm_id), content(world, vm_id, SECOND)
    world.model.guests.write(vm_id, SLOT, 3 * MIB, b"x" * 100 * KIB)
    world.good_backup(vm_id)
    world.churn(vm_id, SECOND)
    switch_off(world, vm_id)
    drives, definition = world.model.disks.drives(vm_id), json.loads(host.definition(vm_id).json)
    sent: list[int] = []
    write = FileWriter.write
    monkeypatch.setattr(
        FileWriter, "write", lambda self, offset, data: (sent.append(len(data)), write(self, offset, data))
    )
    result = replaced(world, host, vm_id, "latest~1")
    assert result.error is None, result.error
    assert (content(world, vm_id), content(world, vm_id, SECOND)) == before
    assert 100 * KIB <= sum(sent) < 2 * MIB
    assert world.model.disks.drives(vm_id) == drives
    after = json.loads(host.definition(vm_id).json)
    for section in ("disks", "firmware", "scsi_controllers"):
        assert after[section] == definition[section]
    assert [world.model.disks.layer(drive.layer).vm_path for drive in drives] == [None, None]  # type: ignore[arg-type]
    assert not any(world.model.disks.layer(drive.layer).beside for drive in drives)  # type: ignore[arg-type]
    assert world.model.reference_points.all(vm_id) == ()
    assert not world.model.driver.attached()
    (kept,) = open_in_place(world.repository, "HV01")
    assert kept.kept
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    last = world.repository.catalog.points(vm_id)[-1]
    first = world.repository.catalog.points(vm_id)[0]
    for disk in last.disks:
        assert (disk.mode, disk.reason, disk.base) == ("compare", "restored", first.point_id)
        assert disk.stats.changed_bytes == 0
    world.assert_points_equal(vm_id)
    world.churn(vm_id)
    world.churn(vm_id, SECOND)
    world.good_backup(vm_id)
    newest = world.repository.catalog.points(vm_id)[-1]
    assert [disk.mode for disk in newest.disks] == ["incremental", "incremental"]
    assert world.model.vms.get(vm_id).state is VMState.Running


def test_an_undo_puts_back_what_the_disk_was(world: World, host: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    switch_off(world, vm_id)
    was = content(world, vm_id)
    assert replaced(world, host, vm_id, "latest~1").error is None
    assert content(world, vm_id) != was
    world.model.vms.set_state(vm_id, "start")
    world.churn(vm_id)
    world.good_backup(vm_id)
    switch_off(world, vm_id)
    lines = undo(world, host, vm_id)
    assert "disks scsi 0:0 are what they were" in lines[-1]
    assert content(world, vm_id) == was
    assert list(open_in_place(world.repository, "HV01")) == []
    with pytest.raises(ConfigurationError, match="no restore into VM web is known"):
        undo(world, host, vm_id)
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    last = world.repository.catalog.points(vm_id)[-1]
    assert [(disk.mode, disk.reason) for disk in last.disks] == [("compare", "restored")]
    world.assert_points_equal(vm_id)


def undo(world: World, host: HyperVHost, vm_id: UUID) -> tuple[str, ...]:
    vm = host.vm(vm_id)
    return undo_in_place(host, world.repository, uuid4(), vm, lambda seconds: True)


def test_copies_are_kept_until_they_are_forgotten(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.churn(vm_id)
    switch_off(world, vm_id)
    assert replaced(world, builtin, vm_id).error is None
    (kept,) = open_in_place(world.repository, "HV01")
    (disk,) = kept.restore.disks
    assert sweep_restores(builtin, world.repository, "HV01").done == ()
    assert builtin.restoring.folder(None, [disk.undo]).found == (disk.undo,)
    again = replaced(world, builtin, vm_id).error
    assert "the copies of an earlier restore are kept" in str(again)
    forgotten = forget_in_place(builtin, world.repository, uuid4(), builtin.vm(vm_id))
    assert forgotten.done == (f"removed {disk.undo}",)
    assert builtin.restoring.folder(None, [disk.undo]).found == ()
    assert replaced(world, builtin, vm_id).error is None


def test_what_is_in_the_way_is_named_before_anything_is_changed(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id)
    was = content(world, vm_id)
    world.churn(vm_id)

    def refused(**options: bool) -> str:
        error = replaced(world, builtin, vm_id, **options).error
        assert isinstance(error, ConfigurationError)
        assert list(open_in_place(world.repository, "HV01")) == []
        return str(error)

    assert "the VM is running; shut it down first" in refused()
    world.model.setup.change_vm(vm_id, replication_mode=ReplicationMode.Primary)
    job = world.model.jobs.wait(
        world.model.checkpoints.create(vm_id, name="by hand", kind=SnapshotType.Standard)
    )
    assert not job.error_code
    switch_off(world, vm_id)
    text = refused()
    assert "Hyper-V Replica" in text
    assert "checkpoints ('by hand')" in text
    assert "disk scsi 0:0 has a parent file" in text
    assert content(world, vm_id) != was


def test_a_larger_disk_or_one_that_is_not_there_is_refused(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE, SIZE))
    world.good_backup(vm_id)
    switch_off(world, vm_id)
    world.model.setup.resize_disk(vm_id, SLOT, 2 * SIZE)
    world.model.setup.remove_disk(vm_id, SECOND)
    text = str(replaced(world, builtin, vm_id).error)
    assert f"disk scsi 0:0 has {2 * SIZE} bytes, and {SIZE} in the point" in text
    assert "never made smaller: restore it as a copy (--to hyperv:HOST without --replace)" in text
    assert "disk scsi 0:1 is not in the VM" in text
    assert replaced(world, builtin, vm_id, disk=2).error is None


def test_a_smaller_disk_is_enlarged_and_an_undo_makes_it_as_it_was(world: World, host: HyperVHost) -> None:
    vm_id = world.vm()
    small = content(world, vm_id)
    switch_off(world, vm_id)
    world.model.setup.resize_disk(vm_id, SLOT, SIZE + 3 * MIB)
    world.model.vms.set_state(vm_id, "start")
    world.model.guests.write(vm_id, SLOT, SIZE + MIB, b"z" * MIB)
    world.good_backup(vm_id)
    large = content(world, vm_id)
    switch_off(world, vm_id)
    world.model.setup.resize_disk(vm_id, SLOT, SIZE)
    assert content(world, vm_id) == small
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    assert content(world, vm_id) == large
    undo(world, host, vm_id)
    assert content(world, vm_id) == small
    assert host.disks(vm_id)[0].size_bytes == SIZE
    assert replaced(world, host, vm_id).error is None
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def test_a_restore_that_enlarged_a_disk_is_not_finished_with_a_smaller_point(
    world: World, builtin: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    was = content(world, vm_id)
    switch_off(world, vm_id)
    world.model.setup.resize_disk(vm_id, SLOT, 2 * SIZE)
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    switch_off(world, vm_id)
    world.model.setup.resize_disk(vm_id, SLOT, SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(FileWriter, "_start", lambda writer: (_ for _ in ()).throw(Died))
        patch.setattr(HostDisk, "show", lambda disk: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            replaced(world, builtin, vm_id)
    error = replaced(world, builtin, vm_id, "latest~1").error
    assert "disk scsi 0:0 is larger than in this point; use `hvps host undo`" in str(error)
    undo(world, builtin, vm_id)
    assert content(world, vm_id) == was


@pytest.mark.parametrize("kind", [VhdType.Dynamic, VhdType.Fixed])
def test_vhd_files_are_written_in_place(world: World, host: HyperVHost, kind: VhdType) -> None:
    vm_id = world.vm(disks=(), generation=1)
    world.model.setup.add_disk(vm_id, IDE, size_bytes=SIZE, format=VhdFormat.VHD, kind=kind)
    world.churn(vm_id, IDE)
    assert world.backup(vm_id).error is None
    was = content(world, vm_id, IDE)
    world.churn(vm_id, IDE)
    switch_off(world, vm_id)
    changed = content(world, vm_id, IDE)
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    assert content(world, vm_id, IDE) == was
    assert any(".before-restore.vhd" in note for note in result.notes)
    undo(world, host, vm_id)
    assert content(world, vm_id, IDE) == changed
    world.model.vms.set_state(vm_id, "start")


def test_where_the_point_is_damaged_the_disk_keeps_what_it_has(world: World, host: HyperVHost) -> None:
    vm_id = world.vm(disks=(SIZE,))
    chunk = 64 * KIB
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(8 * chunk))
    world.good_backup(vm_id)
    was = content(world, vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    ids = dict(world.repository.image(point, point.disks[0]).chunk_ids())
    world.damage(Kind.DATA_PACK, ids[2])
    world.damage(Kind.DATA_PACK, ids[6])
    world.model.guests.write(vm_id, SLOT, chunk, world.chance.randbytes(4 * chunk))
    switch_off(world, vm_id)
    old = content(world, vm_id)
    result = replaced(world, host, vm_id, skip_damaged=True)
    assert result.error is None, result.error
    (condition,) = result.conditions
    assert condition.code is ExitCode.DAMAGE
    assert "1 ranges, 64 KiB, could not be restored and have the content from before" in str(condition)
    (disk,) = result.disks
    # Chunk 6 is on the disk as it was: nothing of it had to be read.
    assert [(one.offset, one.length) for one in disk.damaged] == [(2 * chunk, chunk)]
    assert disk.damaged_kept
    (line,) = [line for line in lines(result.section, planned=False) if "damaged" in line]
    assert line.startswith(f"disk scsi 0:0: bytes {2 * chunk} to {3 * chunk - 1} are damaged, and as before")
    restored = content(world, vm_id)
    assert restored[: 2 * chunk] == was[: 2 * chunk]
    assert restored[2 * chunk : 3 * chunk] == old[2 * chunk : 3 * chunk]
    assert restored[3 * chunk :] == was[3 * chunk :]
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    last = world.repository.catalog.points(vm_id)[-1]
    assert dict(world.repository.image(last, last.disks[0]).chunk_ids())[2] != ids[2]


def test_a_part_of_the_tree_that_is_damaged_stays_as_it_is(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(disks=(32 * MIB,))
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(MIB))
    world.model.guests.write(vm_id, SLOT, 20 * MIB, world.chance.randbytes(MIB))
    world.good_backup(vm_id)
    was = content(world, vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    tree = world.repository.image(point, point.disks[0])._tree
    world.damage(Kind.NODE_PACK, tree.node_id(1, 0))
    for at in (0, 20 * MIB):
        world.model.guests.write(vm_id, SLOT, at, world.chance.randbytes(MIB))
    switch_off(world, vm_id)
    old = content(world, vm_id)
    assert isinstance(replaced(world, builtin, vm_id).error, DiskDamaged)
    assert content(world, vm_id) == old
    assert list(open_in_place(world.repository, "HV01")) == []
    result = replaced(world, builtin, vm_id, skip_damaged=True)
    assert result.error is None, result.error
    assert [(one.offset, one.length) for one in result.disks[0].damaged] == [(0, 16 * MIB)]
    assert content(world, vm_id) == old[: 16 * MIB] + was[16 * MIB :]


def test_damage_without_the_option_leaves_a_vm_that_cannot_start(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(MIB))
    world.good_backup(vm_id)
    was = content(world, vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    ids = dict(world.repository.image(point, point.disks[0]).chunk_ids())
    world.damage(Kind.DATA_PACK, ids[2])
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(MIB))
    switch_off(world, vm_id)
    error = replaced(world, builtin, vm_id).error
    assert isinstance(error, DiskDamaged)
    with pytest.raises(HyperVError):
        world.model.vms.set_state(vm_id, "start")
    assert replaced(world, builtin, vm_id, skip_damaged=True).error is None
    restored = content(world, vm_id)
    assert restored[: 2 * 64 * KIB] == was[: 2 * 64 * KIB]
    assert restored[3 * 64 * KIB :] == was[3 * 64 * KIB :]
    world.model.vms.set_state(vm_id, "start")


def test_no_space_for_the_copy_is_found_before(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    switch_off(world, vm_id)
    world.model.setup.add_volume("C:\\", 20 * MIB, 6 * MIB)
    text = str(replaced(world, builtin, vm_id).error)
    assert "a copy for an undo and the restored data need" in text
    assert list(open_in_place(world.repository, "HV01")) == []


def test_reference_points_of_others_are_named(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="other"))
    world.model.jobs.wait(world.model.checkpoints.convert(UUID(made.results["checkpoint"])))
    (other,) = world.model.reference_points.all(vm_id)
    world.backup(vm_id)
    switch_off(world, vm_id)
    result = replaced(world, builtin, vm_id)
    assert result.error is None, result.error
    assert [one.instance_id for one in world.model.reference_points.all(vm_id)] == [other.instance_id]
    assert any("other products have reference points" in note for note in result.notes)


def test_a_lost_connection_goes_on_inside_the_disk(
    world: World, builtin: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    was = content(world, vm_id)
    world.model.guests.write(vm_id, SLOT, 0, b"y" * 4 * MIB)
    switch_off(world, vm_id)
    write, calls = FileWriter.write, 0

    def failing(writer: FileWriter, offset: int, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            builtin.end_shell(builtin.shell_id)
        write(writer, offset, data)

    monkeypatch.setattr(FileWriter, "write", failing)
    assert replaced(world, builtin, vm_id).error is None
    assert calls > 3
    assert content(world, vm_id) == was


def test_the_host_check_says_that_a_restore_did_not_end(
    world: World, host: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    was = content(world, vm_id)
    world.churn(vm_id)
    switch_off(world, vm_id)
    with monkeypatch.context() as patch:
        patch.setattr(HostDisk, "write", lambda disk, source: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            replaced(world, host, vm_id)
    with pytest.raises(HyperVError):
        world.model.vms.set_state(vm_id, "start")
    reached = Reached(
        server="hv",
        port=5986,
        tls=True,
        auth="basic",
        user="u",
        certificate_days=9,
        pinned=True,
        insecure=False,
    )
    found = examine_host(host, reached, HostRecords(world.folder / "records"))
    (checked,) = found.vms
    assert any(
        "a restore into disk scsi 0:0 is at work or did not end" in one.text for one in checked.findings
    )
    assert world.backup(vm_id).error is not None
    assert replaced(world, host, vm_id).error is None
    assert content(world, vm_id) == was
    world.model.vms.set_state(vm_id, "start")


def test_a_saved_state_and_checkpoints_go_only_if_the_options_say_so(world: World, host: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    was = content(world, vm_id)
    for name in ("by hand", "by hand"):
        job = world.model.jobs.wait(
            world.model.checkpoints.create(vm_id, name=name, kind=SnapshotType.Standard)
        )
        assert not job.error_code
        world.churn(vm_id)
    world.model.vms.set_state(vm_id, "save")
    text = str(replaced(world, host, vm_id).error)
    assert "saved; shut it down, or use --discard-saved-state" in text
    assert "remove them, or use --remove-checkpoints" in text
    assert "--discard" in str(replaced(world, host, vm_id, remove_checkpoints=True).error)
    assert len(world.model.checkpoints.all(vm_id)) == 2
    result = replaced(world, host, vm_id, remove_checkpoints=True, discard_saved_state=True)
    assert result.error is None, result.error
    assert "checkpoint 'by hand' was removed" in result.notes
    assert world.model.checkpoints.all(vm_id) == ()
    assert content(world, vm_id) == was
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)
