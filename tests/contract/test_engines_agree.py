"""Every operation on both engines: the scripts in a real PowerShell and the answers from Python must agree.

Two worlds are built alike, one behind each engine, and each case does the same to both. Results, error
ids, categories and codes are compared; what no two runs can have in common (times, process ids, versions
of PowerShell) is left out by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid5

import pytest
from pypsrp.serializer import TaggedValue

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.readings import FilePiece, ReaderCheck
from hvpsbridge.contract.restoring import VmMade
from hvpsbridge.contract.results import Consistency, HostInfo
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import AccessDenied
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.planned_vm import MovedDisk, planned_vm
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.formats.views.view import DiskShape
from hvpsbridge.formats.vm_devices import PlannedDisk
from hvpsbridge.formats.vm_plan import PlanOptions, vm_plan
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.model import ControllerType, HyperVError, Slot, SnapshotType, VhdFormat, VMState
from hvpsbridge.sim.model.enums import CheckpointType
from hvpsbridge.sim.standin.devices import set_adapter
from hvpsbridge.sim.standin.rows import Rows
from hvpsbridge.units import KIB, MIB
from tests.contract.sides import FIRST, NOBODY, SIZE, Side, comparable, defined, on_both, outcome
from tests.sim.planned import configuration_file, write_file
from tests.waiting import DEADLINE_SECONDS

# Cmdlets of a definition that fail by themselves.
DEFINED_BY = (
    *("Get-VMProcessor", "Get-VMMemory", "Get-VMFirmware", "Get-VMSecurity", "Get-VMKeyProtector"),
    *("Get-VMScsiController", "Get-VMHardDiskDrive", "Get-VHD", "Get-VMDvdDrive", "Get-VMNetworkAdapter"),
    *("Get-VMNetworkAdapterVlan", "Get-VMIntegrationService"),
)

Case = Callable[[Side], Any]
CASES: dict[str, tuple[tuple[str, ...], Case]] = {}


def case(*operations: str) -> Callable[[Case], Case]:
    """Register a case and the operations it covers."""

    def register(function: Case) -> Case:
        CASES[function.__name__] = (operations, function)
        return function

    return register


@contextmanager
def never_ending(side: Side, vm_id: UUID, knob: str) -> Iterator[None]:
    """Jobs or merges that end with the block and not before, so that no query is too slow to see them."""
    before = getattr(side.model.knobs, knob)
    side.model.set_knob(knob, 1e6)
    try:
        yield
    finally:
        side.model.set_knob(knob, before)
        side.model.jobs.finish_all(vm_id)


@contextmanager
def knob(side: Side, name: str, value: object) -> Iterator[HyperVHost]:
    """A knob set for the block, and a shell that began with it."""
    before = getattr(side.model.knobs, name)
    side.model.set_knob(name, value)
    try:
        with side.host.new_shell() as host:
            yield host
    finally:
        side.model.set_knob(name, before)


# -- queries -------------------------------------------------------------------------------------------


@case("Get-HvpsHost")
def host_information(side: Side) -> HostInfo:
    return side.host.host_info()


@case("Get-HvpsHost")
def a_constrained_language_mode(side: Side) -> Any:
    with knob(side, "language_mode", "ConstrainedLanguage") as host:
        return outcome(host.host_info)[0]


@case("Test-HvpsReader")
def reader_check(side: Side) -> ReaderCheck:
    return side.host.check_reader()


@case("Get-HvpsAccess")
def access(side: Side) -> Any:
    return side.host.checks.access()


@case("Get-HvpsAccess", "Get-HvpsHost")
def access_with_other_rights(side: Side) -> Any:
    found: list[Any] = []
    for rights in ("filtered", "hyperv_administrator", "user"):
        with knob(side, "rights", rights) as host:
            try:
                found.append(host.host_info().is_administrator)
            except AccessDenied as err:
                found.append(type(err).__name__)
            found.append(host.checks.access())
    return found


@case("Get-HvpsAccess")
def rules_of_defender(side: Side) -> Any:
    with knob(side, "defender", "d1e49aac-8f56-4280-b9ba-993a6d77406c=1,be9ba2d9=2") as host:
        return host.checks.access()


@case("Test-HvpsDisk")
def disks_opened_for_information(side: Side) -> Any:
    drives = side.host.disks(side.vm("probed"))
    paths = [drive.path for drive in drives if drive.path]
    return [side.host.checks.probe_disk(path) for path in (*paths, "C:\\VMs\\nothing.vhdx")]


@case("Test-HvpsDisk", "Get-HvpsStorage")
def disks_on_a_share(side: Side) -> Any:
    vm_id = side.vm("shared", folder="\\\\FS01\\VMs\\shared")
    path = side.host.disks(vm_id)[0].path
    assert path is not None
    with knob(side, "smb_without_delegation", True) as host:
        refused = host.checks.probe_disk(path)
    return refused, side.host.checks.probe_disk(path), side.host.checks.storage(vm_id)


@case("Get-HvpsStorage")
def storage_of_volumes(side: Side) -> Any:
    found: list[Any] = []
    for number, file_system in enumerate(("NTFS", "ReFS", "CSVFS", "FAT32")):
        root = f"C:\\ClusterStorage\\Volume{number}\\"
        side.model.setup.add_volume(root, 64 * MIB, file_system=file_system)
        found.append(side.host.checks.storage(side.vm("stored", folder=f"{root}vm")))
    return found


@case("Get-HvpsStorage")
def storage_of_nobody(side: Side) -> Any:
    return side.host.checks.storage(NOBODY)


@case("Read-HvpsSample")
def a_sample_of_the_rate(side: Side) -> Any:
    return side.host.checks.measure_rate(3 * MIB + 1000).sent_bytes


@case("Get-HvpsEvent")
def events_of_a_vm(side: Side) -> Any:
    vm_id, other = side.vm("logged"), side.vm("other")
    for one in (vm_id, other):
        side.model.faults.arm("checkpoint_no_space")
        side.model.jobs.wait(side.model.checkpoints.create(one, name="fails"))
    none = side.host.checks.events(NOBODY, 600, (), 5)
    return none, [(e.log, e.event_id, e.level, e.text) for e in side.host.checks.events(vm_id, 600, (), 5)]


@case("Get-HvpsVm")
def one_vm(side: Side) -> Any:
    return side.host.vm(side.vm("it's [a] $name ü", generation=1, notes="x"))


@case("Get-HvpsVm")
def all_vms(side: Side) -> Any:
    side.vm("twice")
    side.vm("twice", state=VMState.Off)
    return sorted(side.host.list_vms()[0], key=lambda vm: str(vm.vm_id))


@case("Get-HvpsVm")
def every_state_of_a_vm(side: Side) -> Any:
    vm_id = side.vm("states")
    found = []
    for state in VMState:
        side.model.setup.change_vm(vm_id, state=state)
        found.append((state.name, side.host.vm(vm_id).state))
    return found


@case("Get-HvpsVm")
def statuses_and_settings_of_a_later_windows(side: Side) -> Any:
    vm_id = side.vm("later", primary_status=4, checkpoint_type=CheckpointType.Unlisted)
    found = [side.host.vm(vm_id)]
    side.model.setup.change_vm(vm_id, second_status=32999)
    return [*found, side.host.vm(vm_id)]


@case("Get-HvpsVm")
def a_vm_that_is_not_there(side: Side) -> Any:
    return side.host.vm(NOBODY)


@case("Get-HvpsDisk")
def disks(side: Side) -> Any:
    vm_id = side.vm("disks")
    side.model.setup.add_disk(
        vm_id, Slot(ControllerType.SCSI, 0, 1), size_bytes=1 * MIB, format=VhdFormat.VHD
    )
    side.model.setup.add_disk(vm_id, Slot(ControllerType.SCSI, 0, 2), size_bytes=1 * MIB, shared=True)
    side.model.setup.add_pass_through(vm_id, Slot(ControllerType.SCSI, 0, 3), 4)
    side.model.setup.add_empty_drive(vm_id, Slot(ControllerType.SCSI, 0, 4))
    return side.host.disks(vm_id)


@case("Get-HvpsDisk")
def disks_with_a_chain(side: Side) -> Any:
    vm_id = side.vm("chain")
    side.frozen(vm_id)
    # Names of children contain new ids; worlds that are built alike have the same ones.
    return side.host.disks(vm_id)


@case("Get-HvpsDisk")
def disks_of_nobody(side: Side) -> Any:
    return side.host.disks(NOBODY)


@case("Get-HvpsVolume")
def volumes(side: Side) -> Any:
    return side.host.volumes(side.vm("volumes"))


@case("Get-HvpsVolume")
def volumes_of_nobody(side: Side) -> Any:
    return side.host.volumes(NOBODY)


@case("Get-HvpsVmDefinition")
def definition(side: Side) -> Any:
    return [defined(side, side.vm(f"defined {generation}", generation=generation)) for generation in (1, 2)]


@case("Get-HvpsVmDefinition")
def a_definition_that_cannot_be_read_whole(side: Side) -> Any:
    vm_id = side.vm("partly", generation=2)
    found = []
    for cmdlet in DEFINED_BY:
        side.model.faults.arm_call(cmdlet, code=0x80070005)
        found.append(defined(side, vm_id))
    return found


@case("Get-HvpsVmDefinition")
def definition_of_nobody(side: Side) -> Any:
    return side.host.definition(NOBODY)


@case("Get-HvpsJob")
def no_jobs(side: Side) -> Any:
    return side.host.jobs(side.vm("idle"))


@case("Get-HvpsJob")
def a_job_under_way(side: Side) -> Any:
    vm_id = side.vm("busy")
    with never_ending(side, vm_id, "job_seconds"):
        side.model.checkpoints.create(vm_id)
        return side.host.jobs(vm_id)


@case("Get-HvpsJob")
def jobs_of_nobody(side: Side) -> Any:
    return side.host.jobs(NOBODY)


# -- checkpoints and reference points --------------------------------------------------------------------


@case("New-HvpsCheckpoint", "Get-HvpsCheckpoint", "Get-HvpsFrozenDisk")
def a_checkpoint(side: Side) -> Any:
    vm_id = side.vm("checkpoint")
    made = side.host.create_checkpoint(vm_id, "hvps 'mark' \u2019", Consistency.APPLICATION)
    return made, side.host.checkpoints(vm_id), side.host.frozen_disks(vm_id, made.checkpoint_id)


@case("Get-HvpsFrozenDisk")
def a_frozen_disk_without_tracking(side: Side) -> Any:
    vm_id = side.model.setup.create_vm("untracked").vm_id
    side.model.setup.add_disk(vm_id, FIRST, size_bytes=1 * MIB, format=VhdFormat.VHD)
    made = side.host.create_checkpoint(vm_id, "mark", Consistency.CRASH)
    return side.host.frozen_disks(vm_id, made.checkpoint_id)


@case("Get-HvpsHost")
def a_host_without_an_id(side: Side) -> UUID | None:
    node = side.model.nodes.get()
    before, node.machine_id = node.machine_id, None
    try:
        return side.host.host_info().machine_id
    finally:
        node.machine_id = before


@case("Get-HvpsHost")
def a_host_without_a_revision(side: Side) -> int | None:
    node = side.model.nodes.get()
    before, node.os_revision = node.os_revision, None
    try:
        return side.host.host_info().os_revision
    finally:
        node.os_revision = before


@case("New-HvpsCheckpoint")
def a_checkpoint_while_another_is_made(side: Side) -> Any:
    vm_id = side.vm("taken")
    with never_ending(side, vm_id, "job_seconds"):
        side.model.checkpoints.create(vm_id)
        return side.host.create_checkpoint(vm_id, "x", Consistency.CRASH)


@case("New-HvpsCheckpoint")
def a_checkpoint_with_a_name_that_is_too_long(side: Side) -> Any:
    vm_id = side.vm("long name")
    made = side.host.create_checkpoint(vm_id, "x" * 100, Consistency.CRASH)
    other = side.host.create_checkpoint(vm_id, "x" * 101, Consistency.CRASH)
    return made.name, other.name.partition("(")[0], other.name_error is None


def _named_with(side: Side, fault: str, count: int, settings: dict[str, object], vm_id: UUID) -> Any:
    side.model.faults.arm_call(fault, count, **settings)
    made = side.host.create_checkpoint(vm_id, "mark", Consistency.CRASH)
    return made.name == "mark", made.name_error is None, made.kind


SNAPSHOTS = "Msvm_VirtualSystemSnapshotService."
RENAME = "Msvm_VirtualSystemManagementService.ModifySystemSettings"


@case("New-HvpsCheckpoint")
def a_checkpoint_that_is_busy_when_it_is_named(side: Side) -> Any:
    return [
        _named_with(side, RENAME, 3, settings, side.vm("busy name"))
        for settings in ({"error": "busy"}, {"error": "busy", "job": True, "code": 32774})
    ]


@case("New-HvpsCheckpoint")
def a_checkpoint_that_is_busy_when_it_is_listed(side: Side) -> Any:
    return [
        _named_with(side, cmdlet, 2, {"error": "busy"}, side.vm("busy list"))
        for cmdlet in ("Get-VMSnapshot", "Get-VMHardDiskDrive")
    ]


@case("New-HvpsCheckpoint")
def a_checkpoint_that_wmi_does_not_name(side: Side) -> Any:
    return [
        _named_with(side, RENAME, 1, settings, side.vm("second way"))
        for settings in ({"error": "access_denied"}, {"error": "not_supported"}, {"code": 0x80041001})
    ]


@case("New-HvpsCheckpoint")
def a_checkpoint_that_cannot_be_named(side: Side) -> Any:
    side.model.faults.arm_call("Rename-VMSnapshot")
    return _named_with(side, RENAME, 1, {}, side.vm("no name"))


def _failing(fault: str, consistency: Consistency) -> Case:
    def run(side: Side) -> Any:
        vm_id = side.vm(fault)
        side.model.faults.arm(fault)
        return side.host.create_checkpoint(vm_id, "x", consistency)

    run.__name__ = f"checkpoint_with_{fault}_{consistency}"
    return run


for _fault in ("checkpoint_fails", "checkpoint_busy", "checkpoint_file_locked", "checkpoint_no_space"):
    for _consistency in (Consistency.CRASH, Consistency.APPLICATION):
        case("New-HvpsCheckpoint")(_failing(_fault, _consistency))
case("New-HvpsCheckpoint")(_failing("commit_forks", Consistency.CRASH))


@case("New-HvpsCheckpoint")
def a_checkpoint_whose_job_is_busy(side: Side) -> Any:
    vm_id = side.vm("busy job")
    found = []
    for settings in ({"code": 32774}, {"code": 32775}, {"code": 32774, "text": "zu: 0x80070020"}):
        side.model.faults.arm_call(SNAPSHOTS + "CreateSnapshot", job=True, **settings)
        found += _both(lambda: side.host.create_checkpoint(vm_id, "x", Consistency.APPLICATION))
    return found


@case("New-HvpsCheckpoint")
def a_checkpoint_that_is_refused_as_the_page_says(side: Side) -> Any:
    vm_id = side.vm("refused")
    found = []
    for code in (1, 2, 3, 4, 5, 6):
        side.model.faults.arm_call(SNAPSHOTS + "CreateSnapshot", code=code)
        found += _both(lambda: side.host.create_checkpoint(vm_id, "x", Consistency.CRASH))
    return found


case("New-HvpsCheckpoint")(_failing("guest_backup_fails", Consistency.APPLICATION))


@case("New-HvpsCheckpoint")
def a_checkpoint_of_a_vm_with_checkpoints_disabled(side: Side) -> Any:
    vm_id = side.vm("disabled", checkpoint_type=CheckpointType.Disabled)
    made = side.host.create_checkpoint(vm_id, "x", Consistency.CRASH)
    side.host.remove_checkpoint(vm_id, made.checkpoint_id, "x")
    side.model.set_knob("disabled_refuses_backups", True)
    try:
        refused = outcome(lambda: side.host.create_checkpoint(vm_id, "x", Consistency.CRASH))
    finally:
        side.model.set_knob("disabled_refuses_backups", False)
    return made, refused


@case("New-HvpsCheckpoint")
def a_checkpoint_that_takes_too_long(side: Side) -> Any:
    vm_id = side.vm("slow")
    with never_ending(side, vm_id, "job_seconds"):
        return side.host.create_checkpoint(vm_id, "x", Consistency.CRASH, job_seconds=1)


@case("New-HvpsCheckpoint")
def a_checkpoint_with_a_disk_that_takes_none(side: Side) -> Any:
    vm_id = side.vm("pass through")
    side.model.setup.add_pass_through(vm_id, Slot(ControllerType.SCSI, 0, 3), 4)
    return _both(
        lambda: side.host.create_checkpoint(vm_id, "x", Consistency.CRASH),
        lambda: side.host.create_checkpoint(vm_id, "x", Consistency.CRASH, ignore_disks=True),
    )


@case("New-HvpsCheckpoint", "Get-HvpsCheckpoint")
def checkpoints_of_nobody(side: Side) -> Any:
    return _both(
        lambda: side.host.create_checkpoint(NOBODY, "x", Consistency.CRASH),
        lambda: side.host.checkpoints(NOBODY),
    )


@case("Remove-HvpsCheckpoint")
def removing_a_checkpoint_twice(side: Side) -> Any:
    vm_id = side.vm("removed")
    checkpoint_id, _ = side.frozen(vm_id)
    return [side.host.remove_checkpoint(vm_id, checkpoint_id, "by hand") for _ in range(2)]


@case("Remove-HvpsCheckpoint")
def removing_a_checkpoint_of_nobody(side: Side) -> Any:
    return side.host.remove_checkpoint(NOBODY, NOBODY, "x")


@case("Remove-HvpsCheckpoint")
def removing_a_checkpoint_that_fails(side: Side) -> Any:
    vm_id = side.vm("stays")
    checkpoint_id, _ = side.frozen(vm_id)
    side.model.faults.arm("remove_fails")
    return side.host.remove_checkpoint(vm_id, checkpoint_id, "by hand")


@case("Remove-HvpsCheckpoint", "Get-HvpsCheckpoint")
def removing_a_checkpoint_of_another_name_or_kind(side: Side) -> Any:
    vm_id = side.vm("not ours")
    checkpoint_id, _ = side.frozen(vm_id)
    users = side.model.checkpoints.create(vm_id, name="a user's", kind=SnapshotType.Standard)
    users_id = UUID(side.model.jobs.wait(users).results["checkpoint"])
    time.sleep(side.model.knobs.visibility_seconds)
    return _both(
        lambda: side.host.remove_checkpoint(vm_id, checkpoint_id, "By Hand"),
        lambda: side.host.remove_checkpoint(vm_id, users_id, "a user's"),
        lambda: side.host.checkpoints(vm_id),
    )


@contextmanager
def in_cluster(side: Side) -> Iterator[None]:
    """The host is in a cluster for the block."""
    node = side.model.nodes.get("HV01")
    node.cluster = "one"
    try:
        yield
    finally:
        node.cluster = None


@case("Get-HvpsClusterRole", "Set-HvpsClusterRole")
def the_role_of_a_clustered_vm(side: Side) -> Any:
    ask = side.host.restoring
    with in_cluster(side):
        vm_id = side.vm("clustered", clustered=True)
        found = [ask.cluster_role(vm_id)]
        found += [ask.set_cluster_role(vm_id, online=False) for _ in range(2)]
        found.append(side.model.vms.get(vm_id).state)
        found += [ask.set_cluster_role(vm_id, online=True) for _ in range(2)]
        found.append(side.model.vms.get(vm_id).state)
        found.append(outcome(lambda: ask.cluster_role(side.vm("alone"))))
    return [*found, outcome(lambda: ask.cluster_role(vm_id))]


@case("Set-HvpsClusterRole")
def a_role_that_is_slow_or_cannot_start(side: Side) -> Any:
    ask = side.host.restoring
    with in_cluster(side):
        vm_id = side.vm("slow role", clustered=True)
        side.model.set_knob("role_seconds", 1e6)
        late = outcome(lambda: ask.set_cluster_role(vm_id, online=False, seconds=1))
        pending = ask.cluster_role(vm_id)
        side.model.set_knob("role_seconds", 0.0)
        other = side.vm("no disk", clustered=True, state=VMState.Off)
        path = side.host.disks(other)[0].path or ""
        ask.move_file(path, path.replace(".vhdx", ".away.vhdx"))
        failed = outcome(lambda: ask.set_cluster_role(other, online=True))
        return late, pending, failed, ask.cluster_role(other), ask.set_cluster_role(other, online=False)


@case("Resize-HvpsDisk")
def disks_that_are_enlarged(side: Side) -> Any:
    vm_id = side.vm("enlarged", state=VMState.Off)
    path = side.host.disks(vm_id)[0].path or ""
    enlarge = side.host.restoring.enlarge_disk
    found: list[Any] = [enlarge(path, 16 * MIB) for _ in range(2)]
    found.append(outcome(lambda: enlarge(path, 8 * MIB)))
    found.append(outcome(lambda: enlarge(path, 16 * MIB + 512)))
    found.append(outcome(lambda: enlarge("C:\\VMs\\nothing.vhdx", SIZE)))
    running = side.host.disks(side.vm("in use"))[0].path or ""
    found.append(outcome(lambda: enlarge(running, 16 * MIB)))
    return [*found, side.host.disks(vm_id)[0].size_bytes]


@case("Remove-HvpsReferencePoint", "Get-HvpsReferencePoint")
def removing_a_reference_point_with_other_ids(side: Side) -> Any:
    vm_id = side.vm("other ids")
    side.model.incidents.add_reference_point(vm_id)
    (there,) = side.host.reference_points(vm_id)
    return _both(
        lambda: side.host.remove_reference_point(vm_id, there.instance_id, (*there.rct_ids, "rctX:other")),
        lambda: side.host.reference_points(vm_id),
    )


@case("ConvertTo-HvpsReferencePoint", "Get-HvpsReferencePoint", "Remove-HvpsReferencePoint")
def conversion_and_removal(side: Side) -> Any:
    vm_id = side.vm("converted")
    checkpoint_id, _ = side.frozen(vm_id)
    made = side.host.convert(vm_id, checkpoint_id)
    listed = side.host.reference_points(vm_id)
    removed = [side.host.remove_reference_point(vm_id, made.instance_id, made.rct_ids) for _ in range(2)]
    return made, listed, removed, side.host.checkpoints(vm_id)


@case("ConvertTo-HvpsReferencePoint")
def a_reference_point_whose_arrays_differ(side: Side) -> Any:
    checkpoint_id, _ = side.frozen(vm_id := side.vm("uneven"))
    side.model.knobs.reference_point_arrays_differ = True
    try:
        return side.host.convert(vm_id, checkpoint_id)
    finally:
        side.model.knobs.reference_point_arrays_differ = False


def _failing_conversion(fault: str) -> Case:
    def run(side: Side) -> Any:
        vm_id = side.vm(fault)
        checkpoint_id, _ = side.frozen(vm_id)
        side.model.faults.arm(fault)
        return side.host.convert(vm_id, checkpoint_id)

    run.__name__ = f"conversion_with_{fault}"
    return run


for _fault in ("convert_fails", "convert_logon_right"):
    case("ConvertTo-HvpsReferencePoint")(_failing_conversion(_fault))


@case("ConvertTo-HvpsReferencePoint", "Get-HvpsReferencePoint", "Remove-HvpsReferencePoint")
def reference_points_of_nobody(side: Side) -> Any:
    vm_id = side.vm("no points")
    return _both(
        lambda: side.host.convert(vm_id, NOBODY),
        lambda: side.host.convert(NOBODY, NOBODY),
        lambda: side.host.reference_points(NOBODY),
        lambda: side.host.remove_reference_point(NOBODY, "x", ()),
        lambda: side.host.remove_reference_point(vm_id, "x", ()),
    )


@case("Get-HvpsMerge")
def a_merge(side: Side) -> Any:
    vm_id = side.vm("merging")
    checkpoint_id, _ = side.frozen(vm_id)
    before = side.host.merge_state(vm_id)
    with never_ending(side, vm_id, "merge_seconds"):
        side.model.jobs.wait(side.model.checkpoints.remove(checkpoint_id))
        during = side.host.merge_state(vm_id)
    return before, during, side.host.merge_state(vm_id)


@case("Get-HvpsMerge", "Get-HvpsDisk")
def files_that_are_busy_while_they_merge(side: Side) -> Any:
    vm_id = side.vm("busy merge")
    checkpoint_id, _ = side.frozen(vm_id)
    with never_ending(side, vm_id, "merge_seconds"):
        side.model.knobs.vhd_busy_while_merging = True
        try:
            side.model.jobs.wait(side.model.checkpoints.remove(checkpoint_id))
            return side.host.merge_state(vm_id), side.host.disks(vm_id)
        finally:
            side.model.knobs.vhd_busy_while_merging = False


@case("Get-HvpsDisk")
def a_file_that_is_busy_for_a_moment(side: Side) -> Any:
    vm_id = side.vm("busy for a moment")
    side.model.faults.arm_call("Get-VHD", 3, error="busy")
    return side.host.disks(vm_id)


@case("Get-HvpsMerge", "Get-HvpsDisk", "Get-HvpsVolume", "Get-HvpsVmDefinition")
def a_merge_that_ends_under_a_walk(side: Side) -> Any:
    return [
        _struck_walk(side, ask)
        for ask in (
            side.host.merge_state,
            side.host.disks,
            lambda vm_id: [volume.root for volume in side.host.volumes(vm_id)],
            lambda vm_id: json.loads(side.host.definition(vm_id).json)["disks"],
        )
    ]


def _struck_walk(side: Side, ask: Callable[[UUID], Any]) -> Any:
    """The answer to a query during which the VM's merge ends, after its drives were listed.

    The merge takes for ever but for the fault, so it ends nowhere else.
    """
    vm_id = side.vm("walked")
    checkpoint_id, _ = side.frozen(vm_id)
    with never_ending(side, vm_id, "merge_seconds"):
        side.model.jobs.wait(side.model.checkpoints.remove(checkpoint_id))
        assert len(side.model.disks.chain(side.model.disks.drives(vm_id)[0].layer or 0)) == 2
        side.model.faults.arm("merge_ends")
        try:
            answer = ask(vm_id)
            # The scripts query file by file; the builtin engine answers some queries in one step.
            assert side.served.engine == "builtin" or not side.model.faults.armed()
            return answer, [
                layer.path for layer in side.model.disks.chain(side.model.disks.drives(vm_id)[0].layer or 0)
            ]
        finally:
            side.model.faults.arm("merge_ends", 0)


@case("Get-HvpsMerge")
def merge_of_nobody(side: Side) -> Any:
    return side.host.merge_state(NOBODY)


# -- frozen disks --------------------------------------------------------------------------------------


@case("Get-HvpsFrozenDisk", "Read-HvpsConfiguration")
def a_checkpoint_that_is_not_there(side: Side) -> Any:
    vm_id = side.vm("no checkpoint")
    return _both(
        lambda: side.host.frozen_disks(vm_id, NOBODY),
        lambda: side.host.frozen_disks(NOBODY, NOBODY),
        lambda: list(side.host.configuration(vm_id, NOBODY)),
        lambda: list(side.host.configuration(NOBODY, NOBODY)),
    )


@case("Get-HvpsDiskChange")
def changes(side: Side) -> Any:
    vm_id = side.vm("changes")
    _, base = side.frozen(vm_id)
    rct_id = side.model.driver.tracking_state(base)[2] or ""
    side.model.guests.write(vm_id, FIRST, 2 * MIB, b"\x11" * 64 * KIB)
    side.model.guests.write(vm_id, FIRST, SIZE - 512, b"\x22" * 512)
    _, path = side.frozen(vm_id)
    return side.host.changes(path, rct_id, SIZE), side.host.changes(path, rct_id, 1 * MIB)


@case("Get-HvpsDiskChange")
def changes_in_small_pages(side: Side) -> Any:
    vm_id = side.vm("pages")
    _, base = side.frozen(vm_id)
    rct_id = side.model.driver.tracking_state(base)[2] or ""
    for number in range(6):
        side.model.guests.write(vm_id, FIRST, number * MIB, b"\x11" * 4096)
    _, path = side.frozen(vm_id)
    side.model.set_knob("ranges_per_page", 2)
    try:
        return side.host.changes(path, rct_id, SIZE)
    finally:
        side.model.set_knob("ranges_per_page", 4096)


@case("Get-HvpsDiskChange")
def changes_that_cannot_be_had(side: Side) -> Any:
    _, path = side.frozen(side.vm("unknown id"))
    side.model.faults.arm("query_fails")
    return _both(
        lambda: side.host.changes(path, "rctX:nonsense", SIZE),
        lambda: side.host.changes(path, "rctX:nonsense", SIZE),
        lambda: side.host.changes("C:\\no such.vhdx", "rctX:nonsense", SIZE),
    )


@contextmanager
def knobs(side: Side, **values: int) -> Iterator[None]:
    for name, value in values.items():
        side.model.set_knob(name, value)
    try:
        yield
    finally:
        for name in values:
            side.model.set_knob(name, 0)


@case("Get-HvpsDiskTracking", "Get-HvpsFrozenDisk", "Get-HvpsDiskChange")
def tracking_by_handles_that_refuse(side: Side) -> Any:
    vm_id = side.vm("refused")
    _, base = side.frozen(vm_id)
    rct_id = side.model.driver.tracking_state(base)[2] or ""
    side.model.guests.write(vm_id, FIRST, 2 * MIB, b"\x11" * 64 * KIB)
    checkpoint_id, path = side.frozen(vm_id)
    found = []
    for refusals in (
        {},
        {"attached_refusal": 5},
        {"attached_refusal": 0xC03A002A},
        {"info_only_refusal": 50},
        {"state_refusal": 0xC03A001B},
        {"query_refusal": 87},
        {"attached_refusal": 6},
    ):
        with knobs(side, **refusals):
            found.append(
                _both(
                    lambda: side.host.frozen_disks(vm_id, checkpoint_id),
                    lambda: side.host.tracking(path),
                    lambda: side.host.changes(path, rct_id, SIZE),
                )
            )
    found.append(_both(lambda: side.host.tracking("C:\\no such.vhdx")))
    side.host.close_readers()
    return found


@case("Get-HvpsDiskTracking", "Get-HvpsFrozenDisk")
def tracking_of_a_vhd(side: Side) -> Any:
    vm_id = side.model.setup.create_vm("vhd").vm_id
    side.model.setup.add_disk(vm_id, FIRST, size_bytes=1 * MIB, format=VhdFormat.VHD)
    checkpoint_id, path = side.frozen(vm_id)
    with knobs(side, vhd_state_refusal=0xC03A001B):
        found = side.host.frozen_disks(vm_id, checkpoint_id), side.host.tracking(path)
    side.host.close_readers()
    return found


@case("Get-HvpsDiskTracking", "Close-HvpsReader")
def a_disk_let_go_where_windows_detaches_late(side: Side) -> Any:
    _, path = side.frozen(side.vm("late"))
    with knobs(side, detach_seconds=3600):
        first = side.host.tracking(path)
        side.host.close_readers()
        # Detached before the handle closed, so it can be attached again at once.
        again = side.host.tracking(path)
        return first == again, side.host.close_readers()


@case("Get-HvpsAllocation")
def allocation_of_files_that_others_hold(side: Side) -> Any:
    _, path = side.frozen(side.vm("held"))
    found = []
    for knob in ("files_held", "frozen_log"):
        side.model.set_knob(knob, True)
        try:
            found.append(_both(lambda: side.host.allocation((path,), SIZE)))
        finally:
            side.model.set_knob(knob, False)
    return found


@case("Get-HvpsAllocation")
def allocation(side: Side) -> Any:
    vm_id = side.model.setup.create_vm("sparse").vm_id
    side.model.setup.add_disk(vm_id, FIRST, size_bytes=40 * MIB, block_bytes=1 * MIB)
    for number in (0, 3, 4, 17, 39):
        side.model.guests.write(vm_id, FIRST, number * MIB, b"\x33" * 512)
    side.frozen(vm_id)
    side.model.guests.write(vm_id, FIRST, 30 * MIB, b"\x44" * 512)
    _, path = side.frozen(vm_id)
    layer = side.model.disks.at(path)
    chain = tuple(member.path for member in side.model.disks.chain(layer.number))
    return side.host.allocation(chain, 40 * MIB)


@case("Get-HvpsAllocation")
def allocation_that_cannot_be_had(side: Side) -> Any:
    vm_id = side.model.setup.create_vm("old format").vm_id
    side.model.setup.add_disk(vm_id, FIRST, size_bytes=1 * MIB, format=VhdFormat.VHD)
    _, path = side.frozen(vm_id)
    return _both(
        lambda: side.host.allocation((path,), 1 * MIB),
        lambda: side.host.allocation(("C:\\no such.vhdx",), 1 * MIB),
    )


@case("Get-HvpsDiskDigest", "Close-HvpsReader")
def digests(side: Side) -> Any:
    _, path = side.frozen(side.vm("digests"))
    whole = list(side.host.digests(path, 64 * KIB, 0, SIZE))
    part = list(side.host.digests(path, 1 * MIB, 8 * MIB, SIZE - 8 * MIB))
    return whole, part, side.host.close_readers(path), side.host.close_readers()


@case("Get-HvpsDiskDigest")
def digests_that_cannot_be_had(side: Side) -> Any:
    vm_id = side.vm("bad digests")
    _, path = side.frozen(vm_id)
    live = side.host.disks(vm_id)[0].path or ""
    try:
        return _both(
            lambda: list(side.host.digests(path, 12345, 0, SIZE)),
            lambda: list(side.host.digests(path, 64 * KIB, 0, SIZE + 1)),
            lambda: list(side.host.digests("C:\\no such.vhdx", 64 * KIB, 0, SIZE)),
            lambda: list(side.host.digests(live, 64 * KIB, 0, SIZE)),
        )
    finally:
        side.host.close_readers()


@case("Get-HvpsDiskDigest")
def a_disk_that_somebody_else_has_attached(side: Side) -> Any:
    _, path = side.frozen(side.vm("attached"))
    handle = side.model.driver.open(path, "pid:1")
    side.model.driver.attach(handle)
    try:
        return list(side.host.digests(path, 64 * KIB, 0, SIZE))
    finally:
        side.model.driver.close(handle)


@case("Read-HvpsExtent", "Close-HvpsReader")
def blocks(side: Side) -> Any:
    _, path = side.frozen(side.vm("blocks"))
    requests = (
        Request(
            number=0,
            extents=(Extent(0, SIZE),),
            chunk_bytes=64 * KIB,
            block_bytes=1 * MIB,
            want_chunk_digests=True,
            allow_deflate=False,
        ),
        Request(
            number=1,
            extents=(Extent(512, 1024), Extent(MIB + 4096, 70000), Extent(SIZE - 512, 512)),
            chunk_bytes=64 * KIB,
            block_bytes=4 * KIB,
        ),
        Request(
            number=2,
            extents=(Extent(MIB - 1, 3), Extent(1 * MIB, 256 * KIB)),
            chunk_bytes=256 * KIB,
            block_bytes=1 * MIB,
            want_chunk_digests=True,
            allow_deflate=True,
        ),
    )
    source = side.host.open_reader(path)
    answers = []
    for request in requests:
        source.send(request.pack())
        last = False
        while not last:
            for data in source.receive(20):
                block = decode_block(data)
                last = block.last
                pieces = [(piece.extent, piece.data and bytes(piece.data)) for piece in block.pieces]
                answers.append((block.request, block.number, last, pieces, block.chunk_digests))
    source.close()
    return answers, side.host.close_readers()


def _received(source: BlockSource) -> str:
    """Receive until the source fails, which raises."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        source.receive(5)
    return "no error"


