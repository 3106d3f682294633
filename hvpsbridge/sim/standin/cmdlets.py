"""What the Hyper-V cmdlets show: one method per cmdlet, giving objects as ``{"type", field: value, ...}``.

Fields are those of :mod:`types`. A list of objects may come with refusals of single items, which the
module reports as non-terminating errors.
"""

from __future__ import annotations

import fnmatch
from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, Model, Win32, Wmi
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.errors import vm_not_found
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import Checkpoint, Drive, Layer, SnapshotType, VhdType, Vm, VMState
from hvpsbridge.sim.standin.types import CLASSES, ENUMS

_HV = "Microsoft.HyperV.PowerShell."
_VHD = "Microsoft.Vhd.PowerShell."
Row = dict[str, Any]
_EMPTY = str(UUID(int=0))
# Tails of integration components' ids; names are localized (reference section 4.4).
_COMPONENTS = {
    "Guest Service Interface": "6C09BB55-D683-4DA0-8931-C9BF705F6480",
    "Heartbeat": "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47",
    "Key-Value Pair Exchange": "2A34B1C2-FD73-4043-8A5B-DD2159BC743F",
    "Shutdown": "9F8233AC-BE49-4C79-8EE3-E7E1985B2077",
    "Time Synchronization": "2497F4DE-E9FA-4204-80E4-4B75C46419C0",
    "VSS": "5CED1297-4598-4915-A5FC-AD21BB4D02A4",
}


