"""What the Hyper-V cmdlets show: one method per cmdlet, giving objects as ``{"type", field: value, ...}``.

Fields are those of :mod:`types`. A list of objects may come with refusals of single items, which the
module reports as non-terminating errors.
"""

from __future__ import annotations

import fnmatch
from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, Wmi
from hvpsbridge.sim.model.errors import vm_not_found
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.sim.standin.hardware import Hardware
from hvpsbridge.sim.standin.rows import refusal
from hvpsbridge.sim.standin.types import CLASSES, ENUMS

_HV = "Microsoft.HyperV.PowerShell."
_VHD = "Microsoft.Vhd.PowerShell."
Row = dict[str, Any]
_EMPTY = str(UUID(int=0))
# Tails of integration services' ids; names are localized (docs/hyperv-facts.md#integration-services).
_COMPONENTS = {
    "Guest Service Interface": "6C09BB55-D683-4DA0-8931-C9BF705F6480",
    "Heartbeat": "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47",
    "Key-Value Pair Exchange": "2A34B1C2-FD73-4043-8A5B-DD2159BC743F",
    "Shutdown": "9F8233AC-BE49-4C79-8EE3-E7E1985B2077",
    "Time Synchronization": "2497F4DE-E9FA-4204-80E4-4B75C46419C0",
    "VSS": "5CED1297-4598-4915-A5FC-AD21BB4D02A4",
}


