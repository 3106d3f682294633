"""Operations that show the host and its VMs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from hvpsbridge.contract import readings, results
from hvpsbridge.sim.engines.operations.context import Context, DriveChain, utc
from hvpsbridge.sim.model import ControllerType, DiskError, VhdFormat, VhdType, VMState
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import CheckpointType, ReplicationMode, Vm

_STATES = {
    VMState.Running: results.VmState.RUNNING,
    VMState.Off: results.VmState.OFF,
    VMState.Saved: results.VmState.SAVED,
    VMState.Paused: results.VmState.PAUSED,
    VMState.Starting: results.VmState.STARTING,
    VMState.Stopping: results.VmState.STOPPING,
    VMState.Saving: results.VmState.SAVING,
    VMState.Reset: results.VmState.RESETTING,
    VMState.Pausing: results.VmState.PAUSING,
    VMState.Resuming: results.VmState.RESUMING,
    VMState.FastSaved: results.VmState.SAVED,
    VMState.FastSaving: results.VmState.SAVING,
    VMState.ForceShutdown: results.VmState.STOPPING,
    VMState.ForceReboot: results.VmState.RESETTING,
    VMState.Hibernated: results.VmState.SAVED,
    VMState.ComponentServicing: results.VmState.SERVICING,
    **{state: results.VmState.CRITICAL for state in VMState if state.name.endswith("Critical")},
}
_POLICIES = {
    CheckpointType.Disabled: results.CheckpointPolicy.DISABLED,
    CheckpointType.Production: results.CheckpointPolicy.PRODUCTION,
    CheckpointType.ProductionOnly: results.CheckpointPolicy.PRODUCTION_ONLY,
    CheckpointType.Standard: results.CheckpointPolicy.STANDARD,
}
_REPLICATION = {
    ReplicationMode.None_: results.ReplicationMode.NONE,
    ReplicationMode.Primary: results.ReplicationMode.PRIMARY,
    ReplicationMode.Replica: results.ReplicationMode.REPLICA,
    ReplicationMode.TestReplica: results.ReplicationMode.TEST_REPLICA,
    ReplicationMode.ExtendedReplica: results.ReplicationMode.EXTENDED_REPLICA,
}
CONTROLLERS = {
    ControllerType.IDE: results.ControllerType.IDE,
    ControllerType.SCSI: results.ControllerType.SCSI,
    ControllerType.PMEM: results.ControllerType.PMEM,
}
_FORMATS = {
    VhdFormat.VHD: results.DiskFormat.VHD,
    VhdFormat.VHDX: results.DiskFormat.VHDX,
    VhdFormat.VHDSet: results.DiskFormat.VHDSET,
}
_KINDS = {
    VhdType.Fixed: results.DiskKind.FIXED,
    VhdType.Dynamic: results.DiskKind.DYNAMIC,
    VhdType.Differencing: results.DiskKind.DIFFERENCING,
}


def get_host(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsHost``."""
    model = context.model
    node = model.nodes.get(context.node)
    context.import_module()
    context.cmdlet("Get-VMHost")
    context.query("Win32_OperatingSystem")
    clustered = _answers(lambda: context.cmdlet("Get-Cluster"))
    identified = _answers(lambda: context.query("Win32_ComputerSystemProduct"))
    yield results.HostInfo(
        name=node.name,
        fqdn=node.fqdn,
        machine_id=node.machine_id if identified else None,
        os_version=node.os_version,
        os_build=node.os_build,
        os_revision=node.os_revision,
        powershell_version="5.1.20348.1",
        language_mode=model.knobs.language_mode,
        is_64bit=True,
        is_administrator=model.knobs.rights == "administrator",
        culture={"de": "de-DE"}.get(model.knobs.language, "en-US"),
        hyperv_module_version="2.0.0.0",
        supported_vm_versions=node.supported_vm_versions,
        logical_processors=node.logical_processors,
        memory_bytes=node.memory_bytes,
        cluster=node.cluster if clustered else None,
        time=utc(model.clock.now()),
        boot_time=utc(node.booted),
        process_id=context.process.process_id,
        process_started=context.process.started,
    )


def _answers(call: Callable[[], None]) -> bool:
    """Whether a call succeeds whose errors the script leaves out, unless they are terminating."""
    try:
        call()
    except CallRefused as err:
        if err.terminating:
            raise
        return False
    return True