class Cmdlets:
    """One host's cmdlets, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.node(node)

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
        vms = self._model.vms(self._node)
        if id is not None:
            found = [vm for vm in vms if vm.vm_id == UUID(id)]
            return self._answer(found, [] if found else [vm_not_found(id)])
        if not names:
            return self._answer(list(vms), [])
        matched, refused = [], []
        for name in names:
            found = [vm for vm in vms if _like(vm.name, name)]
            matched += found
            # A pattern that matches nothing is no error; a plain name is (reference section 4.1).
            if not found and not set(name) & set("*?["):
                refused.append(vm_not_found(name, by_name=True))
        return self._answer(matched, refused)

    def processor(self, vm: str) -> list[Row]:
        """``Get-VMProcessor``."""
        found = self._vm(vm)
        return [
            {
                "type": _HV + "VMProcessor",
                **self._common(),
                "Count": found.processor_count,
                "Maximum": 100,
                "Reserve": 0,
                "RelativeWeight": 100,
                "ExposeVirtualizationExtensions": False,
                "CompatibilityForMigrationEnabled": False,
                "CompatibilityForOlderOperatingSystemsEnabled": False,
                "HwThreadCountPerCore": 0,
                "MaximumCountPerNumaNode": 16,
                "MaximumCountPerNumaSocket": 1,
                "EnableHostResourceProtection": False,
            }
        ]

    def memory(self, vm: str) -> list[Row]:
        """``Get-VMMemory``."""
        found = self._vm(vm)
        return [
            {
                "type": _HV + "VMMemory",
                **self._common(),
                "Startup": found.memory_bytes,
                "Minimum": 536870912,
                "Maximum": 1099511627776,
                "MaximumPerNumaNode": 64424509440,
                "Buffer": 20,
                "Priority": 50,
                "DynamicMemoryEnabled": False,
                "ResourcePoolName": "Primordial",
            }
        ]

    def firmware(self, vm: str) -> list[Row]:
        """``Get-VMFirmware``; refused for generation 1."""
        found = self._vm(vm)
        if found.generation != 2:
            raise HyperVError(Wmi.INVALID_PARAMETER, text(self._model.knobs.language, "failed"))
        boot = [
            {
                "type": _HV + "VMBootSource",
                **self._common(),
                "BootType": 1,
                "Description": "EFI SCSI Device",
                "FirmwarePath": f"\\AcpiEx(VMBus,0,0)\\Scsi({drive.slot.controller_location},0)",
                "Device": self._drive_row(found, drive, None),
            }
            for drive in self._model.drives(found.vm_id)
        ]
        return [
            {
                "type": _HV + "VMFirmware",
                **self._common(),
                "SecureBoot": 0,
                "SecureBootTemplate": "MicrosoftWindows",
                "SecureBootTemplateId": "1734c6e8-3154-4dda-ba5f-a874cc483422",
                "BootOrder": boot,
                "PreferredNetworkBootProtocol": 0,
                "ConsoleMode": 0,
                "PauseAfterBootFailure": 1,
            }
        ]

    def bios(self, vm: str) -> list[Row]:
        """``Get-VMBios``; refused for generation 2."""
        if self._vm(vm).generation != 1:
            raise HyperVError(Wmi.INVALID_PARAMETER, text(self._model.knobs.language, "failed"))
        return [
            {"type": _HV + "VMBios", **self._common(), "NumLockEnabled": False, "StartupOrder": [1, 2, 3, 0]}
        ]

    def security(self, vm: str) -> list[Row]:
        """``Get-VMSecurity``."""
        found = self._vm(vm)
        return [
            {
                "type": _HV + "VMSecurity",
                **self._common(),
                "TpmEnabled": found.tpm_enabled,
                "KsdEnabled": False,
                "Shielded": found.shielded,
                "EncryptStateAndVmMigrationTraffic": found.shielded,
                "VirtualizationBasedSecurityOptOut": False,
                "BindToHostTpm": False,
            }
        ]

    def key_protector(self, vm: str) -> list[int]:
        """``Get-VMKeyProtector``: bytes; 00 00 00 04 for none."""
        found = self._vm(vm)
        if not (found.shielded or found.tpm_enabled):
            return [0, 0, 0, 4]
        return list(uuid5(found.vm_id, "protector").bytes * 4)

    def integration_services(self, vm: str) -> list[Row]:
        """``Get-VMIntegrationService``."""
        found = self._vm(vm)
        return [
            {
                "type": _HV + "VMIntegrationComponent",
                **self._common(),
                "Name": name,
                "Id": f"Microsoft:{str(found.vm_id).upper()}\\{tail}",
                "Enabled": name != "Guest Service Interface" and (name != "VSS" or found.guest_backup),
                "PrimaryOperationalStatus": 2 if found.state is VMState.Running else None,
                "PrimaryStatusDescription": "OK" if found.state is VMState.Running else "",
            }
            for name, tail in _COMPONENTS.items()
        ]

    def network_adapters(self, vm: str) -> list[Row]:
        """``Get-VMNetworkAdapter``."""
        return self._adapters(self._vm(vm))

    def vlan(self) -> list[Row]:
        """``Get-VMNetworkAdapterVlan``."""
        return [
            {
                "type": _HV + "VMNetworkAdapterVlanSetting",
                **self._common(),
                "OperationMode": 0,
                "AccessVlanId": 0,
                "NativeVlanId": 0,
                "PrimaryVlanId": 0,
                "SecondaryVlanId": 0,
                "AllowedVlanIdList": [],
                "AllowedVlanIdListString": "",
                "PrivateVlanMode": 0,
            }
        ]

    # -- disks ------------------------------------------------------------------------------------------

    def drives(self, vm: str | None = None, snapshot: str | None = None) -> list[Row]:
        """``Get-VMHardDiskDrive`` of a VM or of a checkpoint."""
        if snapshot is not None:
            point = self._model.checkpoint(UUID(snapshot))
            owner = self._model.vm(point.vm_id, self._node)
            drives = self._model.drives(owner.vm_id, point.checkpoint_id)
            return [self._drive_row(owner, drive, point) for drive in drives]
        found = self._vm(str(vm))
        return [self._drive_row(found, drive, None) for drive in self._model.drives(found.vm_id)]

    def dvd_drives(self, vm: str) -> list[Row]:
        """``Get-VMDvdDrive``: the model's VMs have none."""
        self._vm(vm)
        return []

    def scsi_controllers(self, vm: str) -> list[Row]:
        """``Get-VMScsiController``: at least one."""
        found = self._vm(vm)
        drives = self._model.drives(found.vm_id)
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
                found.append(self._vhd_row(self._model.layer_at(path)))
            except DiskError as err:
                refused.append(self._vhd_refusal(err, path))
        return {"objects": found, "refused": refused}

    # -- checkpoints --------------------------------------------------------------------------------------

    def snapshots(self, vm: str | None = None, id: str | None = None) -> Row:
        """``Get-VMSnapshot`` of a VM, or one by id; only those that are visible yet."""
        if id is not None:
            vms = self._model.vms(self._node)
            points = [p for m in vms for p in self._model.checkpoints(m.vm_id) if p.checkpoint_id == UUID(id)]
            refused = [] if points else [HyperVError(Wmi.NOT_FOUND, self._say("not_found"))]
        else:
            points, refused = list(self._model.checkpoints(self._vm(str(vm)).vm_id)), []
        return {
            "objects": [self._snapshot_row(point) for point in points],
            "refused": [_refusal(err, id or "") for err in refused],
        }

    def rename_snapshot(self, snapshot: str, name: str) -> list[Row]:
        """``Rename-VMSnapshot``."""
        self._model.rename_checkpoint(UUID(snapshot), name)
        return []

    def checkpoint_vm(self, vm: str, name: str) -> list[Row]:
        """``Checkpoint-VM``: a user's checkpoint, waited for."""
        found = self._vm(vm)
        job = self._model.wait(
            self._model.create_checkpoint(found.vm_id, name=name, kind=SnapshotType.Standard, node=self._node)
        )
        if job.error_code:
            raise HyperVError(job.error_code, job.error_text)
        return [self._snapshot_row(self._model.checkpoint(UUID(job.results["checkpoint"])))]

    def remove_snapshot(self, snapshot: str) -> list[Row]:
        """``Remove-VMSnapshot``, waited for; the merge goes on afterwards."""
        job = self._model.wait(self._model.remove_checkpoint(UUID(snapshot)))
        if job.error_code:
            raise HyperVError(job.error_code, job.error_text)
        return []

    # -- rows ---------------------------------------------------------------------------------------------

    def _say(self, key: str) -> str:
        return text(self._model.knobs.language, key)

    def _vm(self, vm: str) -> Vm:
        return self._model.vm(UUID(vm), self._node)

    def _common(self) -> Row:
        return {"ComputerName": self._host.name, "IsDeleted": False, "CimSession": None}

    def _answer(self, vms: list[Vm], refused: list[HyperVError]) -> Row:
        objects = []
        for vm in vms:
            try:
                objects.append(self._machine_row(vm))
            except (HyperVError, DiskError, KeyError):
                continue  # it left this host while the list was made
        return {"objects": objects, "refused": [_refusal(err, "") for err in refused]}

    def _machine_row(self, vm: Vm) -> Row:
        status = self._model.operational_status(vm.vm_id)
        second = {32768: "creating", 32770: "deleting", 32772: "merging"}.get(status[-1])
        now = self._model.clock.now()
        parent = None
        if vm.parent_checkpoint is not None:
            parent = self._model.checkpoint(vm.parent_checkpoint)
        running = vm.state is VMState.Running
        return {
            "type": _HV + "VirtualMachine",
            **self._shared_row(vm),
            "Id": str(vm.vm_id),
            "Name": vm.name,
            "State": int(vm.state),
            "CreationTime": utc(vm.created).isoformat(),
            "ParentSnapshotId": str(parent.checkpoint_id) if parent else None,
            "ParentSnapshotName": parent.name if parent else None,
            "Status": self._say(second or "normal"),
            "OperationalStatus": list(status),
            "PrimaryOperationalStatus": status[0],
            "SecondaryOperationalStatus": status[1] if len(status) > 1 else None,
            "StatusDescriptions": [self._say("normal"), *([self._say(second)] if second else [])],
            "PrimaryStatusDescription": self._say("normal"),
            "SecondaryStatusDescription": self._say(second) if second else None,
            "VirtualMachineType": 3,
            "ConfigurationLocation": vm.folder,
            "SnapshotFileLocation": vm.folder,
            "SmartPagingFilePath": vm.folder,
            "MemoryAssigned": vm.memory_bytes if running else 0,
            "MemoryDemand": vm.memory_bytes // 2 if running else 0,
            "Uptime": now - vm.started if vm.started and running else 0.0,
            "CheckpointType": int(vm.checkpoint_type),
            "AutomaticCheckpointsEnabled": vm.automatic_checkpoints,
            "AutomaticStartAction": 3,
            "AutomaticStartDelay": 0,
            "AutomaticStopAction": 3,
            "AutomaticCriticalErrorAction": 1,
            "AutomaticCriticalErrorActionTimeout": 30,
            "IsClustered": vm.clustered,
            "HardDrives": [self._drive_row(vm, drive, None) for drive in self._model.drives(vm.vm_id)],
            "DVDDrives": [],
            "NetworkAdapters": self._adapters(vm),
            "Heartbeat": 6 if running else None,
            "IntegrationServicesState": "",
            "IntegrationServicesVersion": "0.0",
            "ReplicationMode": int(vm.replication_mode),
            "GuestControlledCacheTypes": False,
            "LowMemoryMappedIoSpace": 134217728,
            "HighMemoryMappedIoSpace": 536870912,
            "LockOnDisconnect": 1,
            "BatteryPassthroughEnabled": True,
        }

    def _shared_row(self, vm: Vm) -> Row:
        """What a VM and its checkpoints show alike."""
        return {
            **self._common(),
            "VMName": vm.name,
            "VMId": str(vm.vm_id),
            "Generation": vm.generation,
            "Version": vm.version,
            "Notes": vm.notes,
            "Path": vm.folder,
            "ProcessorCount": vm.processor_count,
            "MemoryStartup": vm.memory_bytes,
            "MemoryMinimum": 536870912,
            "MemoryMaximum": 1099511627776,
            "DynamicMemoryEnabled": False,
            "SizeOfSystemFiles": 65536,
        }

    def _snapshot_row(self, point: Checkpoint) -> Row:
        vm = self._model.vm(point.vm_id, self._node)
        drives = self._model.drives(vm.vm_id, point.checkpoint_id)
        parent = None
        if point.parent is not None:
            parent = self._model.checkpoint(point.parent)
        return {
            "type": _HV + "VMSnapshot",
            **self._shared_row(vm),
            "Id": str(point.checkpoint_id),
            "Name": point.name,
            "State": int(point.state),
            "CreationTime": utc(point.created).isoformat(),
            "ParentSnapshotId": str(parent.checkpoint_id) if parent else None,
            "ParentSnapshotName": parent.name if parent else None,
            "SnapshotType": int(point.kind),
            "IsAutomaticCheckpoint": point.automatic,
            "HardDrives": [self._drive_row(vm, drive, point) for drive in drives],
            "NetworkAdapters": self._adapters(vm),
        }

    def _drive_row(self, vm: Vm, drive: Drive, point: Checkpoint | None) -> Row:
        slot = drive.slot
        path = None
        if drive.layer is not None:
            path = self._model.layer(drive.layer).path
        elif drive.pass_through_number is not None:
            path = f"Disk {drive.pass_through_number} 1.00 TB Bus 0 Lun 0 Target 0"
        kind = slot.controller_type.name
        owner = point.checkpoint_id if point else vm.vm_id
        return {
            "type": _HV + "HardDiskDrive",
            **self._common(),
            "Id": vm.instance_id(slot, owner).removesuffix("\\L") + "\\D",
            "Name": f"Hard Drive on {kind} controller number {slot.controller_number} "
            f"at location {slot.controller_location}",
            "Path": path,
            "ControllerType": int(slot.controller_type),
            "ControllerNumber": slot.controller_number,
            "ControllerLocation": slot.controller_location,
            "PoolName": "Primordial",
            "VMId": str(vm.vm_id),
            "VMName": vm.name,
            "VMSnapshotId": str(point.checkpoint_id) if point else _EMPTY,
            "VMSnapshotName": point.name if point else "",
            "DiskNumber": drive.pass_through_number,
            "SupportPersistentReservations": drive.shared,
            "MinimumIOPS": 0,
            "MaximumIOPS": 0,
            "QoSPolicyID": _EMPTY,
            "WriteHardeningMethod": 0,
        }

    def _adapters(self, vm: Vm) -> list[Row]:
        adapter = uuid5(vm.vm_id, "adapter")
        return [
            {
                "type": _HV + "VMNetworkAdapter",
                **self._common(),
                "Name": "Network Adapter",
                "Id": f"Microsoft:{str(vm.vm_id).upper()}\\{str(adapter).upper()}",
                "AdapterId": str(adapter).upper(),
                "IsLegacy": False,
                "IsSynthetic": True,
                "MacAddress": f"00155D{adapter.int & 0xFFFFFF:06X}",
                "DynamicMacAddressEnabled": True,
                "SwitchName": "External",
                "SwitchId": str(uuid5(UUID(int=0), "External")),
                "Connected": True,
                "ClusterMonitored": True,
                "IPAddresses": [],
                "MacAddressSpoofing": 1,
                "DhcpGuard": 1,
                "RouterGuard": 1,
                "AllowTeaming": 1,
                "IeeePriorityTag": 1,
                "DeviceNaming": 1,
                "VMQWeight": 100,
                "IovWeight": 0,
                "PortMirroringMode": 0,
                "DynamicIPAddressLimit": 0,
                "StormLimit": 0,
                "VMId": str(vm.vm_id),
                "VMName": vm.name,
            }
        ]

    def _vhd_row(self, layer: Layer) -> Row:
        parent = self._model.chain(layer.number)[1].path if layer.parent is not None else ""
        return {
            "type": _VHD + "VirtualHardDisk",
            **self._common(),
            "Path": layer.path,
            "ParentPath": parent,
            "VhdFormat": int(layer.format),
            "VhdType": int(layer.kind),
            "Size": layer.size_bytes,
            "FileSize": self._model.file_bytes(layer.number),
            "MinimumSize": None,
            "LogicalSectorSize": layer.logical_sector_bytes,
            "PhysicalSectorSize": layer.physical_sector_bytes,
            "BlockSize": 0 if layer.kind is VhdType.Fixed else layer.block_bytes,
            "DiskIdentifier": str(layer.disk_id).upper(),
            "FragmentationPercentage": 0,
            "Alignment": 1,
            "Attached": self._model.in_use(layer.number),
            "DiskNumber": None,
            "IsPMEMCompatible": False,
            "AddressAbstractionType": 0,
        }

    def _vhd_refusal(self, err: DiskError, path: str) -> Row:
        if err.code == Win32.FILE_NOT_FOUND:
            message = f"{self._say('not_found')} '{path}' (0x80070002)"
            return _refusal(HyperVError(Wmi.NOT_FOUND, message), path)
        return _refusal(HyperVError(Wmi.FAILED, f"{self._say('failed')} '{path}' (0x{err.code:08X})"), path)


def _refusal(err: HyperVError, target: str) -> Row:
    return {
        "identifier": err.identifier,
        "category": err.category,
        "message": err.message,
        "target": target,
    }


def _like(name: str, pattern: str) -> bool:
    """PowerShell's wildcard match: ``*``, ``?`` and ``[...]``, letter case aside, backtick quotes."""
    plain = pattern.replace("`[", "[[]").replace("`*", "[*]").replace("`?", "[?]").replace("`]", "]")
    return fnmatch.fnmatchcase(name.lower(), plain.lower())