class Cmdlets(Hardware):
    """One host's cmdlets, for one call."""

    def types(self) -> Row:
        """Enums and classes the module defines, and how the module errs (:mod:`types`)."""
        return {"enums": ENUMS, "classes": CLASSES}

    # -- host and VMs -----------------------------------------------------------------------------------

    def host(self) -> list[Row]:
        """``Get-VMHost``."""
        host = self._host
        return [
            {
                "type": _HV + "VMHost",
                "Name": host.name,
                "ComputerName": host.name,
                "FullyQualifiedDomainName": host.fqdn or host.name,
                "VirtualHardDiskPath": "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks",
                "VirtualMachinePath": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V",
                "LogicalProcessorCount": host.logical_processors,
                "MemoryCapacity": host.memory_bytes,
                "SupportedVmVersions": list(host.supported_vm_versions),
                "MacAddressMinimum": "00155D0A0000",
                "MacAddressMaximum": "00155D0AFFFF",
                "MaximumVirtualMachineMigrations": 2,
                "MaximumStorageMigrations": 2,
                "VirtualMachineMigrationEnabled": host.cluster is not None,
                "NumaSpanningEnabled": True,
            }
        ]

    def supported_versions(self) -> list[Row]:
        """``Get-VMHostSupportedVersion``."""
        versions = self._host.supported_vm_versions
        return [
            {
                "type": _HV + "VMHostSupportedVersion",
                "Name": f"Version {version}",
                "Version": version,
                "IsDefault": version == versions[-1],
            }
            for version in versions
        ]

    def machines(self, id: str | None = None, names: list[str] | None = None) -> Row:
        """``Get-VM``: all, by id, or by wildcard patterns."""
        vms = self._model.vms.all(self._node)
        if id is not None:
            found = [vm for vm in vms if vm.vm_id == UUID(id)]
            return self._answer(found, [] if found else [vm_not_found(id)])
        if not names:
            return self._answer(list(vms), [])
        matched, refused = [], []
        for name in names:
            found = [vm for vm in vms if _like(vm.name, name)]
            matched += found
            # A pattern that matches nothing is no error; a plain name is (docs/hyperv-facts.md#missing-vm).
            if not found and not set(name) & set("*?["):
                refused.append(vm_not_found(name, by_name=True))
        return self._answer(matched, refused)

    # -- disks ------------------------------------------------------------------------------------------

    def drives(self, vm: str | None = None, snapshot: str | None = None) -> list[Row]:
        """``Get-VMHardDiskDrive`` of a VM or of a checkpoint."""
        if snapshot is not None:
            point = self._model.checkpoints.get(UUID(snapshot))
            owner = self._model.vms.get(point.vm_id, self._node)
            drives = self._model.disks.drives(owner.vm_id, point.checkpoint_id)
            return [self._drive_row(owner, drive, point) for drive in drives]
        found = self._vm(str(vm))
        return [self._drive_row(found, drive, None) for drive in self._model.disks.drives(found.vm_id)]

    def dvd_drives(self, vm: str) -> list[Row]:
        """``Get-VMDvdDrive``: the model's VMs have none."""
        self._vm(vm)
        return []

    def scsi_controllers(self, vm: str) -> list[Row]:
        """``Get-VMScsiController``: at least one."""
        found = self._vm(vm)
        drives = self._model.disks.drives(found.vm_id)
        numbers = {0} | {d.slot.controller_number for d in drives if d.slot.controller_type.name == "SCSI"}
        return [
            {
                "type": _HV + "VMScsiController",
                **self._common(),
                "ControllerNumber": number,
                "Name": "SCSI Controller",
                "Id": f"Microsoft:{found.vm_id}\\{uuid5(found.vm_id, f'SCSI{number}')}\\0".upper(),
                "Drives": [],
            }
            for number in sorted(numbers)
        ]

    def vhds(self, paths: list[str]) -> Row:
        """``Get-VHD`` by path."""
        found, refused = [], []
        for path in paths:
            try:
                with self._model.timeline.hold():
                    found.append(self._vhd_row(self._model.disks.at(path)))
            except DiskError as err:
                refused.append(self._vhd_refusal(err, path))
        return {"objects": found, "refused": refused}

    # -- checkpoints --------------------------------------------------------------------------------------

    def snapshots(self, vm: str | None = None, id: str | None = None) -> Row:
        """``Get-VMSnapshot`` of a VM, or one by id; only those that are visible yet."""
        if id is not None:
            vms = self._model.vms.all(self._node)
            points = [
                p for m in vms for p in self._model.checkpoints.all(m.vm_id) if p.checkpoint_id == UUID(id)
            ]
            refused = [] if points else [HyperVError(Wmi.NOT_FOUND, self._say("not_found"))]
        else:
            points, refused = list(self._model.checkpoints.all(self._vm(str(vm)).vm_id)), []
        return {
            "objects": [self._snapshot_row(point) for point in points],
            "refused": [refusal(err, id or "") for err in refused],
        }

    def rename_snapshot(self, snapshot: str, name: str) -> list[Row]:
        """``Rename-VMSnapshot``."""
        self._model.checkpoints.rename(UUID(snapshot), name)
        return []

    def checkpoint_vm(self, vm: str, name: str) -> list[Row]:
        """``Checkpoint-VM``: a user's checkpoint, waited for."""
        found = self._vm(vm)
        job = self._model.jobs.wait(
            self._model.checkpoints.create(
                found.vm_id, name=name, kind=SnapshotType.Standard, node=self._node
            )
        )
        if job.error_code:
            raise HyperVError(job.error_code, job.error_text)
        return [self._snapshot_row(self._model.checkpoints.get(UUID(job.results["checkpoint"])))]

    def remove_snapshot(self, snapshot: str) -> list[Row]:
        """``Remove-VMSnapshot``, waited for; the merge goes on afterwards."""
        job = self._model.jobs.wait(self._model.checkpoints.remove(UUID(snapshot)))
        if job.error_code:
            raise HyperVError(job.error_code, job.error_text)
        return []


def _like(name: str, pattern: str) -> bool:
    """PowerShell's wildcard match: ``*``, ``?`` and ``[...]``, letter case aside, backtick quotes."""
    plain = pattern.replace("`[", "[[]").replace("`*", "[*]").replace("`?", "[?]").replace("`]", "]")
    return fnmatch.fnmatchcase(name.lower(), plain.lower())
