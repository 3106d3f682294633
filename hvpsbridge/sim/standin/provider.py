"""The WMI provider: queries of the CIM cmdlets, and the methods of the classes in ``classes``.

Values are JSON: a datetime is ISO text, a reference is ``{"$ref": class, "keys": {...}}``. Errors of WMI
itself have an HRESULT (0x8004xxxx); methods return error codes, as Hyper-V's do.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hvpsbridge.sim.model import Consistency, DiskError, HyperVError, Model, SnapshotType, Wmi
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import Checkpoint, Job, Vm
from hvpsbridge.sim.standin.associations import Associations
from hvpsbridge.sim.standin.cim_class import CimClass
from hvpsbridge.sim.standin.classes import ASSOCIATIONS, BUILD_1709, CLASSES, SINCE_1709
from hvpsbridge.sim.standin.embedded import embedded
from hvpsbridge.sim.standin.instances import Instances
from hvpsbridge.sim.standin.outcomes import Row, Run, keys_of, reference, started
from hvpsbridge.sim.standin.planned_instances import settings_id
from hvpsbridge.sim.standin.planned_methods import PlannedMethods
from hvpsbridge.sim.standin.windows_classes import DEFENDER
from hvpsbridge.sim.standin.wql import (
    INVALID_CLASS,
    INVALID_METHOD,
    INVALID_NAMESPACE,
    INVALID_PARAMETER,
    NOT_FOUND,
    CimError,
    matches,
)

# HKEY_LOCAL_MACHINE, and where Windows keeps the revision of its build.
_REVISION = (0x80000002, "software\\microsoft\\windows nt\\currentversion", "UBR")
_SNAPSHOT_TYPES = {2: SnapshotType.Standard, 32768: SnapshotType.Recovery}


class Provider:
    """The WMI of one host, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._instances = Instances(model, node)
        self._associations = Associations(model, self._instances)
        self._planned = PlannedMethods(model, node)
        self._methods: dict[str, Run] = {
            "CreateSnapshot": self._create_snapshot,
            "DestroySnapshot": self._destroy_snapshot,
            "ApplySnapshot": self._apply_snapshot,
            "ConvertToReferencePoint": self._convert_to_reference_point,
            "DestroyReferencePoint": self._destroy_reference_point,
            "ModifySystemSettings": self._modify_system_settings,
            "GetVirtualDiskChanges": self._get_virtual_disk_changes,
            "GetDWORDValue": self._get_dword_value,
            **self._planned.by_name(),
        }

    # -- calls ----------------------------------------------------------------------------------------

    def schema(self, class_name: str, namespace: str) -> Row:
        """A class as ``Get-CimClass`` shows it."""
        name, found = self._class(class_name, namespace)
        properties = dict(found.properties)
        if self._instances.host_build < BUILD_1709 and name in SINCE_1709:
            properties.pop(SINCE_1709[name], None)
        return {
            "name": name,
            "namespace": found.namespace,
            "key": list(found.key),
            "properties": properties,
            "methods": sorted(found.methods),
        }

    def instances(self, class_name: str, namespace: str, condition: str | None = None) -> Row:
        """Instances of a class, with its schema."""
        name, found = self._class(class_name, namespace)
        rows = [
            row for row in self._instances.rows(name) if condition is None or matches(condition, row, found)
        ]
        return {"schema": self.schema(name, namespace), "rows": rows}

    def get(self, class_name: str, keys: Row) -> Row:
        """One instance, by its keys."""
        schema = self.schema(class_name, CLASSES[class_name].namespace)
        return {"schema": schema, "rows": [self._row(class_name, keys)]}

    def associated(
        self, class_name: str, keys: Row, association: str | None = None, result_class: str | None = None
    ) -> list[Row]:
        """Instances associated with another one, by class."""
        if association is not None and association not in ASSOCIATIONS:
            raise CimError(f"Invalid class: {association}", INVALID_CLASS)
        if result_class is not None:
            self._class(result_class, CLASSES[class_name].namespace)
        start = self._row(class_name, keys)
        blocks: dict[str, list[Row]] = {}
        for tie, name, row in self._associations.of(class_name, start):
            if association in (None, tie) and result_class in (None, name):
                blocks.setdefault(name, []).append(row)
        return [
            {"schema": self.schema(name, CLASSES[name].namespace), "rows": rows}
            for name, rows in blocks.items()
        ]

    def invoke(
        self,
        class_name: str,
        keys: Row,
        method: str,
        arguments: Row,
        instead: Job | HyperVError | None = None,
    ) -> Row:
        """Run a method, or answer with ``instead``.

        Returns ``ReturnValue``, and all out parameters unless it is refused.
        """
        self._row(class_name, keys)
        return self._run(class_name, method, arguments, instead)

    def invoke_static(
        self,
        class_name: str,
        namespace: str,
        method: str,
        arguments: Row,
        instead: Job | HyperVError | None = None,
    ) -> Row:
        """As :meth:`invoke`, of a static method."""
        name, found = self._class(class_name, namespace)
        if found.key:
            raise CimError(f"Invalid method: {method}", INVALID_METHOD)
        return self._run(name, method, arguments, instead)

    def _run(
        self, class_name: str, method: str, arguments: Row, instead: Job | HyperVError | None = None
    ) -> Row:
        declared = CLASSES[class_name].methods.get(method)
        if declared is None:
            raise CimError(f"Invalid method: {method}", INVALID_METHOD)
        for name in arguments:
            if name not in declared.inputs:
                raise CimError(f"Invalid method Parameter(s): {name}", INVALID_PARAMETER)
        outcome: Row = {"ReturnValue": int(Wmi.DONE), **dict.fromkeys(declared.outputs)}
        try:
            if isinstance(instead, HyperVError):
                raise instead
            if instead is not None:
                started(instead, outcome)
            else:
                self._methods[method](arguments, outcome)
        except HyperVError as err:
            # A method that refuses sets no other out parameter.
            return {"types": {"ReturnValue": "uint32"}, "values": {"ReturnValue": int(err.code)}}
        return {"types": {"ReturnValue": "uint32", **declared.outputs}, "values": outcome}

    # -- methods --------------------------------------------------------------------------------------

    def _create_snapshot(self, arguments: Row, outcome: Row) -> None:
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
        job = self._model.checkpoints.create(
            vm.vm_id,
            kind=kind,
            consistency=Consistency(level),
            ignore_disks=settings["IgnoreNonSnapshottableDisks"].upper() == "TRUE",
            node=self._node,
        )
        started(job, outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            made = settings_id(UUID(job.results["checkpoint"]))
            outcome["ResultingSnapshot"] = reference("Msvm_VirtualSystemSettingData", {"InstanceID": made})

    def _destroy_snapshot(self, arguments: Row, outcome: Row) -> None:
        point = self._checkpoint_of(arguments.get("AffectedSnapshot"))
        started(self._model.checkpoints.remove(point.checkpoint_id), outcome)

    def _apply_snapshot(self, arguments: Row, outcome: Row) -> None:
        point = self._checkpoint_of(arguments.get("Snapshot"))
        started(self._model.checkpoints.apply(point.checkpoint_id), outcome)

    def _convert_to_reference_point(self, arguments: Row, outcome: Row) -> None:
        point = self._checkpoint_of(arguments.get("AffectedSnapshot"))
        if arguments.get("ReferencePointSettings") == "":
            # Nobody has seen whether Windows takes an empty text; Microsoft's sample leaves it out.
            raise HyperVError(Wmi.INVALID_PARAMETER, "")
        self._embedded(
            "Msvm_VirtualSystemReferencePointSettingData", arguments.get("ReferencePointSettings"), {}
        )
        job = self._model.checkpoints.convert(point.checkpoint_id)
        started(job, outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            made = {"InstanceID": job.results["reference_point"]}
            outcome["ResultingReferencePoint"] = reference("Msvm_VirtualSystemReferencePoint", made)

    def _destroy_reference_point(self, arguments: Row, outcome: Row) -> None:
        keys = keys_of(arguments.get("AffectedReferencePoint"), "Msvm_VirtualSystemReferencePoint")
        started(self._model.reference_points.remove(str(keys["InstanceID"])), outcome)

    def _modify_system_settings(self, arguments: Row, outcome: Row) -> None:
        # Properties that are not given stay as they are. Of VMs the model can change planned ones, of
        # checkpoints the name.
        settings = self._embedded("Msvm_VirtualSystemSettingData", arguments.get("SystemSettings"), {})
        if self._planned.modify_settings(settings):
            return
        if settings.keys() != {"InstanceID", "ElementName"}:
            raise HyperVError(Wmi.NOT_SUPPORTED, "")
        keys = {"InstanceID": settings["InstanceID"]}
        point = self._checkpoint_of(reference("Msvm_VirtualSystemSettingData", keys))
        self._model.checkpoints.rename(point.checkpoint_id, settings["ElementName"])

    def _get_virtual_disk_changes(self, arguments: Row, outcome: Row) -> None:
        if arguments.get("TargetSnapshotId"):
            raise HyperVError(Wmi.NOT_SUPPORTED, "")
        knobs = self._model.knobs
        if knobs.wmi_changes_as_job:
            # Where the arrays would be is not documented (docs/hyperv-facts.md#wmi-changes).
            outcome["ReturnValue"] = int(Wmi.JOB_STARTED)
            return
        try:
            size = self._model.disks.at(str(arguments["Path"])).size_bytes
            if knobs.wmi_length_below_size and int(arguments["ByteLength"]) >= size:
                raise HyperVError(Wmi.INVALID_PARAMETER, "")
            answer = self._model.driver.query_changes(
                str(arguments["Path"]),
                str(arguments["LimitId"]),
                int(arguments["ByteOffset"]),
                int(arguments["ByteLength"]),
            )
        except DiskError as err:
            raise HyperVError(Wmi.NOT_FOUND if err.code == 2 else Wmi.FAILED, str(err)) from err
        outcome["ProcessedByteLength"] = answer.processed_bytes
        # An empty CIM array comes back as null (docs/hyperv-facts.md#empty-cim-arrays).
        outcome["ChangedByteOffsets"] = [extent.offset for extent in answer.extents] or None
        outcome["ChangedByteLengths"] = [extent.length for extent in answer.extents] or None

    def _get_dword_value(self, arguments: Row, outcome: Row) -> None:
        asked = (int(arguments["hDefKey"]), str(arguments["sSubKeyName"]).casefold(), arguments["sValueName"])
        outcome["uValue"] = self._instances.host_revision if asked == _REVISION else None
        if outcome["uValue"] is None:
            outcome["ReturnValue"] = 2  # ERROR_FILE_NOT_FOUND

    def _vm_of(self, value: Any) -> Vm:
        keys = keys_of(value, "Msvm_ComputerSystem")
        try:
            return self._model.vms.get(UUID(str(keys["Name"])), self._node)
        except (ValueError, HyperVError) as err:
            raise HyperVError(Wmi.NOT_FOUND, "") from err

    def _checkpoint_of(self, value: Any) -> Checkpoint:
        keys = keys_of(value, "Msvm_VirtualSystemSettingData")
        try:
            return self._model.checkpoints.get(UUID(str(keys["InstanceID"]).removeprefix("Microsoft:")))
        except ValueError as err:
            raise HyperVError(Wmi.NOT_FOUND, "") from err

    def _embedded(self, class_name: str, value: Any, defaults: dict[str, str]) -> dict[str, Any]:
        """Properties of an embedded instance; the defaults if it is empty."""
        known = self.schema(class_name, CLASSES[class_name].namespace)["properties"]
        return embedded(value, {class_name: known}, defaults)[1]

    # -- inside ---------------------------------------------------------------------------------------

    def _class(self, class_name: str, namespace: str) -> tuple[str, CimClass]:
        wanted = namespace.replace("\\", "/").lower().rstrip("/")
        absent = wanted == DEFENDER and not self._model.knobs.defender
        if absent or wanted not in {known.namespace for known in CLASSES.values()}:
            raise CimError(f"Invalid namespace: {namespace}", INVALID_NAMESPACE)
        for name, found in CLASSES.items():
            if name.lower() == class_name.lower() and found.namespace == wanted:
                return name, found
        raise CimError(f"Invalid class: {class_name}", INVALID_CLASS)

    def _row(self, class_name: str, keys: Row) -> Row:
        if class_name not in CLASSES:
            raise CimError(f"Invalid class: {class_name}", INVALID_CLASS)
        for row in self._instances.rows(class_name):
            if all(
                str(row[key]).lower() == str(keys.get(key, "")).lower() for key in CLASSES[class_name].key
            ):
                return row
        raise CimError(text(self._model.knobs.language, "not_found"), NOT_FOUND)
