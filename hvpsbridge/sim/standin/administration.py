"""Cmdlets that make and change VMs, as far as restores and the conformance kit use them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import HyperVError, VMState, Wmi
from hvpsbridge.sim.model.state import Vm
from hvpsbridge.sim.standin.cmdlets import TEMPLATES
from hvpsbridge.sim.standin.rows import HV, Row, Rows


def new_vm(
    rows: Rows,
    name: str,
    generation: int,
    folder: str,
    memory_bytes: int | None = None,
    version: str | None = None,
) -> list[Row]:
    """``New-VM``: a VM without disks, off.

    Raises:
        HyperVError: the host does not have the configuration version, or there is no such generation.
    """
    versions = rows.host.supported_vm_versions
    if generation not in (1, 2) or (version is not None and version not in versions):
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    where = f"{folder.rstrip(chr(92))}\\{name}"
    vm = rows.model.setup.create_vm(
        name,
        node=rows.host.name,
        folder=where,
        state=VMState.Off,
        generation=generation,
        version=version or versions[-1],
    )
    if generation == 1:
        # New-VM gives it an empty DVD drive.
        vm.hardware["dvd"] = {"ide1:0": None}
    if memory_bytes:
        rows.model.setup.change_vm(vm.vm_id, memory_bytes=memory_bytes)
    return [rows.machine(vm)]


def set_vm(
    rows: Rows,
    vm: str,
    notes: str | None = None,
    policy: str | None = None,
    members: dict[str, Any] | None = None,
) -> list[Row]:
    """``Set-VM``: ``-Notes``, ``-CheckpointType``, and members of ``Get-VM`` that are numbers."""
    given = {"notes": notes, "checkpoint_type": policy}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    shown = dict(members or {})
    if "AutomaticCheckpointsEnabled" in shown:
        changes["automatic_checkpoints"] = shown.pop("AutomaticCheckpointsEnabled")
    found = rows.vm(vm)
    rows.model.setup.change_vm(found.vm_id, **changes)
    _set(rows, found, "vm", shown)
    return []


def set_processor(rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMProcessor``.

    Raises:
        HyperVError: the host has fewer processors.
    """
    found = rows.vm(vm)
    count = members.pop("Count", found.processor_count)
    if not 0 < count <= rows.host.logical_processors:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    rows.model.setup.change_vm(found.vm_id, processor_count=count)
    _set(rows, found, "processor", members)
    return []


def set_memory(rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMMemory``.

    Raises:
        HyperVError: minimum, startup and maximum are not in this order.
    """
    found = rows.vm(vm)
    now = {"Startup": found.memory_bytes, **found.hardware.get("memory", {}), **members}
    low, high = now.get("Minimum", now["Startup"]), now.get("Maximum", now["Startup"])
    if now.get("DynamicMemoryEnabled") and not low <= now["Startup"] <= high:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    rows.model.setup.change_vm(found.vm_id, memory_bytes=now["Startup"])
    _set(rows, found, "memory", {key: value for key, value in members.items() if key != "Startup"})
    return []


def set_firmware(rows: Rows, vm: str, members: dict[str, Any], boot: list[str] | None = None) -> list[Row]:
    """``Set-VMFirmware``. ``boot`` has slots of drives and ids of adapters.

    Raises:
        HyperVError: generation 1, an unknown template, or a device of another VM.
    """
    found = rows.vm(vm)
    template = members.get("SecureBootTemplate")
    if found.generation != 2 or (template is not None and template not in rows.host.secure_boot_templates):
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    if boot is not None:
        known = {str(drive.slot) for drive in rows.model.disks.drives(found.vm_id)}
        known |= set(found.hardware.get("dvd", {}))
        known |= {row["Id"] for row in rows.adapters(found)}
        if set(boot) - known:
            raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
        found.hardware["boot_order"] = boot
    if template is not None:
        members = {**members, "SecureBootTemplateId": TEMPLATES[template]}
    _set(rows, found, "firmware", members)
    return []


def set_bios(rows: Rows, vm: str, members: dict[str, Any]) -> list[Row]:
    """``Set-VMBios``.

    Raises:
        HyperVError: generation 2.
    """
    found = rows.vm(vm)
    if found.generation != 1:
        raise HyperVError(Wmi.INVALID_PARAMETER, rows.text("failed"))
    _set(rows, found, "bios", members)
    return []


def set_service(rows: Rows, vm: str, id: str, *, enabled: bool) -> list[Row]:
    """``Enable-VMIntegrationService`` and ``Disable-VMIntegrationService``."""
    _set(rows, rows.vm(vm), "services", {id.rpartition("\\")[2]: enabled})
    return []


def enable_service(rows: Rows, vm: str, id: str) -> list[Row]:
    """``Enable-VMIntegrationService``."""
    return set_service(rows, vm, id, enabled=True)


def disable_service(rows: Rows, vm: str, id: str) -> list[Row]:
    """``Disable-VMIntegrationService``."""
    return set_service(rows, vm, id, enabled=False)


def switches(rows: Rows) -> list[Row]:
    """``Get-VMSwitch``."""
    return [
        {
            "type": HV + "VMSwitch",
            **rows.common(),
            "Name": name,
            "Id": str(uuid5(UUID(int=0), name)),
            "SwitchType": 2,
            "Notes": "",
        }
        for name in rows.host.switches
    ]


def _set(rows: Rows, vm: Vm, part: str, members: dict[str, Any]) -> None:
    if members:
        vm.hardware[part] = {**vm.hardware.get(part, {}), **members}
        rows.model.setup.change_vm(vm.vm_id)


def start_vm(rows: Rows, vm: str) -> list[Row]:
    """``Start-VM``."""
    return set_state(rows, vm, "start")


def set_state(rows: Rows, vm: str, action: str) -> list[Row]:
    """``Stop-VM``."""
    rows.model.vms.set_state(rows.vm(vm).vm_id, action)
    return []


def remove_saved_state(rows: Rows, vm: str) -> list[Row]:
    """``Remove-VMSavedState``."""
    rows.model.vms.set_state(rows.vm(vm).vm_id, "discard")
    return []


def remove_vm(rows: Rows, vm: str) -> list[Row]:
    """``Remove-VM``. Files that a program wrote stay; others go with the VM, which the real cmdlet leaves."""
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
