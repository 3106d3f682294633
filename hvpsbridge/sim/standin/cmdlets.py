"""What the Hyper-V cmdlets show of a host, its VMs, disks and checkpoints: one function per cmdlet.

Rows may come with refusals of single items, which the stand-in module reports as non-terminating errors.
"""

from __future__ import annotations

import fnmatch
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, Wmi
from hvpsbridge.sim.model.errors import vm_not_found
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.sim.standin.enums import ENUMS
from hvpsbridge.sim.standin.rows import HV, Row, Rows, refusal
from hvpsbridge.sim.standin.types import CLASSES

# Names of SecureBootTemplates of Get-VMHost, and their ids.
TEMPLATES = {
    "MicrosoftWindows": "1734c6e8-3154-4dda-ba5f-a874cc483422",
    "MicrosoftUEFICertificateAuthority": "272e7447-90a4-4563-a4b9-8e4ab00526ce",
    "OpenSourceShieldedVM": "4292ae2b-ee2c-42b5-a969-dd8f8689f6f3",
}


def types(rows: Rows) -> Row:
    """Enums and classes that the module defines."""
    return {"enums": ENUMS, "classes": CLASSES}


def host(rows: Rows) -> list[Row]:
    """``Get-VMHost``."""
    host = rows.host
    return [
        {
            "type": HV + "VMHost",
            "Name": host.name,
            "ComputerName": host.name,
            "FullyQualifiedDomainName": host.fqdn or host.name,
            "VirtualHardDiskPath": "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks",
            "VirtualMachinePath": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V",
            "LogicalProcessorCount": host.logical_processors,
            "MemoryCapacity": host.memory_bytes,
            "SupportedVmVersions": list(host.supported_vm_versions),
            "SecureBootTemplates": [
                {"type": HV + "SecureBootTemplate", "Name": name, "Id": TEMPLATES[name]}
                for name in host.secure_boot_templates
            ],
            "MacAddressMinimum": "00155D0A0000",
            "MacAddressMaximum": "00155D0AFFFF",
            "MaximumVirtualMachineMigrations": 2,
            "MaximumStorageMigrations": 2,
            "VirtualMachineMigrationEnabled": host.cluster is not None,
            "NumaSpanningEnabled": True,
        }
    ]


def supported_versions(rows: Rows) -> list[Row]:
    """``Get-VMHostSupportedVersion``."""
    versions = rows.host.supported_vm_versions
    return [
        {
            "type": HV + "VMHostSupportedVersion",
            "Name": f"Version {version}",
            "Version": version,
            "IsDefault": version == versions[-1],
        }
        for version in versions
    ]


def machines(rows: Rows, id: str | None = None, names: list[str] | None = None) -> Row:
    """``Get-VM``: all, by id, or by wildcard patterns."""
    vms = rows.model.vms.all(rows.node)
    if id is not None:
        found = [vm for vm in vms if vm.vm_id == UUID(id)]
        return rows.answer(found, [] if found else [vm_not_found(id)])
    if not names:
        return rows.answer(list(vms), [])
    matched, refused = [], []
    for name in names:
        found = [vm for vm in vms if _like(vm.name, name)]
        matched += found
        # A pattern without a match is not an error; a name is (docs/hyperv-facts.md#missing-vm).
        if not found and not set(name) & set("*?["):
            refused.append(vm_not_found(name, by_name=True))
    return rows.answer(matched, refused)


def drives(rows: Rows, vm: str | None = None, snapshot: str | None = None) -> list[Row]:
    """``Get-VMHardDiskDrive`` of a VM or of a checkpoint."""
    if snapshot is not None:
        point = rows.model.checkpoints.get(UUID(snapshot))
        owner = rows.model.vms.get(point.vm_id, rows.node)
        drives = rows.model.disks.drives(owner.vm_id, point.checkpoint_id)
        return [rows.drive(owner, drive, point) for drive in drives]
    found = rows.vm(str(vm))
    return [rows.drive(found, drive, None) for drive in rows.model.disks.drives(found.vm_id)]


