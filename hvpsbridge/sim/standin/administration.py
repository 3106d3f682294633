"""Cmdlets that make and change VMs, as far as the probes of the conformance kit use them."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model import HyperVError, VhdFormat, VhdType, VMState, Wmi
from hvpsbridge.sim.model.state import ControllerType, Slot
from hvpsbridge.sim.standin.rows import Row, Rows


def new_vm(rows: Rows, name: str, generation: int, folder: str) -> list[Row]:
    """``New-VM``: a VM without disks, off."""
    where = f"{folder.rstrip(chr(92))}\\{name}"
    vm = rows.model.setup.create_vm(
        name, node=rows.host.name, folder=where, state=VMState.Off, generation=generation
    )
    return [rows.machine(vm)]


def set_vm(rows: Rows, vm: str, notes: str | None = None, policy: str | None = None) -> list[Row]:
    """``Set-VM`` with ``-Notes`` and ``-CheckpointType``."""
    given = {"notes": notes, "checkpoint_type": policy}
    changes = {name: value for name, value in given.items() if value is not None}
    rows.model.setup.change_vm(rows.vm(vm).vm_id, **changes)
    return []


def add_drive(
    rows: Rows, vm: str, path: str, size_bytes: int, sector_bytes: int, *, fixed: bool
) -> list[Row]:
    """``Add-VMHardDiskDrive`` of a file that ``New-VHD`` made: the next free SCSI slot."""
    found = rows.vm(vm)
    taken = {str(drive.slot) for drive in rows.model.disks.drives(found.vm_id)}
    slot = next(one for at in range(64) if str(one := Slot(ControllerType.SCSI, 0, at)) not in taken)
    rows.model.setup.add_disk(
        found.vm_id,
        slot,
        size_bytes=size_bytes,
        path=path,
        logical_sector_bytes=sector_bytes,
        format=VhdFormat.VHD if path.lower().endswith(".vhd") else VhdFormat.VHDX,
        kind=VhdType.Fixed if fixed else VhdType.Dynamic,
    )
    return []


def set_state(rows: Rows, vm: str, action: str) -> list[Row]:
    """``Start-VM`` and ``Stop-VM -TurnOff``."""
    rows.model.vms.set_state(rows.vm(vm).vm_id, action)
    return []


def remove_vm(rows: Rows, vm: str) -> list[Row]:
    """``Remove-VM``: the VM goes, and with it its files, which the real cmdlet leaves."""
    found = rows.vm(vm)
    if found.state is not VMState.Off:
        raise HyperVError(Wmi.INVALID_STATE, rows.text("busy"))
    for drive in rows.model.disks.drives(found.vm_id):
        rows.model.setup.remove_disk(found.vm_id, drive.slot)
    rows.model.setup.delete_vm(found.vm_id)
    return []


def apply_snapshot(rows: Rows, snapshot: str) -> list[Row]:
    """``Restore-VMSnapshot``."""
    job = rows.model.jobs.wait(rows.model.checkpoints.apply(UUID(snapshot)))
    if job.error_code:
        raise HyperVError(job.error_code, job.error_text)
    return []


def move_storage(rows: Rows, vm: str, folder: str) -> list[Row]:
    """``Move-VMStorage`` with ``-DestinationStoragePath``: the disks, and the VM's own path."""
    found = rows.vm(vm)
    for drive in rows.model.disks.drives(found.vm_id):
        if drive.layer is not None:
            rows.model.setup.move_disk(found.vm_id, drive.slot, f"{folder}\\Virtual Hard Disks")
    rows.model.setup.change_vm(found.vm_id, folder=folder)
    return []
