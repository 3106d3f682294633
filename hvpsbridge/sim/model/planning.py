"""What jobs about planned VMs do: importing a configuration file, validating, realizing and destroying."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model.configuration import parse
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Win32, Wmi
from hvpsbridge.sim.model.files import normal_path
from hvpsbridge.sim.model.state import CheckpointType, Drive, Job, JobKind, PlannedVm, Slot, Vm, VMState
from hvpsbridge.sim.model.stored import HostFile, Layer

PLANNED_JOBS = frozenset(
    {JobKind.ImportDefinition, JobKind.ValidatePlanned, JobKind.RealizePlanned, JobKind.DestroySystem}
)
# Settings that a VM has as they are.
_SAME = ("notes", "generation", "version", "processor_count", "memory_bytes", "automatic_checkpoints")
_SECURITY = ("shielded", "tpm_enabled", "guest_backup")


class Planning:
    """Changes to planned VMs. Hold the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def perform(self, job: Job) -> None:
        """Do a job's work.

        Raises:
            HyperVError: the job fails.
        """
        if "fails" in job.arguments:
            raise HyperVError(int(job.arguments["fails"]), job.arguments["text"])
        match job.kind:
            case JobKind.ImportDefinition:
                self._import(job)
            case JobKind.ValidatePlanned:
                self._validate(self._planned(job))
            case JobKind.RealizePlanned:
                self._realize(self._planned(job))
            case _:
                self._core.world.planned.pop(self._planned(job).vm_id)

    def _planned(self, job: Job) -> PlannedVm:
        found = self._core.world.planned.get(job.vm_id)
        if found is None:
            raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
        return found

    def _import(self, job: Job) -> None:
        core, world = self._core, self._core.world
        path, node = job.arguments["path"], world.nodes[job.arguments["node"]]
        settings = self._settings(path)
        if settings["version"] not in node.supported_vm_versions:
            raise HyperVError(Wmi.NOT_SUPPORTED, core.text("version", path=path, version=settings["version"]))
        taken = job.vm_id in world.vms or job.vm_id in world.planned
        if taken or (job.arguments["new_id"] != "1" and UUID(settings["vm_id"]) in world.vms):
            raise HyperVError(Wmi.IN_USE, core.text("in_use"))
        world.planned[job.vm_id] = PlannedVm(
            vm_id=job.vm_id, node=node.name, created=core.time, settings=settings
        )

    def _settings(self, path: str) -> dict[str, Any]:
        file = self._file(path)
        if file is None:
            raise HyperVError(Wmi.FAILED, self._core.text("no_import", path=path, code="80070002"))
        if self._core.files.is_open(path):
            raise HyperVError(Wmi.IN_USE, self._core.text("no_import", path=path, code="80070020"))
        try:
            return parse((self._core.files.folder / file.backing).read_bytes())
        except (ValueError, OSError) as err:
            raise HyperVError(Wmi.FAILED, self._core.text("no_import", path=path, code="80070570")) from err

    def _file(self, path: str) -> HostFile | None:
        wanted = normal_path(path)
        files = self._core.world.host_files.values()
        return next((file for file in files if normal_path(file.path) == wanted), None)

    def _validate(self, planned: PlannedVm) -> dict[int, Layer]:
        """Refuse what cannot be realized. Returns the disk files by index of their drives."""
        core, settings = self._core, planned.settings
        if settings["parent"] is not None:
            raise HyperVError(Wmi.INVALID_STATE, core.text("missing_checkpoint", vm=settings["name"]))
        switches = core.world.nodes[planned.node].switches
        for index, adapter in enumerate(adapters_of(settings["hardware"])):
            switch = switch_of(adapter)
            if switch and index not in planned.disconnected and switch not in switches:
                raise HyperVError(Wmi.FAILED, core.text("no_switch", vm=settings["name"], switch=switch))
        for path in settings["hardware"].get("dvd", {}).values():
            if path is not None and self._file(path) is None:
                raise self._bad_disk(settings["name"], DiskError(Win32.FILE_NOT_FOUND, path))
        return {
            index: self._disk(settings["name"], drive["path"])
            for index, drive in enumerate(settings["drives"])
            if drive["path"] is not None
        }

    def _disk(self, name: str, path: str) -> Layer:
        core = self._core
        try:
            layer = core.files.by_path(path)
        except DiskError as err:
            raise self._bad_disk(name, err) from err
        if any(core.drives_of(layer)) or core.files.children(layer):
            raise self._bad_disk(name, DiskError(Win32.SHARING_VIOLATION, path))
        return layer

    def _bad_disk(self, name: str, error: DiskError) -> HyperVError:
        return HyperVError(
            Wmi.IN_USE if error.code == Win32.SHARING_VIOLATION else Wmi.FAILED,
            self._core.text("no_disk", vm=name, path=error.path, code=f"{error.hresult:08X}"),
        )

    def _realize(self, planned: PlannedVm) -> None:
        core, settings, layers = self._core, planned.settings, self._validate(planned)
        vm = Vm(
            vm_id=planned.vm_id,
            name=settings["name"],
            node=planned.node,
            created=core.time,
            state=VMState.Off,
            folder=planned.folder or settings["folder"],
            checkpoint_type=CheckpointType(settings["checkpoint_type"]),
            **{name: settings[name] for name in (*_SAME, *_SECURITY)},
        )
        vm.hardware = _hardware(planned)
        for index, drive in enumerate(settings["drives"]):
            slot, layer = Slot.parse(drive["slot"]), layers.get(index)
            number = None if layer is None else layer.number
            vm.drives[drive["slot"]] = Drive(slot, number, shared=drive["shared"])
            if layer is not None:
                layer.folder_rights = False
                core.golden.add(vm.vm_id, slot, layer.size_bytes, core.files.backing(layer))
        core.world.vms[vm.vm_id] = vm
        del core.world.planned[vm.vm_id]