def _refused(content: Request | bytes) -> Case:
    def run(side: Side) -> Any:
        _, path = side.frozen(side.vm(run.__name__))
        source = side.host.open_reader(path)
        try:
            source.send(content if isinstance(content, bytes) else content.pack())
            return _received(source)
        finally:
            source.close()
            side.host.close_readers()

    return run


for _name, _content in {
    "no_request": b"nonsense",
    "a_request_past_the_end": Request(
        number=0, extents=(Extent(SIZE - 512, 1024),), chunk_bytes=64 * KIB, block_bytes=1 * MIB
    ),
    "a_request_for_nothing": Request(
        number=0, extents=(Extent(512, 0),), chunk_bytes=64 * KIB, block_bytes=1 * MIB
    ),
    "a_request_with_odd_chunks": Request(
        number=0, extents=(Extent(512, 512),), chunk_bytes=65 * KIB, block_bytes=1 * MIB
    ),
    "a_request_with_small_blocks": Request(
        number=0, extents=(Extent(512, 512),), chunk_bytes=64 * KIB, block_bytes=100
    ),
}.items():
    _case = _refused(_content)
    _case.__name__ = _name
    case("Read-HvpsExtent")(_case)


@case("Read-HvpsExtent")
def reading_that_fails(side: Side) -> Any:
    _, path = side.frozen(side.vm("read error"))
    source = side.host.open_reader(path)
    side.model.faults.arm("read_error")
    try:
        source.send(
            Request(
                number=0, extents=(Extent(0, 64 * KIB),), chunk_bytes=64 * KIB, block_bytes=1 * MIB
            ).pack()
        )
        return _received(source)
    finally:
        side.model.faults.arm("read_error", 0)
        source.close()
        side.host.close_readers()


