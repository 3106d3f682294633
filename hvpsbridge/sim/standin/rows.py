"""Objects of the Hyper-V module as rows: ``{"type", field: value, ...}``, with the fields of ``types``."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import DiskError, HyperVError, Model, Win32, Wmi
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.planning import adapters_of
from hvpsbridge.sim.model.state import Checkpoint, Drive, Slot, VhdType, Vm, VMState
from hvpsbridge.sim.model.stored import Layer

HV = "Microsoft.HyperV.PowerShell."
VHD = "Microsoft.Vhd.PowerShell."
Row = dict[str, Any]
_EMPTY = str(UUID(int=0))


class Rows:
    """Builds the rows that one host shows, for one call.

    Attributes:
        model: the simulated world.
        node: name of the host; None for the first.
        host: the host.
    """

    def __init__(self, model: Model, node: str | None) -> None:
        self.model = model
        self.node = node
        self.host = model.nodes.get(node)

    def text(self, key: str) -> str:
        """A message in the host's language."""
        return text(self.model.knobs.language, key)

    def vm(self, vm: str) -> Vm:
        """The VM with this id.

        Raises:
            HyperVError: it is not on this host.
        """
        return self.model.vms.get(UUID(vm), self.node)

    def common(self) -> Row:
        """Fields that every object has."""
        return {"ComputerName": self.host.name, "IsDeleted": False, "CimSession": None}

    def answer(self, vms: list[Vm], refused: list[HyperVError]) -> Row:
        """Rows of VMs, and refusals. VMs that have left the host meanwhile are left out."""
        objects = []
        for vm in vms:
            try:
                objects.append(self.machine(vm))
            except (HyperVError, DiskError, KeyError):
                continue
        return {"objects": objects, "refused": [refusal(err, "") for err in refused]}

    def machine(self, vm: Vm) -> Row:
        """``VirtualMachine``."""
        status = self.model.vms.status(vm.vm_id)
        second = {32768: "creating", 32770: "deleting", 32772: "merging"}.get(status[-1])
        now = self.model.clock.now()
        parent = None
        if vm.parent_checkpoint is not None:
            parent = self.model.checkpoints.get(vm.parent_checkpoint)
        running = vm.state is VMState.Running
        return {
            "type": HV + "VirtualMachine",
            **self._shared_row(vm),
            "Id": str(vm.vm_id),
            "Name": vm.name,
            "State": int(vm.state),
            "CreationTime": utc(vm.created).isoformat(),
            "ParentSnapshotId": str(parent.checkpoint_id) if parent else None,
            "ParentSnapshotName": parent.name if parent else None,
            "Status": self.text(second or "normal"),
            "OperationalStatus": list(status),
            "PrimaryOperationalStatus": status[0],
            "SecondaryOperationalStatus": status[1] if len(status) > 1 else None,
            "StatusDescriptions": [self.text("normal"), *([self.text(second)] if second else [])],
            "PrimaryStatusDescription": self.text("normal"),
            "SecondaryStatusDescription": self.text(second) if second else None,
            "VirtualMachineType": 3,
            "ConfigurationLocation": vm.folder,
            "SnapshotFileLocation": vm.folder,
            "SmartPagingFilePath": vm.folder,
            "MemoryAssigned": vm.memory_bytes if running else 0,
            "MemoryDemand": vm.memory_bytes // 2 if running else 0,
            "Uptime": now - vm.started if vm.started and running else 0.0,
            "CheckpointType": int(vm.checkpoint_type),
            "AutomaticCheckpointsEnabled": vm.automatic_checkpoints,
            **{
                "AutomaticStartAction": 3,
                "AutomaticStartDelay": 0,
                "AutomaticStopAction": 3,
                "AutomaticCriticalErrorAction": 1,
                "AutomaticCriticalErrorActionTimeout": 30,
                **vm.hardware.get("vm", {}),
            },
            "IsClustered": vm.clustered,
            "HardDrives": [self.drive(vm, drive, None) for drive in self.model.disks.drives(vm.vm_id)],
            "DVDDrives": [],
            "NetworkAdapters": self.adapters(vm),
            "Heartbeat": self.heartbeat(vm),
            "IntegrationServicesState": "",
            "IntegrationServicesVersion": "0.0",
            "ReplicationMode": int(vm.replication_mode),
            "GuestControlledCacheTypes": False,
            "LowMemoryMappedIoSpace": 134217728,
            "HighMemoryMappedIoSpace": 536870912,
            "LockOnDisconnect": 1,
            "BatteryPassthroughEnabled": True,
            # Not a field: members that fail when they are read.
            "unreadable": ["ReplicationMode", "Uptime"] if vm.unreadable else [],
        }

    def heartbeat(self, vm: Vm) -> int | None:
        """``VMHeartbeatStatus``: NoContact until the guest has started, then OkApplicationsHealthy."""
        if vm.state is not VMState.Running:
            return None
        up_seconds = self.model.clock.now() - (vm.started or 0.0)
        return 6 if up_seconds >= self.model.knobs.heartbeat_seconds else 2

    def _shared_row(self, vm: Vm) -> Row:
        """What a VM and its checkpoints show alike."""
        return {
            **self.common(),
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

    def snapshot(self, point: Checkpoint) -> Row:
        """``VMSnapshot``."""
        vm = self.model.vms.get(point.vm_id, self.node)
        drives = self.model.disks.drives(vm.vm_id, point.checkpoint_id)
        parent = None
        if point.parent is not None:
            parent = self.model.checkpoints.get(point.parent)
        return {
            "type": HV + "VMSnapshot",
            **self._shared_row(vm),
            "Id": str(point.checkpoint_id),
            "Name": point.name,
            "State": int(point.state),
            "CreationTime": utc(point.created).isoformat(),
            "ParentSnapshotId": str(parent.checkpoint_id) if parent else None,
            "ParentSnapshotName": parent.name if parent else None,
            "SnapshotType": int(point.kind),
            "IsAutomaticCheckpoint": point.automatic,
            "HardDrives": [self.drive(vm, drive, point) for drive in drives],
            "NetworkAdapters": self.adapters(vm),
        }

    def drive(self, vm: Vm, drive: Drive, point: Checkpoint | None) -> Row:
        """``HardDiskDrive`` of a VM, or of a checkpoint of it."""
        slot = drive.slot
        path = None
        if drive.layer is not None:
            path = self.model.disks.layer(drive.layer).drive_path
        elif drive.pass_through_number is not None:
            path = f"Disk {drive.pass_through_number} 1.00 TB Bus 0 Lun 0 Target 0"
        kind = slot.controller_type.name
        owner = point.checkpoint_id if point else vm.vm_id
        return {
            "type": HV + "HardDiskDrive",
            **self.common(),
            "Id": vm.instance_id(slot, owner).removesuffix("\\L") + "\\D",
            "Name": f"Hard Drive on {kind} controller number {slot.controller_number} "
            f"at location {slot.controller_location}",
            **_drive_members(vm, slot, path, point),
            "DiskNumber": drive.pass_through_number,
            "SupportPersistentReservations": drive.shared,
            "MinimumIOPS": 0,
            "MaximumIOPS": 0,
            **vm.hardware.get("limits", {}).get(str(slot), {}),
            "QoSPolicyID": _EMPTY,
            "WriteHardeningMethod": 0,
        }

    def dvd_drives(self, vm: Vm) -> list[Row]:
        """``DvdDrive`` of a VM: those that cmdlets have added."""
        return [
            {
                "type": HV + "DvdDrive",
                **self.common(),
                "Id": vm.instance_id(slot).removesuffix("\\L") + "\\D",
                "Name": f"DVD Drive on {slot.controller_type.name} controller number "
                f"{slot.controller_number} at location {slot.controller_location}",
                **_drive_members(vm, slot, path, None),
                "DvdMediaType": "None" if path is None else "ISO",
            }
            for slot, path in ((Slot.parse(text), path) for text, path in vm.hardware.get("dvd", {}).items())
        ]

    def adapters(self, vm: Vm) -> list[Row]:
        """``VMNetworkAdapter`` of a VM: one, unless a cmdlet has changed that."""
        return [self._adapter(vm, each["key"], each["members"]) for each in adapters_of(vm.hardware)]

    def _adapter(self, vm: Vm, key: str, members: Row) -> Row:
        adapter = uuid5(vm.vm_id, key)
        return {
            "type": HV + "VMNetworkAdapter",
            **self.common(),
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
            "BandwidthSetting": None,
            "VMId": str(vm.vm_id),
            "VMName": vm.name,
            **members,
        }

    def vhd(self, layer: Layer) -> Row:
        """``VirtualHardDisk``."""
        parent = self.model.disks.chain(layer.number)[1].path if layer.parent is not None else ""
        return {
            "type": VHD + "VirtualHardDisk",
            **self.common(),
            "Path": layer.path,
            "ParentPath": parent,
            "VhdFormat": int(layer.format),
            "VhdType": int(layer.kind),
            "Size": layer.size_bytes,
            "FileSize": self.model.disks.file_bytes(layer.number),
            "MinimumSize": None,
            "LogicalSectorSize": layer.logical_sector_bytes,
            "PhysicalSectorSize": layer.physical_sector_bytes,
            "BlockSize": 0 if layer.kind is VhdType.Fixed else layer.block_bytes,
            "DiskIdentifier": str(layer.disk_id).upper(),
            "FragmentationPercentage": 0,
            "Alignment": 1,
            "Attached": self.model.disks.in_use(layer.number),
            "DiskNumber": None,
            "IsPMEMCompatible": False,
            "AddressAbstractionType": 0,
        }

    def vhd_refusal(self, err: DiskError, path: str) -> Row:
        """The error of ``Get-VHD`` for one path."""
        if err.code == Win32.FILE_NOT_FOUND:
            message = f"{self.text('not_found')} '{path}' (0x80070002)"
            return refusal(HyperVError(Wmi.NOT_FOUND, message), path)
        return refusal(HyperVError(Wmi.FAILED, f"{self.text('failed')} '{path}' (0x{err.code:08X})"), path)


def refusal(err: HyperVError, target: str) -> Row:
    """An error for one item, which the module reports."""
    return {
        "identifier": err.identifier,
        "category": err.category,
        "message": err.message,
        "target": target,
    }


def _drive_members(vm: Vm, slot: Slot, path: str | None, point: Checkpoint | None) -> Row:
    """Members of ``HardDiskDrive`` and ``DvdDrive`` alike."""
    return {
        "Path": path,
        "ControllerType": int(slot.controller_type),
        "ControllerNumber": slot.controller_number,
        "ControllerLocation": slot.controller_location,
        "PoolName": "Primordial",
        "VMId": str(vm.vm_id),
        "VMName": vm.name,
        "VMSnapshotId": str(point.checkpoint_id) if point else _EMPTY,
        "VMSnapshotName": point.name if point else "",
    }
