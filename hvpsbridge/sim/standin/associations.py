"""Associations between WMI instances (docs/hyperv-facts.md#job-results)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.state import Job, Vm
from hvpsbridge.sim.standin.instances import Instances, point_row

Row = dict[str, Any]


class Associations:
    """The associations of one host, for one call."""

    def __init__(self, model: Model, instances: Instances) -> None:
        self._model = model
        self._instances = instances

    def of(self, class_name: str, start: Row) -> Iterable[tuple[str, str, Row]]:
        """Association, class and row of every instance associated with ``start``."""
        match class_name:
            case "Msvm_ComputerSystem":
                vm = self._instances.vm_named(start["Name"])
                if vm is not None:
                    yield from self._ties_of_vm(vm)
            case "Msvm_PlannedComputerSystem":
                yield from self._ties_of_planned(start)
            case "Msvm_VirtualSystemSettingData":
                identity = start["InstanceID"].removeprefix("Microsoft:")
                for parts in ("Msvm_StorageAllocationSettingData", "Msvm_EthernetPortAllocationSettingData"):
                    for row in self._instances.rows(parts):
                        if row["InstanceID"].startswith(f"Microsoft:{identity}\\"):
                            yield "Msvm_VirtualSystemSettingDataComponent", parts, row
                own = start["VirtualSystemType"].startswith("Microsoft:Hyper-V:System:")
                tie = "Msvm_SettingsDefineState" if own else "Msvm_SnapshotOfVirtualSystem"
                for systems in ("Msvm_ComputerSystem", "Msvm_PlannedComputerSystem"):
                    for row in self._instances.rows(systems):
                        if row["Name"] == start["VirtualSystemIdentifier"]:
                            yield tie, systems, row
            case "Msvm_VirtualSystemReferencePoint":
                for row in self._instances.rows("Msvm_ComputerSystem"):
                    if row["Name"] == start["VirtualSystemIdentifier"]:
                        yield "Msvm_ReferencePointOfVirtualSystem", "Msvm_ComputerSystem", row
            case "Msvm_ConcreteJob":
                job = self._model.jobs.get(UUID(start["InstanceID"]))
                yield from self._ties_of_job(job)

    def _ties_of_vm(self, vm: Vm) -> Iterable[tuple[str, str, Row]]:
        settings = "Msvm_VirtualSystemSettingData"
        yield "Msvm_SettingsDefineState", settings, self._instances.own_settings(vm)
        for point in self._model.checkpoints.all(vm.vm_id, hidden=True):
            row = self._instances.checkpoint_settings(vm, point)
            yield "Msvm_SnapshotOfVirtualSystem", settings, row
            if vm.parent_checkpoint == point.checkpoint_id:
                yield "Msvm_MostCurrentSnapshotInBranch", settings, row
        for reference in self._model.reference_points.all(vm.vm_id):
            yield (
                "Msvm_ReferencePointOfVirtualSystem",
                "Msvm_VirtualSystemReferencePoint",
                point_row(reference),
            )
        for job in self._model.jobs.all(vm.vm_id):
            yield "Msvm_AffectedJobElement", "Msvm_ConcreteJob", self._instances.job_row(job)

    def _ties_of_planned(self, start: Row) -> Iterable[tuple[str, str, Row]]:
        for row in self._instances.rows("Msvm_VirtualSystemSettingData"):
            if row["VirtualSystemIdentifier"] == start["Name"]:
                own = row["VirtualSystemType"] == "Microsoft:Hyper-V:System:Planned"
                tie = "Msvm_SettingsDefineState" if own else "Msvm_SnapshotOfVirtualSystem"
                yield tie, "Msvm_VirtualSystemSettingData", row

    def _ties_of_job(self, job: Job) -> Iterable[tuple[str, str, Row]]:
        tie = "Msvm_AffectedJobElement"
        for systems in ("Msvm_ComputerSystem", "Msvm_PlannedComputerSystem"):
            for row in self._instances.rows(systems):
                if row["Name"] == str(job.vm_id).upper():
                    yield tie, systems, row
        made = job.results.get("checkpoint")
        if made is not None:
            for row in self._instances.rows("Msvm_VirtualSystemSettingData"):
                if row["ConfigurationID"] == made.upper():
                    yield tie, "Msvm_VirtualSystemSettingData", row
        reference = job.results.get("reference_point")
        for row in self._instances.rows("Msvm_VirtualSystemReferencePoint"):
            if row["InstanceID"] == reference:
                yield tie, "Msvm_VirtualSystemReferencePoint", row