@case("Read-HvpsExtent")
def a_disk_that_is_not_there(side: Side) -> Any:
    source = side.host.open_reader("C:\\no such.vhdx")
    try:
        return _received(source)
    finally:
        source.close()


@case("Read-HvpsConfiguration")
def configuration(side: Side) -> list[FilePiece]:
    vm_id = side.vm("configured")
    checkpoint_id, _ = side.frozen(vm_id)
    return list(side.host.configuration(vm_id, checkpoint_id))


@case("Read-HvpsConfiguration")
def configuration_of_a_first_generation(side: Side) -> list[FilePiece]:
    vm_id = side.vm("old", generation=1)
    checkpoint_id, _ = side.frozen(vm_id)
    return list(side.host.configuration(vm_id, checkpoint_id))


# -- comparing -----------------------------------------------------------------------------------------


def _both(*calls: Callable[[], Any]) -> list[Any]:
    return [outcome(call) for call in calls]


# -- restoring -------------------------------------------------------------------------------------------


@case("Get-HvpsSwitch")
def switches(side: Side) -> Any:
    return side.host.restoring.switches()


@case("Get-HvpsFolder")
def folders_for_restored_disks(side: Side) -> Any:
    side.model.host_files.set_folder("C:\\Packed", compressed=True)
    side.vm("there", folder="C:\\VMs\\there [1]")
    ask = side.host.restoring.folder
    found = ["C:\\VMs\\there [1]", "C:\\Packed", "C:\\nothing"]
    return (
        ask(),
        [ask(path, found) for path in ("C:\\VMs\\new\\deep", "C:\\Packed\\x", "C:\\")],
        [outcome(lambda path=path: ask(path)) for path in ("Z:\\none", "\\\\FS01\\share\\x")],
    )


