"""Operations that show the host and its VMs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from hvpsbridge.contract import readings, results
from hvpsbridge.sim.engines.operations.context import Context, utc
from hvpsbridge.sim.model import ControllerType, DiskError, VhdFormat, VhdType, VMState
from hvpsbridge.sim.model.state import CheckpointType, Drive, ReplicationMode, Vm

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
    yield results.HostInfo(
        name=node.name,
        fqdn=node.fqdn,
        machine_id=node.machine_id,
        os_version=node.os_version,
        os_build=node.os_build,
        powershell_version="5.1.20348.1",
        language_mode="FullLanguage",
        is_64bit=True,
        is_administrator=True,
        culture={"de": "de-DE"}.get(model.knobs.language, "en-US"),
        hyperv_module_version="2.0.0.0",
        supported_vm_versions=node.supported_vm_versions,
        logical_processors=node.logical_processors,
        memory_bytes=node.memory_bytes,
        cluster=node.cluster,
        time=utc(model.clock.now()),
        boot_time=utc(node.booted),
        process_id=context.process.process_id,
        process_started=context.process.started,
    )


def test_reader(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Test-HvpsReader``. There is nothing to compile, which shows in the time it takes."""
    started = time.monotonic()
    context.model.nodes.get(context.node)
    yield readings.ReaderCheck(compiled=True, seconds=time.monotonic() - started)


def get_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVm``."""
    wanted = given.get("VmId")
    vms = context.model.vms.all(context.node) if wanted is None else (context.vm(wanted),)
    for vm in vms:
        yield _vm_info(context, vm)


def _vm_info(context: Context, vm: Vm) -> results.VmInfo:
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
        shielded=vm.shielded,
        tpm_enabled=vm.tpm_enabled,
        merge_enabled=vm.merge_enabled,
        commit_fork_events=vm.commit_fork_events,
        configuration_path=vm.folder,
        checkpoint_path=vm.folder,
        uptime_seconds=int(now - vm.started) if running and vm.started is not None else 0,
        processor_count=vm.processor_count,
        memory_bytes=vm.memory_bytes,
        settings_error=None,
    )


def get_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDisk``."""
    vm = context.vm(given["VmId"])
    for drive in context.model.disks.drives(vm.vm_id):
        yield _disk_info(context, vm, drive)


def _disk_info(context: Context, vm: Vm, drive: Drive) -> results.DiskInfo:
    model = context.model
    slot = drive.slot
    facts: dict[str, Any] = {
        "vm_id": vm.vm_id,
        "controller_type": CONTROLLERS[slot.controller_type],
        "controller_number": slot.controller_number,
        "controller_location": slot.controller_location,
        "pass_through": drive.pass_through_number is not None,
        "shared": drive.shared,
    }
    if drive.layer is None:
        return results.DiskInfo(
            instance_id=None,
            path=None,
            chain=(),
            format=results.DiskFormat.UNKNOWN,
            kind=results.DiskKind.UNKNOWN,
            size_bytes=0,
            file_bytes=0,
            logical_sector_bytes=0,
            physical_sector_bytes=0,
            block_bytes=0,
            disk_id=None,
            error=None,
            **facts,
        )
    error: str | None = None
    chain: tuple[str, ...] = ()
    try:
        chain = tuple(member.path for member in model.disks.chain(drive.layer))
    except DiskError as err:
        error = str(err)
    # After the chain: a merge that ended meanwhile has moved the drive to the merged layer.
    layer = model.disks.layer(drive.layer)
    return results.DiskInfo(
        instance_id=vm.instance_id(slot),
        path=layer.path,
        chain=chain,
        format=_FORMATS.get(layer.format, results.DiskFormat.UNKNOWN),
        kind=_KINDS.get(layer.kind, results.DiskKind.UNKNOWN),
        size_bytes=layer.size_bytes,
        file_bytes=model.disks.file_bytes(layer.number),
        logical_sector_bytes=layer.logical_sector_bytes,
        physical_sector_bytes=layer.physical_sector_bytes,
        block_bytes=0 if layer.kind is VhdType.Fixed else layer.block_bytes,
        disk_id=layer.disk_id,
        error=error,
        **facts,
    )


def get_volume(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVolume``."""
    vm = context.vm(given["VmId"])
    for volume in context.model.volumes.all(vm.vm_id):
        yield results.VolumeInfo(
            volume.root, context.model.volumes.free_bytes(volume.root), volume.total_bytes
        )


def get_job(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsJob``."""
    vm = context.vm(given["VmId"])
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
