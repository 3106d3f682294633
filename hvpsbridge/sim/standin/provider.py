"""The WMI provider: instances, associations and methods of the classes in :mod:`classes`.

Values leave as JSON: a datetime as ISO text, a reference as ``{"$ref": class, "keys": {...}}``. Errors of
WMI itself carry an HRESULT (0x8004xxxx); methods refuse with return values, as Hyper-V's do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from hvpsbridge.sim.model import Consistency, DiskError, HyperVError, Model, SnapshotType, VMState, Wmi
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.configuration import data_file, data_root
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import Checkpoint, Drive, Job, ReferencePoint, Vm
from hvpsbridge.sim.standin.classes import ASSOCIATIONS, CLASSES, GUEST_BACKUP_BUILD, CimClass

NOT_FOUND = 0x80041002
INVALID_CLASS = 0x80041010
INVALID_QUERY = 0x80041017
INVALID_METHOD = 0x80041055
INVALID_NAMESPACE = 0x8004100E
INVALID_PARAMETER = 0x80041008

Row = dict[str, Any]
_TERM = re.compile(r"\s*(\w+)\s*(=|<>|!=)\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(\w+))\s*")
_EMBEDDED = re.compile(r"\s*<INSTANCE CLASSNAME=\"(\w+)\"\s*>(.*)</INSTANCE>\s*", re.DOTALL)
_PROPERTY = re.compile(
    r"\s*<PROPERTY NAME=\"(\w+)\" TYPE=\"(\w+)\"\s*>\s*<VALUE>([^<]*)</VALUE>\s*</PROPERTY>\s*"
)
# Msvm_ComputerSystem.EnabledState for what Get-VM calls State.
_ENABLED = {
    VMState.Running: 2,
    VMState.Off: 3,
    VMState.Paused: 9,
    VMState.Saved: 6,
    VMState.Starting: 10,
    VMState.Stopping: 4,
}
_SNAPSHOT_TYPES = {2: SnapshotType.Standard, 32768: SnapshotType.Recovery}


@dataclass(eq=False)
class CimError(HyperVError):
    """A refusal by WMI itself, before any method runs."""

    code: int = field(init=False, default=int(Wmi.FAILED))
    message: str = ""
    hresult: int | None = None


class Provider:
    """One host's WMI, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.node(node)
        self._sources: dict[str, Callable[[], Iterable[Row]]] = {
            "Msvm_ComputerSystem": self._systems,
            "Msvm_VirtualSystemSettingData": self._settings,
            "Msvm_StorageAllocationSettingData": self._storage,
            "Msvm_DiskMergeSettingData": self._merge_settings,
            "Msvm_VirtualSystemReferencePoint": self._points,
            "Msvm_ConcreteJob": self._jobs,
            "Win32_OperatingSystem": self._operating_system,
            "Win32_ComputerSystem": self._computer,
            "Win32_Volume": self._volumes,
        }

    # -- calls ----------------------------------------------------------------------------------------

    def schema(self, class_name: str, namespace: str) -> Row:
        """A class as ``Get-CimClass`` shows it."""
        name, found = self._class(class_name, namespace)
        properties = dict(found.properties)
        if self._host.os_build < GUEST_BACKUP_BUILD and name == "Msvm_VirtualSystemSnapshotSettingData":
            del properties["GuestBackupType"]
        return {
            "name": name,
            "namespace": found.namespace,
            "key": list(found.key),
            "properties": properties,
            "methods": sorted(found.methods),
        }

    def instances(self, class_name: str, namespace: str, condition: str | None = None) -> Row:
        """Instances of a class, with what the modules need to build them."""
        name, found = self._class(class_name, namespace)
        rows = [row for row in self._rows(name) if condition is None or _matches(condition, row, found)]
        return {"schema": self.schema(name, namespace), "rows": rows}

    def get(self, class_name: str, keys: Row) -> Row:
        """One instance, read anew by its keys."""
        schema = self.schema(class_name, CLASSES[class_name].namespace)
        return {"schema": schema, "rows": [self._row(class_name, keys)]}

    def associated(
        self, class_name: str, keys: Row, association: str | None = None, result_class: str | None = None
    ) -> list[Row]:
        """Instances tied to another one, as blocks of rows of one class."""
        if association is not None and association not in ASSOCIATIONS:
            raise CimError(f"Invalid class: {association}", INVALID_CLASS)
        if result_class is not None:
            self._class(result_class, CLASSES[class_name].namespace)
        start = self._row(class_name, keys)
        blocks: dict[str, list[Row]] = {}
        for tie, name, row in self._ties(class_name, start):
            if association in (None, tie) and result_class in (None, name):
                blocks.setdefault(name, []).append(row)
        return [
            {"schema": self.schema(name, CLASSES[name].namespace), "rows": rows}
            for name, rows in blocks.items()
        ]

    def invoke(self, class_name: str, keys: Row, method: str, arguments: Row) -> Row:
        """Run a method; ``ReturnValue`` and every out parameter."""
        self._row(class_name, keys)
        declared = CLASSES[class_name].methods.get(method)
        if declared is None:
            raise CimError(f"Invalid method: {method}", INVALID_METHOD)
        for name in arguments:
            if name not in declared.inputs:
                raise CimError(f"Invalid method Parameter(s): {name}", INVALID_PARAMETER)
        outcome: Row = {"ReturnValue": int(Wmi.DONE), **dict.fromkeys(declared.outputs)}
        run: Callable[[Row, Row], None] = getattr(self, f"_run_{method}")
        try:
            run(arguments, outcome)
        except HyperVError as err:
            outcome["ReturnValue"] = int(err.code)
        return {"types": {"ReturnValue": "uint32", **declared.outputs}, "values": outcome}

    # -- methods --------------------------------------------------------------------------------------

    def _run_CreateSnapshot(self, arguments: Row, outcome: Row) -> None:  # noqa: N802  # the WMI name
        vm = self._vm_of(arguments.get("AffectedSystem"))
        settings = self._embedded(
            "Msvm_VirtualSystemSnapshotSettingData",
            arguments.get("SnapshotSettings"),
            {"ConsistencyLevel": "1", "IgnoreNonSnapshottableDisks": "FALSE"},
        )
        kind = _SNAPSHOT_TYPES.get(int(arguments.get("SnapshotType") or 0))
        level = int(settings["ConsistencyLevel"])
        if kind is None or level not in (1, 2):
            raise HyperVError(Wmi.INVALID_PARAMETER, "")
        job = self._model.create_checkpoint(
            vm.vm_id,
            kind=kind,
            consistency=Consistency(level),
            ignore_disks=settings["IgnoreNonSnapshottableDisks"].upper() == "TRUE",
            node=self._node,
        )
        self._started(job, outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            made = _settings_id(UUID(job.results["checkpoint"]))
            outcome["ResultingSnapshot"] = _reference("Msvm_VirtualSystemSettingData", {"InstanceID": made})

    def _run_DestroySnapshot(self, arguments: Row, outcome: Row) -> None:  # noqa: N802
        point = self._checkpoint_of(arguments.get("AffectedSnapshot"))
        self._started(self._model.remove_checkpoint(point.checkpoint_id), outcome)

    def _run_ApplySnapshot(self, arguments: Row, outcome: Row) -> None:  # noqa: N802
        point = self._checkpoint_of(arguments.get("Snapshot"))
        self._started(self._model.apply_checkpoint(point.checkpoint_id), outcome)

    def _run_ConvertToReferencePoint(self, arguments: Row, outcome: Row) -> None:  # noqa: N802
        point = self._checkpoint_of(arguments.get("AffectedSnapshot"))
        self._embedded(
            "Msvm_VirtualSystemReferencePointSettingData", arguments.get("ReferencePointSettings"), {}
        )
        job = self._model.convert(point.checkpoint_id)
        self._started(job, outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            made = {"InstanceID": job.results["reference_point"]}
            outcome["ResultingReferencePoint"] = _reference("Msvm_VirtualSystemReferencePoint", made)

    def _run_DestroyReferencePoint(self, arguments: Row, outcome: Row) -> None:  # noqa: N802
        keys = _keys_of(arguments.get("AffectedReferencePoint"), "Msvm_VirtualSystemReferencePoint")
        self._started(self._model.remove_reference_point(str(keys["InstanceID"])), outcome)

    def _run_GetVirtualDiskChanges(self, arguments: Row, outcome: Row) -> None:  # noqa: N802
        if arguments.get("TargetSnapshotId"):
            raise HyperVError(Wmi.NOT_SUPPORTED, "")
        knobs = self._model.knobs
        if knobs.wmi_changes_as_job:
            # There is no documented place for the arrays then (reference section 2.1).
            outcome["ReturnValue"] = int(Wmi.JOB_STARTED)
            return
        try:
            size = self._model.layer_at(str(arguments["Path"])).size_bytes
            if knobs.wmi_length_below_size and int(arguments["ByteLength"]) >= size:
                raise HyperVError(Wmi.INVALID_PARAMETER, "")
            answer = self._model.query_changes(
                str(arguments["Path"]),
                str(arguments["LimitId"]),
                int(arguments["ByteOffset"]),
                int(arguments["ByteLength"]),
            )
        except DiskError as err:
            raise HyperVError(Wmi.NOT_FOUND if err.code == 2 else Wmi.FAILED, str(err)) from err
        outcome["ProcessedByteLength"] = answer.processed_bytes
        # An empty CIM array comes back as null (reference section 2.2).
        outcome["ChangedByteOffsets"] = [extent.offset for extent in answer.extents] or None
        outcome["ChangedByteLengths"] = [extent.length for extent in answer.extents] or None

    def _started(self, job: Job, outcome: Row) -> None:
        if not job.done:
            outcome["ReturnValue"] = int(Wmi.JOB_STARTED)
            outcome["Job"] = _reference("Msvm_ConcreteJob", {"InstanceID": _job_id(job)})
        elif job.error_code:
            outcome["ReturnValue"] = int(job.error_code)

    def _vm_of(self, value: Any) -> Vm:
        keys = _keys_of(value, "Msvm_ComputerSystem")
        try:
            return self._model.vm(UUID(str(keys["Name"])), self._node)
        except (ValueError, HyperVError) as err:
            raise HyperVError(Wmi.NOT_FOUND, "") from err

    def _checkpoint_of(self, value: Any) -> Checkpoint:
        keys = _keys_of(value, "Msvm_VirtualSystemSettingData")
        try:
            return self._model.checkpoint(UUID(str(keys["InstanceID"]).removeprefix("Microsoft:")))
        except ValueError as err:
            raise HyperVError(Wmi.NOT_FOUND, "") from err

    def _embedded(self, class_name: str, value: Any, defaults: dict[str, str]) -> dict[str, str]:
        """Properties of an embedded instance in CIM-XML text; the defaults for an empty one.

        Raises:
            HyperVError: the text, its class or a property with its type is not right.
        """
        if not value:
            return defaults
        wrong = HyperVError(Wmi.INVALID_PARAMETER, "")
        whole = _EMBEDDED.fullmatch(str(value))
        if whole is None or whole[1] != class_name:
            raise wrong
        known = self.schema(class_name, CLASSES[class_name].namespace)["properties"]
        found, position = dict(defaults), 0
        while position < len(whole[2]):
            one = _PROPERTY.match(whole[2], position)
            if one is None or known.get(one[1]) != one[2]:
                raise wrong
            found[one[1]] = unescape(one[3])
            position = one.end()
        return found

    # -- associations ---------------------------------------------------------------------------------

    def _ties(self, class_name: str, start: Row) -> Iterable[tuple[str, str, Row]]:
        """(association, class, instance) for everything tied to ``start``."""
        match class_name:
            case "Msvm_ComputerSystem":
                vm = self._vm_named(start["Name"])
                if vm is not None:
                    yield from self._ties_of_vm(vm)
            case "Msvm_VirtualSystemSettingData":
                identity = start["InstanceID"].removeprefix("Microsoft:")
                for row in self._storage():
                    if row["InstanceID"].startswith(f"Microsoft:{identity}\\"):
                        yield (
                            "Msvm_VirtualSystemSettingDataComponent",
                            "Msvm_StorageAllocationSettingData",
                            row,
                        )
                for row in self._merge_settings():
                    if row["InstanceID"].startswith(f"Microsoft:{identity}\\"):
                        yield "Msvm_VirtualSystemSettingDataComponent", "Msvm_DiskMergeSettingData", row
                for row in self._systems():
                    if row["Name"] == start["VirtualSystemIdentifier"]:
                        own = start["VirtualSystemType"].endswith("System:Realized")
                        tie = "Msvm_SettingsDefineState" if own else "Msvm_SnapshotOfVirtualSystem"
                        yield tie, "Msvm_ComputerSystem", row
            case "Msvm_VirtualSystemReferencePoint":
                for row in self._systems():
                    if row["Name"] == start["VirtualSystemIdentifier"]:
                        yield "Msvm_ReferencePointOfVirtualSystem", "Msvm_ComputerSystem", row
            case "Msvm_ConcreteJob":
                job = self._model.job(UUID(start["InstanceID"]))
                yield from self._ties_of_job(job)

    def _ties_of_vm(self, vm: Vm) -> Iterable[tuple[str, str, Row]]:
        settings = "Msvm_VirtualSystemSettingData"
        yield "Msvm_SettingsDefineState", settings, self._own_settings(vm)
        for point in self._model.checkpoints(vm.vm_id, hidden=True):
            row = self._checkpoint_settings(vm, point)
            yield "Msvm_SnapshotOfVirtualSystem", settings, row
            if vm.parent_checkpoint == point.checkpoint_id:
                yield "Msvm_MostCurrentSnapshotInBranch", settings, row
        for reference in self._model.reference_points(vm.vm_id):
            yield (
                "Msvm_ReferencePointOfVirtualSystem",
                "Msvm_VirtualSystemReferencePoint",
                _point_row(reference),
            )
        for job in self._model.jobs(vm.vm_id):
            yield "Msvm_AffectedJobElement", "Msvm_ConcreteJob", self._job_row(job)

    def _ties_of_job(self, job: Job) -> Iterable[tuple[str, str, Row]]:
        tie = "Msvm_AffectedJobElement"
        for row in self._systems():
            if row["Name"] == str(job.vm_id).upper():
                yield tie, "Msvm_ComputerSystem", row
        made = job.results.get("checkpoint")
        if made is not None:
            for row in self._settings():
                if row["ConfigurationID"] == made.upper():
                    yield tie, "Msvm_VirtualSystemSettingData", row
        reference = job.results.get("reference_point")
        for row in self._points():
            if row["InstanceID"] == reference:
                yield tie, "Msvm_VirtualSystemReferencePoint", row

    # -- rows -----------------------------------------------------------------------------------------

    def _class(self, class_name: str, namespace: str) -> tuple[str, CimClass]:
        wanted = namespace.replace("\\", "/").lower().rstrip("/")
        if wanted not in {known.namespace for known in CLASSES.values()}:
            raise CimError(f"Invalid namespace: {namespace}", INVALID_NAMESPACE)
        for name, found in CLASSES.items():
            if name.lower() == class_name.lower() and found.namespace == wanted:
                return name, found
        raise CimError(f"Invalid class: {class_name}", INVALID_CLASS)

    def _rows(self, name: str) -> Iterable[Row]:
        if name in self._sources:
            return self._sources[name]()
        found = CLASSES[name]
        return [self._service_row(name)] if found.methods or name.endswith("Service") else []

    def _row(self, class_name: str, keys: Row) -> Row:
        if class_name not in CLASSES:
            raise CimError(f"Invalid class: {class_name}", INVALID_CLASS)
        for row in self._rows(class_name):
            if all(
                str(row[key]).lower() == str(keys.get(key, "")).lower() for key in CLASSES[class_name].key
            ):
                return row
        raise CimError(text(self._model.knobs.language, "not_found"), NOT_FOUND)

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

    def _vm_named(self, name: str) -> Vm | None:
        return next((vm for vm in self._model.vms(self._node) if str(vm.vm_id).upper() == name.upper()), None)

    def _systems(self) -> Iterable[Row]:
        # The host itself is an instance, too.
        yield {
            **dict.fromkeys(CLASSES["Msvm_ComputerSystem"].properties),
            "CreationClassName": "Msvm_ComputerSystem",
            "Name": self._host.name,
            "ElementName": self._host.name,
            "Caption": "Hosting Computer System",
            "EnabledState": 2,
            "OperationalStatus": [2],
        }
        for vm in self._model.vms(self._node):
            now = self._model.clock.now()
            yield {
                **dict.fromkeys(CLASSES["Msvm_ComputerSystem"].properties),
                "CreationClassName": "Msvm_ComputerSystem",
                "Name": str(vm.vm_id).upper(),
                "ElementName": vm.name,
                "Caption": "Virtual Machine",
                "EnabledState": _ENABLED.get(vm.state, int(vm.state)),
                "HealthState": 5,
                "OperationalStatus": list(self._model.operational_status(vm.vm_id)),
                "InstallDate": utc(vm.created).isoformat(),
                "OnTimeInMilliseconds": int((now - vm.started) * 1000) if vm.started else 0,
                "ReplicationMode": int(vm.replication_mode),
            }

    def _settings(self) -> Iterable[Row]:
        for vm in self._model.vms(self._node):
            yield self._own_settings(vm)
            for point in self._model.checkpoints(vm.vm_id, hidden=True):
                yield self._checkpoint_settings(vm, point)

    def _own_settings(self, vm: Vm) -> Row:
        return {
            **self._common_settings(vm),
            "InstanceID": _settings_id(vm.vm_id),
            "ElementName": vm.name,
            "VirtualSystemType": "Microsoft:Hyper-V:System:Realized",
            "ConfigurationID": str(vm.vm_id).upper(),
            "ConfigurationFile": data_file(vm),
            "CreationTime": utc(vm.created).isoformat(),
        }

    def _checkpoint_settings(self, vm: Vm, point: Checkpoint) -> Row:
        kinds = {
            SnapshotType.Recovery: "Snapshot:Recovery",
            SnapshotType.Planned: "Snapshot:Planned",
            SnapshotType.Replica: "Snapshot:Replica:Standard",
        }
        return {
            **self._common_settings(vm),
            "InstanceID": _settings_id(point.checkpoint_id),
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
        for vm in self._model.vms(self._node):
            for drive in self._model.drives(vm.vm_id):
                if drive.layer is not None:
                    yield self._storage_row(vm, drive, vm.vm_id)
            for point in self._model.checkpoints(vm.vm_id, hidden=True):
                for drive in self._model.drives(vm.vm_id, point.checkpoint_id):
                    yield self._storage_row(vm, drive, point.checkpoint_id)

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
            "HostResource": [self._model.layer(drive.layer).path],
            "Parent": instance.removesuffix("\\L") + "\\D",
            "PersistentReservationsSupported": drive.shared,
            "SnapshotId": "",
            "WriteHardeningMethod": 0,
        }

    def _merge_settings(self) -> Iterable[Row]:
        for vm in self._model.vms(self._node):
            yield {
                "InstanceID": f"Microsoft:{str(vm.vm_id).upper()}\\DiskMerge",
                "ElementName": "Disk Merge",
                "Caption": "Disk Merge",
                "EnabledState": int(vm.merge_enabled),
            }

    def _points(self) -> Iterable[Row]:
        for vm in self._model.vms(self._node):
            for point in self._model.reference_points(vm.vm_id):
                yield _point_row(point)

    def _jobs(self) -> Iterable[Row]:
        for vm in self._model.vms(self._node):
            for job in self._model.jobs(vm.vm_id):
                yield self._job_row(job)

    def _job_row(self, job: Job) -> Row:
        state, percent = self._model.job_progress(job)
        return {
            **dict.fromkeys(CLASSES["Msvm_ConcreteJob"].properties),
            "InstanceID": _job_id(job),
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

    def _operating_system(self) -> Iterable[Row]:
        host = self._host
        yield {
            **dict.fromkeys(CLASSES["Win32_OperatingSystem"].properties),
            "Name": "Microsoft Windows Server",
            "Caption": "Microsoft Windows Server",
            "CSName": host.name,
            "Version": host.os_version,
            "BuildNumber": str(host.os_build),
            "ProductType": 3,
            "OSArchitecture": "64-bit",
            "LastBootUpTime": utc(host.booted).isoformat(),
            "LocalDateTime": utc(self._model.clock.now()).isoformat(),
            "TotalVisibleMemorySize": host.memory_bytes // 1024,
            "FreePhysicalMemory": host.memory_bytes // 2048,
        }

    def _computer(self) -> Iterable[Row]:
        host = self._host
        yield {
            "Name": host.name,
            "DNSHostName": host.name,
            "Domain": (host.fqdn or "WORKGROUP").partition(".")[2] or "WORKGROUP",
            "PartOfDomain": host.fqdn is not None,
            "NumberOfLogicalProcessors": host.logical_processors,
            "TotalPhysicalMemory": host.memory_bytes,
        }

    def _volumes(self) -> Iterable[Row]:
        for volume in self._model.volumes():
            identity = uuid5(NAMESPACE_URL, volume.root)
            yield {
                "DeviceID": f"\\\\?\\Volume{{{identity}}}\\",
                "Name": volume.root,
                "Caption": volume.root,
                "DriveLetter": volume.root[:2] if len(volume.root) == 3 else None,
                "Label": "",
                "FileSystem": "NTFS",
                "DriveType": 3,
                "BlockSize": 4096,
                "Capacity": volume.total_bytes,
                "FreeSpace": self._model.free_bytes(volume.root),
            }


def _settings_id(owner: UUID) -> str:
    return f"Microsoft:{str(owner).upper()}"


def _job_id(job: Job) -> str:
    return str(job.job_id).upper()


def _reference(class_name: str, keys: Row) -> Row:
    return {"$ref": class_name, "keys": keys}


def _keys_of(value: Any, class_name: str) -> Row:
    if not isinstance(value, dict) or value.get("$ref") != class_name:
        raise HyperVError(Wmi.INVALID_PARAMETER, "")
    return dict(value["keys"])


def _point_row(point: ReferencePoint) -> Row:
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


def _matches(condition: str, row: Row, known: CimClass) -> bool:
    """Whether a WQL condition holds: comparisons for (in)equality, joined by AND.

    Raises:
        CimError: anything else.
    """
    position = 0
    while True:
        term = _TERM.match(condition, position)
        if term is None:
            raise CimError("Invalid query", INVALID_QUERY)
        name = next((name for name in known.properties if name.lower() == term[1].lower()), None)
        if name is None:
            raise CimError("Invalid query", INVALID_QUERY)
        quoted = term[3] if term[3] is not None else term[4]
        wanted = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else term[5]
        # WQL compares text without regard to case (reference section 8).
        equal = str(row[name]).lower() == wanted.lower()
        if equal != (term[2] == "="):
            return False
        position = term.end()
        if position == len(condition):
            return True
        joined = re.compile(r"AND\b", re.IGNORECASE).match(condition, position)
        if joined is None:
            raise CimError("Invalid query", INVALID_QUERY)
        position = joined.end()