@case("New-HvpsFile", "Write-HvpsFile", "Close-HvpsFile", "Move-HvpsFile", "Remove-HvpsFile")
def a_file_is_written(side: Side) -> Any:
    restoring, place = side.host.restoring, "C:\\Restored\\it's [new] \u00fc"
    partial, final = f"{place}\\disk.partial.vhdx", f"{place}\\disk.vhdx"
    made = restoring.new_file(partial, 5 * MIB)
    again = outcome(lambda: restoring.new_file(partial, MIB))
    writer = restoring.open_writer(partial)
    # More than one pipeline may take.
    for number in range(20):
        writer.write(number % 5 * MIB, bytes([number]) * MIB)
    writer.flush()
    written = writer.take_written()
    writer.close()
    busy = outcome(lambda: restoring.move_file(partial, final))
    closed = restoring.close_file(partial), restoring.close_file(partial)
    content = side.model.host_files.content(partial).read_bytes()
    assert content == b"".join(bytes([number]) * MIB for number in range(15, 20))
    moved = restoring.move_file(partial, final)
    restoring.new_file(partial, 1)
    taken = outcome(lambda: restoring.move_file(partial, final))
    removed = restoring.remove_files([partial, final, "C:\\x.vhdx"], [place, "C:\\Restored", "C:\\VMs"])
    assert side.model.host_files.made() == tuple(f for f in side.model.host_files.made() if "Packed" in f)
    return made, again, written, busy, closed, moved, taken, removed


