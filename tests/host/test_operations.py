"""Every operation in the real engine over real WSMan: results, ids of errors, retries."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.results import (
    CheckpointKind,
    Consistency,
    ControllerType,
    DiskFormat,
    DiskKind,
    ReferencePointKind,
    VmState,
)
from hvpsbridge.errors import (
    CheckpointNotFound,
    CommitForkFailed,
    ConsistencyNotReached,
    FileLocked,
    HostDiskFull,
    HostError,
    OperationFailed,
    ProtocolViolation,
    TrackingUnusable,
    VmBusy,
    VmNotFound,
)
from hvpsbridge.formats.extents import Extent, subtract
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.model import ControllerType as SimController
from hvpsbridge.sim.model import HyperVError, Model, Slot, Wmi
from hvpsbridge.units import KIB, MIB
from tests.waiting import wait_until

NAME = "hvps [mark] $(x) 'until' 2026"
BOOT = Slot(SimController.SCSI, 0, 0)
DATA = Slot(SimController.SCSI, 1, 3)
SIZE = 6 * MIB


@pytest.fixture
def vm_id(model: Model) -> UUID:
    """A running VM with two disks and an unusual name."""
    vm = model.setup.create_vm(f"sql[1]* {uuid4()}")
    for slot in (BOOT, DATA):
        model.setup.add_disk(vm.vm_id, slot, size_bytes=SIZE)
        model.guests.write(vm.vm_id, slot, MIB, random.Random(str(slot)).randbytes(64 * KIB))
    return vm.vm_id


@contextmanager
def fault(model: Model, name: str, count: int = 1) -> Iterator[None]:
    model.faults.arm(name, count)
    try:
        yield
    finally:
        model.faults.arm(name, 0)


@contextmanager
def knob(model: Model, name: str, value: object) -> Iterator[None]:
    before = getattr(model.knobs, name)
    model.set_knob(name, value)
    try:
        yield
    finally:
        model.set_knob(name, before)


def settle(host: HyperVHost, vm_id: UUID) -> None:
    """Wait until the VM has no merge."""
    wait_until(lambda: not host.merge_state(vm_id).merging)


# -- queries -----------------------------------------------------------------------------------------


def test_the_host_and_its_process_are_described(host: HyperVHost, model: Model) -> None:
    info = host.host_info()
    assert info.name == model.nodes.get().name
    assert info.machine_id == model.nodes.get().machine_id
    assert info.is_64bit
    assert info.is_administrator
    assert info.language_mode == "FullLanguage"
    assert abs(info.time - datetime.now(UTC)) < timedelta(minutes=1)
    assert info.boot_time < info.process_started < datetime.now(UTC)
    assert host.host_info().process_id == info.process_id


def test_the_reader_compiles_and_its_library_answers(host: HyperVHost) -> None:
    check = host.check_reader()
    assert check.compiled
    assert 0 <= check.seconds < 60


def test_vms_are_found_by_id_whatever_their_name(host: HyperVHost, model: Model, vm_id: UUID) -> None:
    vm = host.vm(vm_id)
    assert (vm.vm_id, vm.name, vm.state) == (vm_id, model.vms.get(vm_id).name, VmState.RUNNING)
    assert vm.merge_enabled
    assert vm.commit_fork_events is None
    assert host.vm(vm_id, read_events=True).commit_fork_events == 0
    assert vm.vm_id in {other.vm_id for other in host.list_vms()[0]}


@pytest.mark.parametrize(
    "call",
    [
        lambda host, missing: host.vm(missing),
        lambda host, missing: host.disks(missing),
        lambda host, missing: host.volumes(missing),
        lambda host, missing: host.definition(missing),
        lambda host, missing: host.checkpoints(missing),
        lambda host, missing: host.reference_points(missing),
        lambda host, missing: host.jobs(missing),
        lambda host, missing: host.merge_state(missing),
        lambda host, missing: host.frozen_disks(missing, missing),
        lambda host, missing: list(host.configuration(missing, missing)),
        lambda host, missing: host.create_checkpoint(missing, "x", Consistency.CRASH),
        lambda host, missing: host.convert(missing, missing),
    ],
)
def test_a_vm_that_is_not_there_is_said_so_by_every_operation(host: HyperVHost, call) -> None:
    with pytest.raises(VmNotFound) as caught:
        call(host, UUID(int=7))
    assert (caught.value.error_id, caught.value.category) == ("Hvps.VmNotFound", "ObjectNotFound")


def test_removing_from_a_vm_that_is_gone_finds_nothing_to_remove(host: HyperVHost) -> None:
    assert not host.remove_checkpoint(UUID(int=7), UUID(int=8), NAME).removed
    assert not host.remove_reference_point(UUID(int=7), "Microsoft:x", ()).removed


def test_disks_tell_slot_chain_and_identity(host: HyperVHost, model: Model, vm_id: UUID) -> None:
    model.setup.add_empty_drive(vm_id, Slot(SimController.SCSI, 0, 5))
    model.setup.add_pass_through(vm_id, Slot(SimController.SCSI, 0, 6), 2)
    disks = {(d.controller_number, d.controller_location): d for d in host.disks(vm_id)}
    assert sorted(disks) == [(0, 0), (0, 5), (0, 6), (1, 3)]
    data = disks[1, 3]
    layer = model.disks.chain(model.vms.get(vm_id).drives[str(DATA)].layer)[0]
    assert (data.controller_type, data.format, data.kind) == (
        ControllerType.SCSI,
        DiskFormat.VHDX,
        DiskKind.DYNAMIC,
    )
    assert (data.path, data.chain, data.size_bytes, data.disk_id) == (
        layer.path,
        (layer.path,),
        SIZE,
        layer.disk_id,
    )
    assert data.instance_id
    assert data.error is None
    assert (disks[0, 5].path, disks[0, 5].pass_through, disks[0, 5].instance_id) == (None, False, None)
    assert disks[0, 6].pass_through
    assert disks[0, 6].path is None


def test_volumes_say_what_is_free(host: HyperVHost, vm_id: UUID) -> None:
    (volume,) = host.volumes(vm_id)
    assert volume.root == "C:\\"
    assert 0 < volume.free_bytes < volume.total_bytes


def test_the_definition_holds_what_a_rebuild_needs(host: HyperVHost, model: Model, vm_id: UUID) -> None:
    definition = json.loads(host.definition(vm_id).json)
    assert definition["vm"]["Id"] == str(vm_id)
    assert definition["vm"]["Name"] == model.vms.get(vm_id).name
    slots = {(d["ControllerNumber"], d["ControllerLocation"]): d for d in definition["disks"]}
    assert slots[1, 3]["Vhd"]["Size"] == SIZE
    assert definition["processor"]["Count"] == model.vms.get(vm_id).processor_count
    for part in ("memory", "firmware", "network", "security", "integration_services", "dvd"):
        assert part in definition


# -- the cycle ------------------------------------------------------------------------------------------


def test_a_checkpoint_is_made_marked_read_converted_and_retired(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    made = host.create_checkpoint(vm_id, NAME, Consistency.APPLICATION)
    assert (made.name, made.kind) == (NAME, CheckpointKind.RECOVERY)
    assert len(made.disk_paths) == 2
    assert [c.checkpoint_id for c in host.checkpoints(vm_id)] == [made.checkpoint_id]

    frozen = host.frozen_disks(vm_id, made.checkpoint_id)
    assert {disk.path for disk in frozen} == set(made.disk_paths)
    for disk in frozen:
        assert disk.tracking_enabled
        assert disk.rct_id
        assert disk.size_bytes == SIZE
        assert disk.chain[0] == disk.path

    files: dict[str, bytes] = {}
    for piece in host.configuration(vm_id, made.checkpoint_id):
        files[piece.name] = files.get(piece.name, b"") + (piece.data or b"")
    assert {name.rsplit(".", 1)[1] for name in files} == {"vmcx", "vmrs", "vmgs"}
    assert all(files.values())

    point = host.convert(vm_id, made.checkpoint_id)
    assert point.kind is ReferencePointKind.RCT
    assert set(point.rct_ids) == {disk.rct_id for disk in frozen}
    assert set(point.disk_instance_ids) == {disk.instance_id for disk in host.disks(vm_id)}
    assert host.checkpoints(vm_id) == ()
    assert host.reference_points(vm_id) == (point,)

    settle(host, vm_id)
    assert {path.rsplit(".", 1)[1] for path in host.merge_state(vm_id).chain_paths} == {"vhdx"}

    model.guests.write(vm_id, DATA, 2 * MIB, bytes(range(256)) * 16)
    second = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    disk = next(d for d in host.frozen_disks(vm_id, second.checkpoint_id) if d.controller_number == 1)
    base = next(d.rct_id for d in frozen if d.controller_number == 1)
    assert base
    tracking = host.tracking(disk.path)
    assert (tracking.size_bytes, tracking.logical_sector_bytes) == (SIZE, disk.logical_sector_bytes)
    assert (tracking.rct_id, tracking.tracking_code) == (disk.rct_id, 0)
    assert subtract((Extent(2 * MIB, 4096),), host.changes(disk.path, base, SIZE)) == ()
    assert [handle.path for handle in model.driver.attached()] == [disk.path]
    assert host.close_readers(disk.path).open_paths == ()
    assert not model.driver.attached()

    assert host.remove_checkpoint(vm_id, second.checkpoint_id, NAME).removed
    assert not host.remove_checkpoint(vm_id, second.checkpoint_id, NAME).removed
    assert host.remove_reference_point(vm_id, point.instance_id, point.rct_ids).removed
    assert not host.remove_reference_point(vm_id, point.instance_id, point.rct_ids).removed
    assert host.reference_points(vm_id) == ()
    settle(host, vm_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [("jobs_at_once", True), ("visibility_seconds", 1.5), ("language", "de")],
)
def test_the_cycle_holds_however_the_host_reports_its_jobs(
    host: HyperVHost, model: Model, vm_id: UUID, name: str, value: object
) -> None:
    with knob(model, name, value):
        made = host.create_checkpoint(vm_id, NAME, Consistency.APPLICATION)
        assert made.name == NAME
        point = host.convert(vm_id, made.checkpoint_id)
        assert [p.instance_id for p in host.reference_points(vm_id)] == [point.instance_id]
        settle(host, vm_id)  # a merge that still goes on would refuse the next checkpoint as busy
        again = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
        assert host.remove_checkpoint(vm_id, again.checkpoint_id, NAME).removed
        assert host.remove_reference_point(vm_id, point.instance_id, point.rct_ids).removed
        settle(host, vm_id)
    assert host.jobs(vm_id) == ()


def test_what_a_job_made_is_not_guessed_when_the_job_is_gone(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    """The only new checkpoint, or reference point, may be another product's."""
    with knob(model, "job_vanishes", True):
        with pytest.raises(OperationFailed, match="its job was gone"):
            host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
        (unnamed,) = model.checkpoints.all(vm_id, hidden=True)
        assert unnamed.name != NAME
        with pytest.raises(OperationFailed, match="its job was gone"):
            host.convert(vm_id, unnamed.checkpoint_id)
    (made,) = host.reference_points(vm_id)
    settle(host, vm_id)
    assert host.remove_reference_point(vm_id, made.instance_id, made.rct_ids).removed
    settle(host, vm_id)


