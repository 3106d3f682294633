"""Planned VMs: made of a configuration file, changed, validated, and made real or destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.planning import PLANNED_JOBS
from hvpsbridge.sim.model.state import Job, JobKind, PlannedVm
from hvpsbridge.sim.model.timeline import Timeline

_MAX_NAME = 100


class PlannedVms:
    """The planned VMs of a world."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def all(self, node: str | None = None) -> tuple[PlannedVm, ...]:
        """Planned VMs of a host, or of all hosts, by name."""
        with self._timeline.now():
            found = [one for one in self._core.world.planned.values() if node is None or one.node == node]
            return tuple(sorted(found, key=lambda one: (one.settings["name"], str(one.vm_id))))

    def get(self, vm_id: UUID, node: str | None = None) -> PlannedVm:
        """One planned VM.

        Raises:
            HyperVError: it does not exist, or not on that host.
        """
        with self._timeline.now():
            found = self._core.world.planned.get(vm_id)
            if found is None or (node is not None and found.node != node):
                raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
            return found

    def import_definition(self, path: str, *, new_id: bool, node: str | None = None) -> Job:
        """``ImportSystemDefinition``. The job has the id of the planned VM."""
        with self._timeline.now():
            core = self._core
            return self._timeline.start_about(
                JobKind.ImportDefinition,
                core.fresh_id(),
                path=path,
                new_id="1" if new_id else "",
                node=node or next(iter(core.world.nodes)),
            )

    def act(self, kind: JobKind, vm_id: UUID, node: str | None = None) -> Job:
        """``ValidatePlannedSystem``, ``RealizePlannedSystem`` or ``DestroySystem``.

        Raises:
            HyperVError: there is no such planned VM.
        """
        assert kind in PLANNED_JOBS
        with self._timeline.now():
            found = self.get(vm_id, node)
            return self._timeline.start_about(kind, vm_id, node=found.node)

    def modify(self, vm_id: UUID, changes: Mapping[str, Any]) -> None:
        """``ModifySystemSettings``: properties of ``Msvm_VirtualSystemSettingData``.

        Raises:
            HyperVError: there is no such planned VM, or the name is too long.
        """
        with self._timeline.now():
            found = self.get(vm_id)
            name = changes.get("ElementName", found.settings["name"])
            if not name or len(name) > _MAX_NAME:
                raise HyperVError(Wmi.INVALID_PARAMETER, self._core.text("name_too_long"))
            found.settings["name"] = name
            if "Notes" in changes:
                found.settings["notes"] = "\n".join(changes["Notes"])
            found.folder = changes.get("ConfigurationDataRoot", found.folder)

    def set_file(self, vm_id: UUID, slot: str, path: str | None) -> None:
        """``ModifyResourceSettings`` or ``RemoveResourceSettings`` of the file in a drive.

        Args:
            vm_id: the planned VM.
            slot: of the drive.
            path: another file; None for none.

        Raises:
            HyperVError: there is no such planned VM.
        """
        with self._timeline.now():
            settings = self.get(vm_id).settings
            dvds = settings["hardware"].get("dvd", {})
            if slot in dvds:
                settings["hardware"]["dvd"] = {**dvds, slot: path}
            for drive in settings["drives"]:
                if drive["slot"] == slot:
                    drive["path"] = path

    def disconnect(self, vm_id: UUID, index: int) -> None:
        """``ModifyResourceSettings`` of a connection: disabled.

        Raises:
            HyperVError: there is no such planned VM.
        """
        with self._timeline.now():
            found = self.get(vm_id)
            if index not in found.disconnected:
                found.disconnected.append(index)