@case("New-HvpsFile")
def files_that_cannot_be_made(side: Side) -> Any:
    new_file = side.host.restoring.new_file
    side.model.host_files.set_folder("C:\\Packed", compressed=True)
    side.model.host_files.set_folder("C:\\Secret", encrypted=True)
    found = [
        outcome(lambda path=path, size=size: new_file(path, size))
        for path, size in (
            ("C:\\Packed\\a.vhdx", MIB),
            ("C:\\Secret\\a.vhdx", MIB),
            ("C:\\Big\\a.vhdx", 1 << 50),
            ("Z:\\a\\b.vhdx", MIB),
            ("C:\\Packed\\a.exe", MIB),
        )
    ]
    side.host.restoring.remove_files(["C:\\Packed\\a.vhdx"], ["C:\\Big"])
    found.append(outcome(lambda: side.host.restoring.remove_files(["C:\\Packed\\a.txt"])))
    with knob(side, "rights", "hyperv_administrator") as host:
        found.append(outcome(lambda: host.restoring.new_file("C:\\Packed\\b.vhdx", MIB)))
    return found


@case("Write-HvpsFile")
def writes_that_are_refused(side: Side) -> Any:
    def write(path: str) -> None:
        writer = side.host.restoring.open_writer(path)
        try:
            writer.write(0, b"x")
            writer.flush()
        finally:
            writer.close()

    side.host.restoring.new_file("C:\\Some\\a.vhdx", 1)
    other = side.host.new_shell()
    with other:
        busy = outcome(lambda: other.restoring.open_writer("C:\\Some\\a.vhdx").write(0, b"x" * 7 * MIB))
    missing = outcome(lambda: write("C:\\Some\\none.vhdx"))
    side.host.restoring.remove_files(["C:\\Some\\a.vhdx"], ["C:\\Some"])
    return busy, missing