def test_a_reference_point_without_the_expected_ids_is_destroyed_at_once(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    checkpoint = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    made = host.convert(vm_id, checkpoint.checkpoint_id, rct_ids=["rctX:other"])
    assert "rctX:other" not in made.rct_ids
    assert host.reference_points(vm_id) == ()
    settle(host, vm_id)
    checkpoint = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    ids = [disk.rct_id for disk in host.frozen_disks(vm_id, checkpoint.checkpoint_id) if disk.rct_id]
    kept = host.convert(vm_id, checkpoint.checkpoint_id, rct_ids=ids)
    assert host.reference_points(vm_id) == (kept,)
    settle(host, vm_id)
    with pytest.raises(OperationFailed, match="expected RCT ids"):
        host.remove_reference_point(vm_id, kept.instance_id, [*ids, "rctX:other"])
    assert host.remove_reference_point(vm_id, kept.instance_id, ids).removed
    settle(host, vm_id)


def test_a_checkpoint_that_cannot_be_named_says_why(
    host: HyperVHost, model: Model, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise HyperVError(Wmi.INVALID_PARAMETER, "the name is too long")

    monkeypatch.setattr(type(model.checkpoints), "rename", refuse)
    made = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    assert made.name != NAME
    assert made.name_error is not None
    assert "32773" in made.name_error
    assert "the name is too long" in made.name_error
    host.remove_checkpoint(vm_id, made.checkpoint_id, made.name)
    settle(host, vm_id)


def test_a_name_that_the_host_takes_and_does_not_show_is_an_error_of_the_name(
    host: HyperVHost, model: Model, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model.checkpoints), "rename", lambda *_: None)
    made = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    assert made.name != NAME
    assert made.name_error == "the host took the name, but does not show it"
    host.remove_checkpoint(vm_id, made.checkpoint_id, made.name)
    settle(host, vm_id)


def test_a_checkpoint_that_has_no_name_and_is_not_listed_is_removed_again(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    """Nothing would show that it is ours."""
    model.set_knob("names_refused", True)
    model.faults.arm_call("Get-VMSnapshot")
    with pytest.raises(OperationFailed):
        host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    wait_until(lambda: not model.checkpoints.all(vm_id, hidden=True))
    model.set_knob("names_refused", False)
    settle(host, vm_id)


def test_what_others_made_is_listed_as_theirs(host: HyperVHost, model: Model, vm_id: UUID) -> None:
    job = model.jobs.wait(model.checkpoints.create(vm_id, name="before the update", kind=_standard()))
    wait_until(lambda: host.checkpoints(vm_id))  # it shows a little after its job ends
    (found,) = host.checkpoints(vm_id)
    assert (found.name, found.kind) == ("before the update", CheckpointKind.STANDARD)
    assert str(found.checkpoint_id) == job.results["checkpoint"]
    vm = host.vm(vm_id)
    assert vm.parent_checkpoint_id == found.checkpoint_id


def _standard() -> object:
    from hvpsbridge.sim.model import SnapshotType

    return SnapshotType.Standard


# -- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize(
    ("name", "error", "error_id", "category"),
    [
        ("guest_backup_fails", ConsistencyNotReached, "Hvps.ConsistencyFailed", "InvalidResult"),
        ("checkpoint_busy", VmBusy, "Hvps.VmBusy", "ResourceBusy"),
        ("checkpoint_file_locked", FileLocked, "Hvps.FileLocked", "ResourceBusy"),
        ("checkpoint_no_space", HostDiskFull, "Hvps.NoSpace", "LimitsExceeded"),
        ("commit_forks", CommitForkFailed, "Hvps.CommitForkFailed", "DeviceError"),
    ],
)
def test_a_checkpoint_that_fails_says_why_in_any_language(
    host: HyperVHost,
    model: Model,
    vm_id: UUID,
    language: str,
    name: str,
    error: type[HostError],
    error_id: str,
    category: str,
) -> None:
    with knob(model, "language", language), fault(model, name), pytest.raises(error) as caught:
        host.create_checkpoint(vm_id, NAME, Consistency.APPLICATION)
    assert isinstance(caught.value, OperationFailed)
    assert (caught.value.error_id, caught.value.category) == (error_id, category)
    assert caught.value.native
    assert host.checkpoints(vm_id) == ()
    vm = host.vm(vm_id, read_events=True)
    assert vm.commit_fork_events == (1 if name == "commit_forks" else 0)


def test_a_crash_consistent_checkpoint_that_fails_is_no_matter_of_consistency(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    with fault(model, "checkpoint_fails"), pytest.raises(OperationFailed) as caught:
        host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    assert caught.value.error_id == "Hvps.JobFailed"


def test_a_conversion_without_the_logon_right_leaves_the_checkpoint(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    made = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    with fault(model, "convert_logon_right"), pytest.raises(OperationFailed) as caught:
        host.convert(vm_id, made.checkpoint_id)
    assert caught.value.error_id == "Hvps.LogonRightMissing"
    assert [c.checkpoint_id for c in host.checkpoints(vm_id)] == [made.checkpoint_id]
    with fault(model, "remove_fails"), pytest.raises(OperationFailed) as failed:
        host.remove_checkpoint(vm_id, made.checkpoint_id, made.name)
    assert failed.value.error_id == "Hvps.JobFailed"
    assert host.remove_checkpoint(vm_id, made.checkpoint_id, made.name).removed
    settle(host, vm_id)


def test_a_job_that_takes_too_long_is_left_to_itself_and_shows(
    host: HyperVHost, model: Model, vm_id: UUID
) -> None:
    with knob(model, "job_seconds", 1e6):
        with pytest.raises(OperationFailed) as caught:
            host.create_checkpoint(vm_id, NAME, Consistency.CRASH, job_seconds=1)
        assert caught.value.error_id == "Hvps.JobTimedOut"
        jobs = host.jobs(vm_id)
    assert [job.vm_id for job in jobs] == [vm_id]
    model.jobs.finish_all(vm_id)
    assert host.jobs(vm_id) == ()


def test_a_checkpoint_that_is_gone_is_said_so(host: HyperVHost, vm_id: UUID) -> None:
    for call in (host.frozen_disks, host.convert, lambda *ids: list(host.configuration(*ids))):
        with pytest.raises(CheckpointNotFound):
            call(vm_id, UUID(int=9))


@pytest.mark.parametrize(
    ("name", "error"),
    [("query_fails", TrackingUnusable), ("query_no_progress", ProtocolViolation)],
)
def test_a_change_query_that_does_not_answer_whole_is_never_no_change(
    host: HyperVHost, model: Model, vm_id: UUID, name: str, error: type[HostError]
) -> None:
    made = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    disk = host.frozen_disks(vm_id, made.checkpoint_id)[0]
    assert disk.rct_id
    with fault(model, name, 2), pytest.raises(error):
        host.changes(disk.path, disk.rct_id, SIZE)
    host.close_readers(disk.path)
    host.remove_checkpoint(vm_id, made.checkpoint_id, made.name)
    settle(host, vm_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ranges_per_page", 3), ("pages_bytes", MIB), ("unsorted_answers", True), ("range_past_end", True)],
)
def test_changes_are_whole_however_their_answer_is_paged(
    host: HyperVHost, model: Model, vm_id: UUID, name: str, value: object
) -> None:
    first = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    base = host.frozen_disks(vm_id, first.checkpoint_id)[0]
    host.convert(vm_id, first.checkpoint_id)
    settle(host, vm_id)
    written = [Extent(at, 4096) for at in range(0, SIZE, 256 * KIB)]
    for extent in (*written, Extent(SIZE - 4096, 4096)):
        model.guests.write(vm_id, BOOT, extent.offset, b"\x5a" * extent.length)
    second = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    disk = host.frozen_disks(vm_id, second.checkpoint_id)[0]
    assert base.rct_id
    with knob(model, name, value):
        changes = host.changes(disk.path, base.rct_id, SIZE)
    host.close_readers(disk.path)
    assert subtract(written, changes) == ()
    assert changes[-1].end == SIZE
    host.remove_checkpoint(vm_id, second.checkpoint_id, NAME)
    settle(host, vm_id)


def test_a_failed_read_is_an_error_and_never_data(host: HyperVHost, model: Model, vm_id: UUID) -> None:
    made = host.create_checkpoint(vm_id, NAME, Consistency.CRASH)
    path = host.frozen_disks(vm_id, made.checkpoint_id)[0].path
    for name in ("read_error", "read_short"):
        with fault(model, name), pytest.raises(OperationFailed) as caught:
            list(host.digests(path, 64 * KIB, 0, SIZE))
        assert (caught.value.error_id, caught.value.category) == ("Hvps.ReadFailed", "ReadError")
    assert host.close_readers(path).open_paths == ()
    host.remove_checkpoint(vm_id, made.checkpoint_id, made.name)
    settle(host, vm_id)


def test_every_operation_of_the_contract_is_run_here() -> None:
    """Fails for a new operation without a test in this package."""
    from pathlib import Path

    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    methods = {
        "Get-HvpsHost": "host_info",
        "Test-HvpsReader": "check_reader",
        "Get-HvpsAccess": "checks.access",
        "Test-HvpsDisk": "checks.probe_disk",
        "Read-HvpsSample": "checks.measure_rate",
        "Get-HvpsStorage": "checks.storage",
        "Get-HvpsEvent": "checks.events",
        "Get-HvpsVm": "list_vms",
        "Get-HvpsDisk": "disks",
        "Get-HvpsVolume": "volumes",
        "Get-HvpsVmDefinition": "definition",
        "Get-HvpsCheckpoint": "checkpoints",
        "Get-HvpsReferencePoint": "reference_points",
        "Get-HvpsJob": "jobs",
        "New-HvpsCheckpoint": "create_checkpoint",
        "Get-HvpsFrozenDisk": "frozen_disks",
        "Get-HvpsDiskTracking": "tracking",
        "Get-HvpsDiskChange": "changes",
        "Get-HvpsAllocation": "allocation",
        "Get-HvpsDiskDigest": "digests",
        "Read-HvpsExtent": "open_reader",
        "Close-HvpsReader": "close_readers",
        "Read-HvpsConfiguration": "configuration",
        "ConvertTo-HvpsReferencePoint": "convert",
        "Remove-HvpsCheckpoint": "remove_checkpoint",
        "Remove-HvpsReferencePoint": "remove_reference_point",
        "Get-HvpsMerge": "merge_state",
        "Get-HvpsFolder": "restoring.folder",
        "Get-HvpsSwitch": "restoring.switches",
        "New-HvpsFile": "restoring.new_file",
        "Write-HvpsFile": "restoring.open_writer",
        "Remove-HvpsSavedState": "restoring.discard_saved_state",
        "Remove-HvpsSnapshot": "restoring.remove_snapshot",
        "Write-HvpsDisk": "restoring.open_disk_writer",
        "Copy-HvpsFile": "restoring.copy_file",
        "Close-HvpsFile": "restoring.close_file",
        "Move-HvpsFile": "restoring.move_file",
        "Remove-HvpsFile": "restoring.remove_files",
        "New-HvpsVm": "restoring.new_vm",
        "Remove-HvpsVm": "restoring.remove_vm",
        "Start-HvpsVm": "restoring.start_vm",
        "Get-HvpsPlannedVm": "restoring.planned_vms",
        "New-HvpsPlannedVm": "restoring.new_planned_vm",
        "Complete-HvpsPlannedVm": "restoring.complete_planned_vm",
        "Remove-HvpsPlannedVm": "restoring.remove_planned_vm",
        "Get-HvpsHeartbeat": "restoring.heartbeat",
        "Get-HvpsClusterRole": "restoring.cluster_role",
        "Set-HvpsClusterRole": "restoring.set_cluster_role",
        "Resize-HvpsDisk": "restoring.enlarge_disk",
    }
    assert set(methods) == set(OPERATIONS)
    assert all(f"host.{method}(" in text for method in methods.values())


def test_a_second_host_object_sees_the_same_world(connection: HostConnection, vm_id: UUID) -> None:
    with HyperVHost.connect(replace(connection, name="hv01 again")) as other:
        assert other.vm(vm_id).vm_id == vm_id
