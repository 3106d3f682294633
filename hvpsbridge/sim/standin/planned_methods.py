"""Methods of ``Msvm_VirtualSystemManagementService`` that make, change, realize and destroy planned VMs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hvpsbridge.sim.model import HyperVError, Model, Wmi
from hvpsbridge.sim.model.planning import adapters_of, storage_of
from hvpsbridge.sim.model.state import Job, JobKind, PlannedVm
from hvpsbridge.sim.standin.classes import CLASSES
from hvpsbridge.sim.standin.embedded import embedded
from hvpsbridge.sim.standin.outcomes import Row, Run, keys_of, reference, started
from hvpsbridge.sim.standin.planned_instances import connection_id, settings_id, storage_id

_STORAGE, _CONNECTION = "Msvm_StorageAllocationSettingData", "Msvm_EthernetPortAllocationSettingData"
_ROOTS = ("Configuration", "Snapshot", "Suspend", "SwapFile", "GuestState")
# What can be changed of a planned VM.
_SETTINGS = {"ElementName", "Notes", "AutomaticStartupAction", *(f"{root}DataRoot" for root in _ROOTS)}
_DISABLED = "3"


class PlannedMethods:
    """The methods on one host, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node

    def by_name(self) -> dict[str, Run]:
        """The methods by their WMI names; ``ModifySystemSettings`` is shared with checkpoints."""
        return {
            "ImportSystemDefinition": self._import_system_definition,
            "ModifyResourceSettings": self._modify_resource_settings,
            "RemoveResourceSettings": self._remove_resource_settings,
            "ValidatePlannedSystem": self._validate_planned_system,
            "RealizePlannedSystem": self._realize_planned_system,
            "DestroySystem": self._destroy_system,
        }

    def modify_settings(self, settings: Row) -> bool:
        """``ModifySystemSettings`` of a planned VM; false if the settings are not of one.

        Raises:
            HyperVError: a property cannot be changed.
        """
        planned = self._with(str(settings.get("InstanceID")))
        if planned is None:
            return False
        changes = {name: value for name, value in settings.items() if name != "InstanceID"}
        if changes.keys() - _SETTINGS:
            raise HyperVError(Wmi.NOT_SUPPORTED, "")
        self._model.planned.modify(planned.vm_id, changes)
        return True

    def _import_system_definition(self, arguments: Row, outcome: Row) -> None:
        job = self._model.planned.import_definition(
            str(arguments["SystemDefinitionFile"]),
            new_id=bool(arguments.get("GenerateNewSystemIdentifier")),
            node=self._node,
        )
        started(job, outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            outcome["ImportedSystem"] = _system("Msvm_PlannedComputerSystem", job.vm_id)

    def _modify_resource_settings(self, arguments: Row, outcome: Row) -> None:
        known = {name: CLASSES[name].properties for name in (_STORAGE, _CONNECTION)}
        for each in arguments["ResourceSettings"]:
            name, settings = embedded(each, known)
            planned = self._of(str(settings["InstanceID"]))
            if name == _STORAGE:
                slot = _slot_of(planned, settings["InstanceID"])
                self._model.planned.set_file(planned.vm_id, slot, settings["HostResource"][0])
            elif settings.get("EnabledState") == _DISABLED:
                keys = [
                    connection_id(planned, each["key"]) for each in adapters_of(planned.settings["hardware"])
                ]
                self._model.planned.disconnect(planned.vm_id, keys.index(settings["InstanceID"]))
            else:
                raise HyperVError(Wmi.NOT_SUPPORTED, "")

    def _remove_resource_settings(self, arguments: Row, outcome: Row) -> None:
        for value in arguments["ResourceSettings"]:
            instance = str(keys_of(value, _STORAGE)["InstanceID"])
            planned = self._of(instance)
            self._model.planned.set_file(planned.vm_id, _slot_of(planned, instance), None)

    def _validate_planned_system(self, arguments: Row, outcome: Row) -> None:
        self._act(JobKind.ValidatePlanned, arguments.get("PlannedSystem"), outcome)

    def _realize_planned_system(self, arguments: Row, outcome: Row) -> None:
        job = self._act(JobKind.RealizePlanned, arguments.get("PlannedSystem"), outcome)
        if outcome["ReturnValue"] == Wmi.DONE:
            outcome["ResultingSystem"] = _system("Msvm_ComputerSystem", job.vm_id)

    def _destroy_system(self, arguments: Row, outcome: Row) -> None:
        # Of a planned VM; Remove-VM removes others.
        self._act(JobKind.DestroySystem, arguments.get("AffectedSystem"), outcome)

    def _act(self, kind: JobKind, value: Any, outcome: Row) -> Job:
        keys = keys_of(value, "Msvm_PlannedComputerSystem")
        job = self._model.planned.act(kind, UUID(str(keys["Name"])), self._node)
        started(job, outcome)
        return job

    def _with(self, instance: str) -> PlannedVm | None:
        """The planned VM whose settings, or a part of them, have this ``InstanceID``."""
        owner = instance.partition("\\")[0]
        every = self._model.planned.all(self._node)
        return next((one for one in every if settings_id(one.vm_id) == owner), None)

    def _of(self, instance: str) -> PlannedVm:
        found = self._with(instance)
        if found is None:
            raise HyperVError(Wmi.NOT_SUPPORTED, "")
        return found


def _slot_of(planned: PlannedVm, instance: str) -> str:
    for _, slot, _ in storage_of(planned.settings):
        if storage_id(planned, slot) == instance:
            return slot
    raise HyperVError(Wmi.NOT_FOUND, "")


def _system(class_name: str, vm_id: UUID) -> Row:
    return reference(class_name, {"CreationClassName": class_name, "Name": str(vm_id).upper()})