@case("Remove-HvpsSavedState", "Remove-HvpsSnapshot")
def a_vm_is_made_ready_for_a_restore_in_place(side: Side) -> Any:
    restoring = side.host.restoring
    vm_id = side.vm("ready")
    job = side.model.jobs.wait(
        side.model.checkpoints.create(vm_id, name="by hand", kind=SnapshotType.Standard)
    )
    point = UUID(job.results["checkpoint"])
    while not side.model.checkpoints.all(vm_id):
        time.sleep(0.01)
    running = (
        restoring.discard_saved_state(vm_id),
        outcome(lambda: restoring.remove_snapshot(vm_id, point, "by hand")),
    )
    side.model.vms.set_state(vm_id, "save")
    saved = restoring.discard_saved_state(vm_id), restoring.discard_saved_state(vm_id)
    other = outcome(lambda: restoring.remove_snapshot(vm_id, point, "by Hand"))
    removed = [restoring.remove_snapshot(vm_id, point, "by hand") for _ in range(2)]
    missing = outcome(lambda: restoring.remove_snapshot(NOBODY, point, "by hand"))
    return running, saved, other, removed, missing, side.host.vm(vm_id).state


@case("Write-HvpsDisk", "Copy-HvpsFile", "Close-HvpsFile", "Move-HvpsFile")
def a_disk_is_written_in_place(side: Side) -> Any:
    host, restoring = side.host, side.host.restoring
    vm_id = side.vm("in place")
    side.model.vms.set_state(vm_id, "stop")
    path = host.disks(vm_id)[0].path or ""
    stem = path.removesuffix(".vhdx")
    copied = restoring.copy_file(path, f"{stem}.old.vhdx")
    again = outcome(lambda: restoring.copy_file(path, f"{stem}.old.vhdx"))
    side.model.driver.tracking_state(path)
    names = [path + extension for extension in (".rct", ".mrt")]
    there = restoring.folder(path.rpartition("\\")[0], names).found
    hidden = [restoring.move_file(name, name.replace(stem, stem + ".new")) for name in (path, *there)]
    with pytest.raises(HyperVError) as refused:
        side.model.vms.set_state(vm_id, "start")
    gone = refused.value.hresult
    missing = [disk.error is not None and disk.path == path for disk in host.disks(vm_id)]
    writer = restoring.open_disk_writer(f"{stem}.new.vhdx")
    writer.write(64 * 1024, b"new" * 4096)
    writer.flush()
    written = writer.take_written()
    odd = outcome(lambda: (writer.write(1, b"x"), writer.flush()))
    writer.close()
    busy = outcome(lambda: restoring.move_file(f"{stem}.new.vhdx", path))
    closed = restoring.close_file(f"{stem}.new.vhdx"), restoring.close_file(f"{stem}.new.vhdx")
    digests = [page.digests for page in host.digests(f"{stem}.new.vhdx", 65536, 0, 131072)]
    host.close_readers()
    back = restoring.copy_file(f"{stem}.old.vhdx", f"{stem}.new.vhdx", overwrite=True)
    shown = [restoring.move_file(name.replace(stem, stem + ".new"), name) for name in (*there, path)]
    none = outcome(lambda: restoring.open_disk_writer(f"{stem}.none.vhdx").write(0, b"x" * 7 * MIB))
    restoring.remove_files([f"{stem}.old.vhdx"])
    side.model.vms.set_state(vm_id, "start")
    return copied, again, hidden, gone, missing, written, odd, busy, closed, digests, back, shown, none