def dvd_drives(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMDvdDrive``."""
    return rows.dvd_drives(rows.vm(vm))


def scsi_controllers(rows: Rows, vm: str) -> list[Row]:
    """``Get-VMScsiController``. Every VM has at least one."""
    found = rows.vm(vm)
    drives = rows.model.disks.drives(found.vm_id)
    numbers = set(range(found.hardware.get("scsi_controllers", 1)))
    numbers |= {d.slot.controller_number for d in drives if d.slot.controller_type.name == "SCSI"}
    return [
        {
            "type": HV + "VMScsiController",
            **rows.common(),
            "ControllerNumber": number,
            "Name": "SCSI Controller",
            "Id": f"Microsoft:{found.vm_id}\\{uuid5(found.vm_id, f'SCSI{number}')}\\0".upper(),
            "Drives": [],
        }
        for number in sorted(numbers)
    ]


def vhds(rows: Rows, paths: list[str]) -> Row:
    """``Get-VHD`` by path."""
    found, refused = [], []
    for path in paths:
        try:
            with rows.model.timeline.hold():
                layer = rows.model.disks.at(path)
                rows.model.disks.check_busy(layer.number)
                found.append(rows.vhd(layer))
        except DiskError as err:
            refused.append(rows.vhd_refusal(err, path))
        except HyperVError as err:
            refused.append(refusal(err, path))
    return {"objects": found, "refused": refused}


def resize_vhd(rows: Rows, path: str, size_bytes: int) -> Row:
    """``Resize-VHD``."""
    try:
        rows.model.disks.resize(path, size_bytes)
    except DiskError as err:
        return {"objects": [], "refused": [rows.vhd_refusal(err, path)]}
    return {"objects": [], "refused": []}


def snapshots(rows: Rows, vm: str | None = None, id: str | None = None) -> Row:
    """``Get-VMSnapshot`` of a VM, or by id. Only those that are visible already."""
    if id is not None:
        vms = rows.model.vms.all(rows.node)
        points = [p for m in vms for p in rows.model.checkpoints.all(m.vm_id) if p.checkpoint_id == UUID(id)]
        refused = [] if points else [HyperVError(Wmi.NOT_FOUND, rows.text("not_found"))]
    else:
        points, refused = list(rows.model.checkpoints.all(rows.vm(str(vm)).vm_id)), []
    return {
        "objects": [rows.snapshot(point) for point in points],
        "refused": [refusal(err, id or "") for err in refused],
    }


def rename_snapshot(rows: Rows, snapshot: str, name: str) -> list[Row]:
    """``Rename-VMSnapshot``."""
    rows.model.checkpoints.rename(UUID(snapshot), name)
    return []


def checkpoint_vm(rows: Rows, vm: str, name: str) -> list[Row]:
    """``Checkpoint-VM``: create a user's checkpoint and wait for it."""
    found = rows.vm(vm)
    job = rows.model.jobs.wait(
        rows.model.checkpoints.create(found.vm_id, name=name, kind=SnapshotType.Standard, node=rows.node)
    )
    if job.error_code:
        raise HyperVError(job.error_code, job.error_text)
    return [rows.snapshot(rows.model.checkpoints.get(UUID(job.results["checkpoint"])))]


def remove_snapshot(rows: Rows, snapshot: str) -> list[Row]:
    """``Remove-VMSnapshot``: remove a checkpoint and wait for it, but not for the merge."""
    job = rows.model.jobs.wait(rows.model.checkpoints.remove(UUID(snapshot)))
    if job.error_code:
        raise HyperVError(job.error_code, job.error_text)
    return []


def _like(name: str, pattern: str) -> bool:
    """PowerShell's wildcards ``*``, ``?`` and ``[...]``, ignoring case; a backtick escapes."""
    plain = pattern.replace("`[", "[[]").replace("`*", "[*]").replace("`?", "[?]").replace("`]", "]")
    return fnmatch.fnmatchcase(name.lower(), plain.lower())