def storage_of(settings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Kind (disk or dvd), slot and path of each file in a drive."""
    for drive in settings["drives"]:
        if drive["path"] is not None:
            yield "disk", drive["slot"], drive["path"]
    for slot, path in settings["hardware"].get("dvd", {}).items():
        if path is not None:
            yield "dvd", slot, path


def adapters_of(hardware: dict[str, Any]) -> list[dict[str, Any]]:
    """Network adapters in the hardware of a VM; one if nothing has changed that."""
    return list(hardware.get("adapters", [{"key": "adapter", "members": {}}]))


def switch_of(adapter: dict[str, Any]) -> str:
    """Name of the switch of an adapter; empty if it is not connected."""
    name: str | None = adapter["members"].get("SwitchName", "External")
    return name or ""


def _hardware(planned: PlannedVm) -> dict[str, Any]:
    """Hardware of the realized VM: ids in it are those of the new VM."""
    settings = planned.settings
    old, new = UUID(settings["vm_id"]), planned.vm_id
    text = json.dumps(settings["hardware"])
    for before, after in [
        (old, new),
        *((uuid5(old, each["key"]), uuid5(new, each["key"])) for each in adapters_of(settings["hardware"])),
    ]:
        text = text.replace(str(before).upper(), str(after).upper())
    hardware: dict[str, Any] = json.loads(text)
    if planned.disconnected:
        hardware["adapters"] = [
            {
                **each,
                "members": {
                    **each["members"],
                    **({"SwitchName": "", "SwitchId": None, "Connected": False} if off else {}),
                },
            }
            for each, off in (
                (each, index in planned.disconnected)
                for index, each in enumerate(adapters_of(settings["hardware"]))
            )
        ]
    if settings["tpm_enabled"]:
        # It comes with the configuration.
        hardware.setdefault("key_protector", list(uuid5(old, "protector").bytes * 4))
    return hardware