def disk_file(side: Side, path: str, size: int = 3 * MIB) -> str:
    """A VHDX on the host, with data in its second MiB."""
    shape = DiskShape(size_bytes=size, disk_id=uuid5(NOBODY, path), block_bytes=MIB)
    view = vhdx_view(shape, [Extent(MIB, MIB)], NOBODY)
    side.host.restoring.new_file(path, view.size_bytes)
    writer = side.host.restoring.open_writer(path)
    writer.write(0, view.table_bytes(0, view.payload.end - MIB))
    writer.write(view.payload.end - MIB, b"data" * (MIB // 4))
    writer.flush()
    writer.close()
    side.host.restoring.close_file(path)
    return path


def plan_of(side: Side, vm_id: UUID, disks: list[tuple[str, str]], **options: Any) -> str:
    definition = side.host.definition(vm_id).json
    return vm_plan(
        definition,
        [PlannedDisk(slot, path) for slot, path in disks],
        PlanOptions(mark="hvps restore x", **options),
    )


def made_again(side: Side, source: UUID, slot: str, **options: Any) -> Any:
    side.made += 1
    name = f"it's a copy [{side.made}]"
    path = disk_file(side, f"C:\\VMs\\{name}\\Virtual Hard Disks\\a.vhdx")
    made = side.host.restoring.new_vm(name, "C:\\VMs", plan_of(side, source, [(slot, path)], **options))
    definition = defined(side, made.vm_id)[1]
    assert isinstance(made, VmMade)
    return made, definition, side.host.disks(made.vm_id)


@case("New-HvpsVm")
def vms_are_made_again(side: Side) -> Any:
    second = side.vm("second", notes="notes")
    first = side.vm("first", generation=1, version="9.0", processor_count=4)
    return (
        made_again(side, second, "scsi 2:5"),
        made_again(side, second, "scsi 0:0", connect_network=True, keep_macs=True),
        made_again(side, first, "ide 0:1"),
    )


@case("New-HvpsVm")
def devices_of_vms_are_made_again(side: Side) -> Any:
    source = side.vm("devices", tpm_enabled=True)
    vm = side.model.vms.get(source)
    iso = disk_file(side, f"C:\\ISO\\{side.made}.iso.vhdx")
    adapter = side.host.definition(source).json
    adapter_id = json.loads(adapter)["network"][0]["Id"]
    vm.hardware["dvd"] = {"scsi1:3": iso, "scsi0:7": None}
    vm.hardware["limits"] = {"scsi0:0": {"MinimumIOPS": 5, "MaximumIOPS": 9}}
    vm.hardware["adapters"] = [
        {"key": "adapter", "members": {"DhcpGuard": 0, "VMQWeight": 50, "PortMirroringMode": 2}}
    ]
    limits = {"MaximumBandwidth": 2_000_000_000, "MinimumBandwidthAbsolute": 0, "MinimumBandwidthWeight": 5}
    set_adapter(Rows(side.model, None), str(source), adapter_id, limits)
    vm.hardware["vlan"] = {
        adapter_id.upper(): {"OperationMode": 2, "NativeVlanId": 7, "AllowedVlanIdListString": "1-100"}
    }
    vm.hardware["boot_order"] = ["scsi1:3", "scsi0:0"]
    made = made_again(side, source, "scsi 0:0", isos=(iso,))
    first = made_again(side, side.vm("first", generation=1), "ide 1:0")
    side.model.nodes.get().has_guardian = False
    try:
        refused = made_again(side, source, "scsi 0:0")
        renewed = made_again(side, source, "scsi 0:0", new_tpm=True)
    finally:
        side.model.nodes.get().has_guardian = True
    definition = made[1]
    assert definition["security"]["TpmEnabled"] is True
    assert [drive["Path"] for drive in definition["dvd"]] == [iso, None]
    assert (definition["network"][0]["DhcpGuard"], definition["network"][0]["VMQWeight"]) == (0, 50)
    assert definition["network"][0]["Vlan"]["AllowedVlanIdListString"] == "1-100"
    assert definition["network"][0]["Bandwidth"] == limits
    assert definition["disks"][0]["MaximumIOPS"] == 9
    assert [entry["Device"]["ControllerLocation"] for entry in definition["firmware"]["BootOrder"]] == [3, 0]
    assert made[0].warnings == ()
    assert (refused[1]["security"]["TpmEnabled"], renewed[1]["security"]["TpmEnabled"]) == (False, True)
    return made, first, refused, renewed


@case("New-HvpsPlannedVm", "Get-HvpsPlannedVm", "Complete-HvpsPlannedVm", "Remove-HvpsPlannedVm")
def vms_come_from_their_configuration(side: Side) -> Any:
    restoring, model = side.host.restoring, side.model
    source = side.vm("it's <a> source & more", notes="notes", tpm_enabled=True, processor_count=4)
    iso = disk_file(side, f"C:\\ISO\\{side.made}.iso.vhdx")
    vm = model.vms.get(source)
    vm.hardware["dvd"] = {"scsi1:3": iso, "scsi0:7": "D:\\gone.iso"}
    vm.hardware["scsi_controllers"] = 2
    vm.hardware["adapters"] = [
        {"key": "adapter", "members": {"DynamicMacAddressEnabled": False, "MacAddress": "00155D010203"}},
        {"key": "second", "members": {"SwitchName": "Gone"}},
    ]
    checkpoint, frozen = side.frozen(source)
    path = configuration_file(model, source, f"{side.made}.vmcx", checkpoint)
    before = restoring.planned_vms()
    made = restoring.new_planned_vm(path, "new <name>", "C:\\VMs\\new & old", "mark <1>")
    listed = restoring.planned_vms()
    folder = f"C:\\VMs\\new {side.made}"
    new = disk_file(side, f"{folder}\\a.vhdx")
    plan = planned_vm(
        "mark <1>",
        made.notes,
        [MovedDisk(frozen, new)],
        isos=[iso],
        adapters=[("Network Adapter", "External")],
    )
    real = restoring.complete_planned_vm(made.vm_id, plan)
    shown = side.host.vm(real.vm_id), side.host.disks(real.vm_id), defined(side, real.vm_id)[1]
    definition = shown[2]
    assert (before, made.notes, len(listed)) == ((), "notes", 1)
    assert [each["SwitchName"] for each in definition["network"]] == ["External", ""]
    assert definition["network"][0]["DynamicMacAddressEnabled"] is True
    assert {drive["Path"] for drive in definition["dvd"]} == {iso, None}
    assert restoring.planned_vms() == ()
    return made, listed, real, shown, real.vm_id == made.vm_id


@case("New-HvpsPlannedVm", "Complete-HvpsPlannedVm", "Remove-HvpsPlannedVm")
def planned_vms_that_are_refused(side: Side) -> Any:
    restoring, model = side.host.restoring, side.model
    source = side.vm("source", state=VMState.Off)
    path = configuration_file(model, source, f"{side.made}.vmcx")
    bad = write_file(model, b"nothing", f"bad {side.made}.vmcx")

    def new(file: str) -> Any:
        return outcome(lambda: restoring.new_planned_vm(file, "new", "C:\\VMs\\new", "mark"))

    answers = [new(bad), new("C:\\nothing.vmcx")]
    model.nodes.get().supported_vm_versions = ("8.0",)
    answers.append(new(path))
    model.nodes.get().supported_vm_versions = ("8.0", "9.0", "10.0")
    made = new(path)
    old = made.disk_paths[0]
    remove = restoring.remove_planned_vm
    answers += [
        outcome(lambda: remove(made.vm_id, "other", "mark")),
        outcome(lambda: remove(made.vm_id, "new", "other")),
    ]

    def complete(*disks: MovedDisk, mark: str = "mark") -> Any:
        plan = planned_vm(mark, "", disks)
        return outcome(lambda: restoring.complete_planned_vm(made.vm_id, plan))

    answers += [
        complete(MovedDisk("C:\\other.vhdx", "C:\\x.vhdx")),
        complete(mark="other"),
        complete(MovedDisk(old, "C:\\nothing.vhdx")),
    ]
    # It still has that file, and then one that its own VM has.
    gone = complete(MovedDisk("C:\\nothing.vhdx", old))
    removed = remove(made.vm_id, "new", "mark"), remove(made.vm_id, "new", "mark")
    late = complete()
    assert restoring.planned_vms() == ()
    return answers, gone, removed, late


@case("Get-HvpsHeartbeat")
def heartbeats_are_shown(side: Side) -> Any:
    heartbeat = side.host.restoring.heartbeat
    running, off = side.vm("running"), side.vm("off", state=VMState.Off)
    healthy = heartbeat(running)
    side.model.set_knob("heartbeat_seconds", 1e9)
    try:
        silent = heartbeat(running)
    finally:
        side.model.set_knob("heartbeat_seconds", 0.0)
    assert (healthy.heartbeat, silent.heartbeat) == (6, 2)
    return healthy, silent, heartbeat(off), outcome(lambda: heartbeat(NOBODY))


@case("Remove-HvpsVm")
def vms_of_drills_are_turned_off(side: Side) -> Any:
    create, remove = side.model.setup.create_vm, side.host.restoring.remove_vm
    vm_id = create("drill", folder="C:\\VMs\\drill", notes="mark").vm_id
    other = create("other", folder="C:\\VMs\\other", notes="by hand").vm_id
    running = outcome(lambda: remove(vm_id, "C:\\VMs\\drill", "mark"))
    foreign = outcome(lambda: remove(other, "C:\\VMs\\other", "mark", turn_off=True))
    removed = remove(vm_id, "C:\\VMs\\drill", "mark", turn_off=True)
    gone = remove(vm_id, "C:\\VMs\\drill", "mark", turn_off=True)
    return running, foreign, side.model.vms.get(other).state, removed, gone


@case("Start-HvpsVm")
def vms_are_started(side: Side) -> Any:
    start, vms = side.host.restoring.start_vm, side.model.vms
    vm_id = side.vm("started", state=VMState.Off)
    path = side.host.disks(vm_id)[0].path
    assert path is not None
    writer = side.host.restoring.open_disk_writer(path)
    writer.write(0, b"x" * 512)
    writer.flush()
    writer.close()
    attached = outcome(lambda: start(vm_id))
    side.host.restoring.close_file(path)
    # A copy under the name of the disk has the rights of its folder.
    side.host.restoring.copy_file(path, path.replace(".vhdx", ".copy.vhdx"))
    side.host.restoring.move_file(path, path.replace(".vhdx", ".old.vhdx"))
    missing = outcome(lambda: start(vm_id))
    side.host.restoring.move_file(path.replace(".vhdx", ".copy.vhdx"), path)
    refused = outcome(lambda: start(vm_id))
    other = side.vm("other", state=VMState.Off)
    started = start(other), vms.get(other).state
    return attached, missing, refused, started, outcome(lambda: start(NOBODY))


@case("Remove-HvpsVm")
def vms_of_restores_are_removed(side: Side) -> Any:
    create, remove = side.model.setup.create_vm, side.host.restoring.remove_vm
    folder = "C:\\VMs\\half [x]"
    vms = {
        "marked": create("marked", folder=folder, state=VMState.Off, notes="mark").vm_id,
        "unmarked": create("unmarked", folder=folder, state=VMState.Off).vm_id,
        "other notes": create("other", folder=folder, state=VMState.Off, notes="mine").vm_id,
        "running": create("running", folder=folder, notes="mark").vm_id,
        "elsewhere": create("elsewhere", folder="C:\\x", state=VMState.Off, notes="mark").vm_id,
        "with disks": side.vm("disks", folder=folder, state=VMState.Off),
        "nobody": NOBODY,
    }
    return {name: outcome(lambda vm=vm: remove(vm, folder.upper(), "mark")) for name, vm in vms.items()}


@case("New-HvpsVm")
def vms_that_cannot_be_made(side: Side) -> Any:
    source = side.vm("source")
    path = disk_file(side, "C:\\Loose\\good.vhdx")
    bad = "C:\\Loose\\bad.vhdx"
    side.host.restoring.new_file(bad, MIB)
    side.host.restoring.close_file(bad)

    def make(*disks: tuple[str, str], **members: Any) -> Any:
        plan = json.loads(plan_of(side, source, list(disks)))
        for key, value in members.items():
            plan[key] = value
        return outcome(lambda: side.host.restoring.new_vm("new", "C:\\VMs", json.dumps(plan)))

    answers = [
        make(("scsi 0:0", bad)),
        make(("scsi 0:0", "C:\\nothing.vhdx")),
        make(("ide 0:0", path)),
        make(("scsi 0:0", path), ("scsi 0:0", path)),
        make(("scsi 0:0", path), version="99.0"),
        make(("scsi 4:0", path)),
    ]
    assert [vm.name for vm in side.host.list_vms()[0] if vm.name == "new"] == []
    warned = make(("scsi 0:0", path), processor={"Count": 99}, firmware={"SecureBootTemplate": "none"})
    side.host.restoring.remove_files([bad])
    assert isinstance(warned, VmMade), warned
    return answers, len(warned.warnings), [line.partition(":")[0] for line in warned.warnings]


@pytest.mark.parametrize("name", CASES)
def test_both_engines_give_the_same(name: str, sides: dict[str, Side]) -> None:
    _, run = CASES[name]
    answers = on_both(sides, lambda side: comparable(outcome(lambda: run(side)), {}))
    assert answers["powershell"] == answers["builtin"]


def test_every_operation_has_a_case() -> None:
    assert {operation for operations, _ in CASES.values() for operation in operations} == set(OPERATIONS)


GUID = TaggedValue("G", str(NOBODY))


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("Get-HvpsDisk", {"VmId": GUID, "Unknown": 1}),
        ("Get-HvpsDisk", {}),
        ("Get-HvpsDisk", {"VmId": "no guid"}),
        ("Get-HvpsDisk", {"VmId": None}),
        ("Get-HvpsDisk", {"VmId": 5}),
        ("Get-HvpsVm", {"VmId": "no guid"}),
        ("Get-HvpsDisk", {"VmId": GUID, "vmid": GUID}),
        ("New-HvpsCheckpoint", {"VmId": GUID, "Name": "", "Consistency": "crash"}),
        (
            "New-HvpsCheckpoint",
            {"VmId": GUID, "Name": "x", "Consistency": "maybe", "IgnoreDisks": False, "JobSeconds": 1},
        ),
        (
            "New-HvpsCheckpoint",
            {"VmId": GUID, "Name": "x", "Consistency": "crash", "IgnoreDisks": "yes", "JobSeconds": 1},
        ),
        (
            "New-HvpsCheckpoint",
            {
                "VmId": GUID,
                "Name": "x",
                "Consistency": "crash",
                "IgnoreDisks": False,
                "JobSeconds": TaggedValue("U64", 1 << 40),
            },
        ),
        ("Get-HvpsDiskDigest", {"Path": "x", "ChunkBytes": 65536, "OffsetBytes": -1, "LengthBytes": 1}),
        ("Get-HvpsAllocation", {"Chain": []}),
        ("Get-HvpsAllocation", {"Chain": [""]}),
        ("Get-HvpsHost", {"VmId": GUID}),
    ],
)
def test_parameters_are_refused_alike(
    operation: str, parameters: dict[str, Any], sides: dict[str, Side]
) -> None:
    answers = on_both(sides, lambda side: side.raw(operation, parameters))
    assert answers["powershell"] == answers["builtin"]
