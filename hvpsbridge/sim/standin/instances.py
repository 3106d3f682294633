"""Instances of the WMI classes, made from the model on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from hvpsbridge.sim.model import Model, SnapshotType, VMState
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.configuration import data_file, data_root
from hvpsbridge.sim.model.state import Checkpoint, Drive, Job, ReferencePoint, Vm
from hvpsbridge.sim.standin.classes import CLASSES
from hvpsbridge.sim.standin.planned_instances import PlannedInstances, settings_id
from hvpsbridge.sim.standin.windows_instances import WindowsInstances, process_id

Row = dict[str, Any]
# Msvm_ComputerSystem.EnabledState for what Get-VM calls State.
_ENABLED = {
    VMState.Running: 2,
    VMState.Off: 3,
    VMState.Paused: 9,
    VMState.Saved: 6,
    VMState.Starting: 10,
    VMState.Stopping: 4,
}


class Instances:
    """The instances of one host, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.nodes.get(node)
        self._planned = PlannedInstances(model, node)
        self._sources: dict[str, Callable[[], Iterable[Row]]] = {
            "Msvm_ComputerSystem": self._systems,
            "Msvm_PlannedComputerSystem": self._planned.systems,
            "Msvm_VirtualSystemSettingData": self._settings,
            "Msvm_StorageAllocationSettingData": self._storage,
            "Msvm_EthernetPortAllocationSettingData": self._planned.connections,
            "Msvm_DiskMergeSettingData": self._merge_settings,
            "Msvm_SecuritySettingData": self._security_settings,
            "Msvm_VirtualSystemReferencePoint": self._points,
            "Msvm_ConcreteJob": self._jobs,
            **WindowsInstances(model, node).sources,
        }

    @property
    def host_build(self) -> int:
        """The host's Windows build."""
        return self._host.os_build

    @property
    def host_revision(self) -> int | None:
        """The revision of that build; None if the host does not say."""
        return self._host.os_revision

    def rows(self, name: str) -> Iterable[Row]:
        """All instances of a class as rows: values by property."""
        if name in self._sources:
            return self._sources[name]()
        found = CLASSES[name]
        return [self._service_row(name)] if found.methods or name.endswith("Service") else []

    def _service_row(self, name: str) -> Row:
        return {
            "CreationClassName": name,
            "Name": name.removeprefix("Msvm_"),
            "SystemCreationClassName": "Msvm_ComputerSystem",
            "SystemName": self._host.name,
            "ElementName": name.removeprefix("Msvm_"),
            "Caption": name,
            "Started": True,
            "EnabledState": 2,
        }

    def vm_named(self, name: str) -> Vm | None:
        """The VM with this ``Msvm_ComputerSystem.Name``, or None."""
        return next(
            (vm for vm in self._model.vms.all(self._node) if str(vm.vm_id).upper() == name.upper()), None
        )

    def _systems(self) -> Iterable[Row]:
        # The host is an instance, too.
        yield {
            **dict.fromkeys(CLASSES["Msvm_ComputerSystem"].properties),
            "CreationClassName": "Msvm_ComputerSystem",
            "Name": self._host.name,
            "ElementName": self._host.name,
            "Caption": "Hosting Computer System",
            "EnabledState": 2,
            "OperationalStatus": [2],
        }
        for vm in self._model.vms.all(self._node):
            now = self._model.clock.now()
            yield {
                **dict.fromkeys(CLASSES["Msvm_ComputerSystem"].properties),
                "CreationClassName": "Msvm_ComputerSystem",
                "Name": str(vm.vm_id).upper(),
                "ElementName": vm.name,
                "Caption": "Virtual Machine",
                "EnabledState": _ENABLED.get(vm.state, int(vm.state)),
                "HealthState": 5,
                "OperationalStatus": list(self._model.vms.status(vm.vm_id)),
                "InstallDate": utc(vm.created).isoformat(),
                "OnTimeInMilliseconds": int((now - vm.started) * 1000) if vm.started else 0,
                "ProcessID": process_id(vm) if vm.started else None,
                "ReplicationMode": int(vm.replication_mode),
            }

    def _settings(self) -> Iterable[Row]:
        for vm in self._model.vms.all(self._node):
            yield self.own_settings(vm)
            for point in self._model.checkpoints.all(vm.vm_id, hidden=True):
                yield self.checkpoint_settings(vm, point)
        yield from self._planned.settings()

    def own_settings(self, vm: Vm) -> Row:
        """``Msvm_VirtualSystemSettingData`` of the VM itself."""
        return {
            **self._common_settings(vm),
            "InstanceID": settings_id(vm.vm_id),
            "ElementName": vm.name,
            "VirtualSystemType": "Microsoft:Hyper-V:System:Realized",
            "ConfigurationID": str(vm.vm_id).upper(),
            "ConfigurationFile": data_file(vm),
            "CreationTime": utc(vm.created).isoformat(),
        }

    def checkpoint_settings(self, vm: Vm, point: Checkpoint) -> Row:
        """``Msvm_VirtualSystemSettingData`` of a checkpoint."""
        kinds = {
            SnapshotType.Recovery: "Snapshot:Recovery",
            SnapshotType.Planned: "Snapshot:Planned",
            SnapshotType.Replica: "Snapshot:Replica:Standard",
        }
        return {
            **self._common_settings(vm),
            "InstanceID": settings_id(point.checkpoint_id),
            "ElementName": point.name,
            "VirtualSystemType": f"Microsoft:Hyper-V:{kinds.get(point.kind, 'Snapshot:Realized')}",
            "ConfigurationID": str(point.checkpoint_id).upper(),
            "ConfigurationFile": data_file(vm, point),
            "CreationTime": utc(point.created).isoformat(),
            "IsAutomaticSnapshot": point.automatic,
        }

    def _common_settings(self, vm: Vm) -> Row:
        return {
            **dict.fromkeys(CLASSES["Msvm_VirtualSystemSettingData"].properties),
            "Caption": "Virtual Machine Settings",
            "VirtualSystemIdentifier": str(vm.vm_id).upper(),
            "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{vm.generation}",
            "ConfigurationDataRoot": data_root(vm),
            "SnapshotDataRoot": data_root(vm),
            "Notes": [vm.notes],
            "IncrementalBackupEnabled": False,
            "UserSnapshotType": int(vm.checkpoint_type),
            "IsAutomaticSnapshot": False,
            "Version": vm.version,
        }

    def _storage(self) -> Iterable[Row]:
        for vm in self._model.vms.all(self._node):
            for drive in self._model.disks.drives(vm.vm_id):
                if drive.layer is not None:
                    yield self._storage_row(vm, drive, vm.vm_id)
            for point in self._model.checkpoints.all(vm.vm_id, hidden=True):
                for drive in self._model.disks.drives(vm.vm_id, point.checkpoint_id):
                    yield self._storage_row(vm, drive, point.checkpoint_id)
        yield from self._planned.storage()

    def _storage_row(self, vm: Vm, drive: Drive, owner: UUID) -> Row:
        assert drive.layer is not None
        instance = vm.instance_id(drive.slot, owner)
        return {
            **dict.fromkeys(CLASSES["Msvm_StorageAllocationSettingData"].properties),
            "InstanceID": instance,
            "ElementName": "Hard Disk Image",
            "Caption": "Hard Disk Image",
            "ResourceType": 31,
            "ResourceSubType": "Microsoft:Hyper-V:Virtual Hard Disk",
            "HostResource": [self._model.disks.layer(drive.layer).drive_path],
            "Parent": instance.removesuffix("\\L") + "\\D",
            "PersistentReservationsSupported": drive.shared,
            "SnapshotId": "",
            "WriteHardeningMethod": 0,
        }

    def _merge_settings(self) -> Iterable[Row]:
        if self._model.knobs.no_merge_settings:
            return
        for vm in self._model.vms.all(self._node):
            yield {
                "InstanceID": f"{settings_id(vm.vm_id)}\\DiskMerge",
                "Caption": "Disk Merge Setting Data",
                "Description": "Microsoft Disk Merge Setting Data",
                "ElementName": "Disk Merge Setting Data",
                "EnabledState": int(vm.merge_enabled),
            }

    def _security_settings(self) -> Iterable[Row]:
        if self._model.knobs.no_security_settings:
            return
        for vm in self._model.vms.all(self._node):
            owners = [vm.vm_id, *(one.checkpoint_id for one in self._model.checkpoints.all(vm.vm_id))]
            for owner in owners:
                yield {
                    "InstanceID": f"{settings_id(owner)}\\Security",
                    "Caption": "Security Settings",
                    "Description": "Settings for the virtual machine security.",
                    "ElementName": "Security Settings",
                    "TpmEnabled": vm.tpm_enabled,
                    "KsdEnabled": False,
                    "ShieldingRequested": vm.shielded,
                    "DataProtectionRequested": False,
                    "EncryptStateAndVmMigrationTraffic": vm.shielded,
                    "VirtualizationBasedSecurityOptOut": False,
                }

    def _points(self) -> Iterable[Row]:
        for vm in self._model.vms.all(self._node):
            for point in self._model.reference_points.all(vm.vm_id):
                yield point_row(point)

    def _jobs(self) -> Iterable[Row]:
        here = {vm.vm_id for vm in self._model.vms.all(self._node)}
        for job in self._model.jobs.all():
            if job.vm_id in here or job.arguments.get("node") == self._host.name:
                yield self.job_row(job)

    def job_row(self, job: Job) -> Row:
        """``Msvm_ConcreteJob`` of a job."""
        state, percent = self._model.jobs.progress(job)
        return {
            **dict.fromkeys(CLASSES["Msvm_ConcreteJob"].properties),
            "InstanceID": job_id(job),
            "Name": job.kind.name,
            "ElementName": job.kind.name,
            "Caption": job.kind.name,
            "Description": job.kind.name,
            "JobState": int(state),
            "JobType": int(job.kind),
            "JobStatus": "OK" if not job.error_code else "Error",
            "Status": "OK" if not job.error_code else "Error",
            "OperationalStatus": [2 if not job.error_code else 6],
            "PercentComplete": percent,
            "ErrorCode": job.error_code,
            "ErrorDescription": job.error_text or None,
            "ErrorSummaryDescription": job.error_text or None,
            "Cancellable": False,
            "DeleteOnCompletion": False,
            "StartTime": utc(job.started).isoformat(),
            "ElapsedTime": max(0.0, self._model.clock.now() - job.started),
            "TimeBeforeRemoval": self._model.knobs.job_lifetime_seconds,
        }


def job_id(job: Job) -> str:
    """``InstanceID`` of a job."""
    return str(job.job_id).upper()


def point_row(point: ReferencePoint) -> Row:
    """``Msvm_VirtualSystemReferencePoint`` of a reference point."""
    return {
        "InstanceID": point.instance_id,
        "ElementName": "Reference Point",
        "Caption": "Reference Point",
        "Description": None,
        "ReferencePointType": point.kind,
        "ConsistencyLevel": int(point.consistency),
        "VirtualSystemIdentifier": str(point.vm_id).upper(),
        "HasAssociatedData": False,
        "VirtualDiskIdentifiers": point.disks or None,
        "ResilientChangeTrackingIdentifiers": point.rct_ids or None,
    }
