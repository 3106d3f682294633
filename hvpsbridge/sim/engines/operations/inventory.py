"""Operations that show the host and its VMs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hvpsbridge.contract import readings, results
from hvpsbridge.sim.engines.operations.context import Context, DriveChain, answers, utc
from hvpsbridge.sim.model import ControllerType, DiskError, VhdFormat, VhdType
from hvpsbridge.sim.model.state import Vm

# How often the drives of a VM are listed until each has an allocation.
ROUNDS = 3
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
    clustered = answers(lambda: context.cmdlet("Get-Cluster"))
    updated = answers(lambda: context.method("StdRegProv.GetDWORDValue"))
    identified = answers(lambda: context.query("Win32_ComputerSystemProduct"))
    yield results.HostInfo(
        name=node.name,
        fqdn=node.fqdn,
        machine_id=node.machine_id if identified else None,
        os_version=node.os_version,
        os_build=node.os_build,
        os_revision=node.os_revision if updated else None,
        powershell_version="5.1.20348.1",
        language_mode=model.knobs.language_mode,
        is_64bit=True,
        is_administrator=model.knobs.rights == "administrator",
        culture={"de": "de-DE", "ja": "ja-JP"}.get(model.knobs.language, "en-US"),
        hyperv_module_version="2.0.0.0",
        supported_vm_versions=node.supported_vm_versions,
        secure_boot_templates=node.secure_boot_templates,
        logical_processors=node.logical_processors,
        memory_bytes=node.memory_bytes,
        cluster=node.cluster if clustered else None,
        time=utc(model.clock.now()),
        boot_time=utc(node.booted),
        process_id=context.process.process_id,
        process_started=context.process.started,
    )


def test_reader(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Test-HvpsReader``. There is nothing to compile, which shows in the time it takes."""
    started = time.monotonic()
    context.model.nodes.get(context.node)
    with suppress(DiskError):
        context.function("OpenVirtualDisk", "")
    yield readings.ReaderCheck(compiled=True, seconds=time.monotonic() - started)


def get_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDisk``."""
    vm = context.vm(given["VmId"])
    for _ in range(ROUNDS):
        rows = context.drive_chains(vm)
        allocated = _allocations_can_be_read(context, vm)
        if allocated or not any(row.drive.layer is not None for row in rows):
            break
        context.pause()
    for row in rows:
        yield _disk_info(context, vm, row, allocated=allocated)


def _allocations_can_be_read(context: Context, vm: Vm) -> bool:
    return (
        answers(lambda: context.query("Msvm_ComputerSystem", vm.vm_id))
        and answers(lambda: context.associated("Msvm_VirtualSystemSettingData", vm.vm_id))
        and answers(lambda: context.associated("Msvm_StorageAllocationSettingData", vm.vm_id))
    )


def _disk_info(context: Context, vm: Vm, row: DriveChain, *, allocated: bool) -> results.DiskInfo:
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
    facts["instance_id"] = None if layer is None or not allocated else vm.instance_id(slot)
    facts["path"] = None if layer is None else layer.drive_path
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
