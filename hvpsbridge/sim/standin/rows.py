"""Objects of the Hyper-V module as rows: ``{"type", field: value, ...}``, fields those of :mod:`types`."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, Model, Win32, Wmi
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import Checkpoint, Drive, Layer, VhdType, Vm, VMState

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


class Rows:
    """One host's objects, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.nodes.get(node)

    def _say(self, key: str) -> str:
        return text(self._model.knobs.language, key)

    def _vm(self, vm: str) -> Vm:
        return self._model.vms.get(UUID(vm), self._node)

    def _common(self) -> Row:
        return {"ComputerName": self._host.name, "IsDeleted": False, "CimSession": None}

    def _answer(self, vms: list[Vm], refused: list[HyperVError]) -> Row:
        objects = []
        for vm in vms:
            try:
                objects.append(self._machine_row(vm))
            except (HyperVError, DiskError, KeyError):
                continue  # it left this host while the list was made
        return {"objects": objects, "refused": [refusal(err, "") for err in refused]}

    def _machine_row(self, vm: Vm) -> Row:
        status = self._model.vms.status(vm.vm_id)
        second = {32768: "creating", 32770: "deleting", 32772: "merging"}.get(status[-1])
        now = self._model.clock.now()
        parent = None
        if vm.parent_checkpoint is not None:
            parent = self._model.checkpoints.get(vm.parent_checkpoint)
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
            "HardDrives": [self._drive_row(vm, drive, None) for drive in self._model.disks.drives(vm.vm_id)],
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
        vm = self._model.vms.get(point.vm_id, self._node)
        drives = self._model.disks.drives(vm.vm_id, point.checkpoint_id)
        parent = None
        if point.parent is not None:
            parent = self._model.checkpoints.get(point.parent)
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
            path = self._model.disks.layer(drive.layer).path
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
        parent = self._model.disks.chain(layer.number)[1].path if layer.parent is not None else ""
        return {
            "type": _VHD + "VirtualHardDisk",
            **self._common(),
            "Path": layer.path,
            "ParentPath": parent,
            "VhdFormat": int(layer.format),
            "VhdType": int(layer.kind),
            "Size": layer.size_bytes,
            "FileSize": self._model.disks.file_bytes(layer.number),
            "MinimumSize": None,
            "LogicalSectorSize": layer.logical_sector_bytes,
            "PhysicalSectorSize": layer.physical_sector_bytes,
            "BlockSize": 0 if layer.kind is VhdType.Fixed else layer.block_bytes,
            "DiskIdentifier": str(layer.disk_id).upper(),
            "FragmentationPercentage": 0,
            "Alignment": 1,
            "Attached": self._model.disks.in_use(layer.number),
            "DiskNumber": None,
            "IsPMEMCompatible": False,
            "AddressAbstractionType": 0,
        }

    def _vhd_refusal(self, err: DiskError, path: str) -> Row:
        if err.code == Win32.FILE_NOT_FOUND:
            message = f"{self._say('not_found')} '{path}' (0x80070002)"
            return refusal(HyperVError(Wmi.NOT_FOUND, message), path)
        return refusal(HyperVError(Wmi.FAILED, f"{self._say('failed')} '{path}' (0x{err.code:08X})"), path)


def refusal(err: HyperVError, target: str) -> Row:
    """A refusal of one item, for the module to report."""
    return {
        "identifier": err.identifier,
        "category": err.category,
        "message": err.message,
        "target": target,
    }