def test_reader(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Test-HvpsReader``. There is nothing to compile, which shows in the time it takes."""
    started = time.monotonic()
    context.model.nodes.get(context.node)
    with suppress(DiskError):
        context.function("OpenVirtualDisk", "")
    yield readings.ReaderCheck(compiled=True, seconds=time.monotonic() - started)


def get_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVm``."""
    wanted = given.get("VmId")
    context.import_module()
    forks = _fork_events(context)
    if wanted is not None:
        vm = context.vm(wanted)
        _ask_settings(context, vm)
        yield _vm_info(context, vm, forks=forks)
        return
    context.cmdlet("Get-VM")
    for vm in context.model.vms.all(context.node):
        problem = None
        try:
            _ask_settings(context, vm)
        except CallRefused as err:
            problem = err.message
            context.cmdlet("Get-VM")
        yield _vm_info(context, vm, forks=forks, problem=problem)


def _fork_events(context: Context) -> bool:
    """Whether events 3216 can be read (``Get-HvpsForkEvent``)."""
    try:
        context.cmdlet("Get-WinEvent")
    except CallRefused as err:
        if not err.identifier.startswith(("NoMatchingEventsFound", "NoMatchingLogsFound")):
            raise
        return False
    return True


def _ask_settings(context: Context, vm: Vm) -> None:
    """What the script asks about each VM (``ConvertTo-HvpsVmInfo``)."""
    context.cmdlet("Get-VMSecurity", vm.vm_id)
    context.query("Msvm_ComputerSystem", vm.vm_id)
    context.associated("Msvm_VirtualSystemSettingData", vm.vm_id)
    context.associated("Msvm_DiskMergeSettingData", vm.vm_id)


def _vm_info(context: Context, vm: Vm, *, forks: bool, problem: str | None = None) -> results.VmInfo:
    now = context.model.clock.now()
    running = vm.state in (VMState.Running, VMState.Paused) and vm.started is not None
    return results.VmInfo(
        vm_id=vm.vm_id,
        name=vm.name,
        state=_STATES.get(vm.state, results.VmState.OTHER),
        operational_status=context.model.vms.status(vm.vm_id),
        generation=vm.generation,
        version=vm.version,
        checkpoint_policy=_POLICIES.get(vm.checkpoint_type, results.CheckpointPolicy.UNKNOWN),
        automatic_checkpoints=vm.automatic_checkpoints,
        parent_checkpoint_id=vm.parent_checkpoint,
        replication_mode=_REPLICATION[vm.replication_mode],
        is_clustered=vm.clustered,
        shielded=vm.shielded and problem is None,
        tpm_enabled=vm.tpm_enabled and problem is None,
        merge_enabled=vm.merge_enabled or problem is not None,
        commit_fork_events=vm.commit_fork_events if forks else 0,
        configuration_path=vm.folder,
        checkpoint_path=vm.folder,
        uptime_seconds=int(now - vm.started) if running and vm.started is not None else 0,
        processor_count=vm.processor_count,
        memory_bytes=vm.memory_bytes,
        settings_error=problem,
    )


def get_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDisk``."""
    vm = context.vm(given["VmId"])
    context.query("Msvm_ComputerSystem", vm.vm_id)
    rows = context.drive_chains(vm)
    context.associated("Msvm_VirtualSystemSettingData", vm.vm_id)
    context.associated("Msvm_StorageAllocationSettingData", vm.vm_id)
    for row in rows:
        yield _disk_info(context, vm, row)


def _disk_info(context: Context, vm: Vm, row: DriveChain) -> results.DiskInfo:
    model, drive = context.model, row.drive
    slot = drive.slot
    facts: dict[str, Any] = {
        "vm_id": vm.vm_id,
        "controller_type": CONTROLLERS[slot.controller_type],
        "controller_number": slot.controller_number,
        "controller_location": slot.controller_location,
        "pass_through": drive.pass_through_number is not None,
        "shared": drive.shared,
    }
    # After the chain: a merge that ended meanwhile has moved the drive to the merged layer.
    layer = None if drive.layer is None else model.disks.layer(drive.layer)
    facts["instance_id"] = None if layer is None else vm.instance_id(slot)
    facts["path"] = None if layer is None else layer.path
    if layer is None or row.problem is not None:
        problem = row.problem
        return results.DiskInfo(
            chain=(),
            format=results.DiskFormat.UNKNOWN,
            kind=results.DiskKind.UNKNOWN,
            size_bytes=0,
            file_bytes=0,
            logical_sector_bytes=0,
            physical_sector_bytes=0,
            block_bytes=0,
            disk_id=None,
            error=None if problem is None else f"{problem.error_id.partition(',')[0]}: {problem.message}",
            **facts,
        )
    return results.DiskInfo(
        chain=tuple(member.path for member in row.chain),
        format=_FORMATS.get(layer.format, results.DiskFormat.UNKNOWN),
        kind=_KINDS.get(layer.kind, results.DiskKind.UNKNOWN),
        size_bytes=layer.size_bytes,
        file_bytes=model.disks.file_bytes(layer.number),
        logical_sector_bytes=layer.logical_sector_bytes,
        physical_sector_bytes=layer.physical_sector_bytes,
        block_bytes=0 if layer.kind is VhdType.Fixed else layer.block_bytes,
        disk_id=layer.disk_id,
        error=None,
        **facts,
    )


def get_volume(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVolume``."""
    vm = context.vm(given["VmId"])
    context.drive_chains(vm)
    context.query("Win32_Volume")
    for volume in context.model.volumes.all(vm.vm_id):
        yield results.VolumeInfo(
            volume.root, context.model.volumes.free_bytes(volume.root), volume.total_bytes
        )


def get_job(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsJob``."""
    context.import_module()
    vm = context.wmi_vm(given["VmId"])
    context.associated("Msvm_ConcreteJob", vm.vm_id)
    for job in context.model.jobs.all(vm.vm_id, unfinished=True):
        state, percent = context.model.jobs.progress(job)
        yield results.JobInfo(
            vm_id=vm.vm_id,
            instance_id=str(job.job_id).upper(),
            job_type=int(job.kind),
            state=int(state),
            percent=percent,
            description=job.kind.name,
        )
