"""Instances of the WMI classes that describe planned VMs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.clock import utc
from hvpsbridge.sim.model.planning import adapters_of, storage_of, switch_of
from hvpsbridge.sim.model.state import PlannedVm, Slot
from hvpsbridge.sim.standin.classes import CLASSES

Row = dict[str, Any]
_SUBTYPES = {"disk": "Virtual Hard Disk", "dvd": "Virtual CD/DVD Disk"}
_ENABLED, _DISABLED = 2, 3


class PlannedInstances:
    """The planned VMs of one host, for one call."""

    def __init__(self, model: Model, node: str | None) -> None:
        self._model = model
        self._node = node
        self._host = model.nodes.get(node)

    def systems(self) -> Iterable[Row]:
        """``Msvm_PlannedComputerSystem``."""
        for one in self._all():
            yield {
                **dict.fromkeys(CLASSES["Msvm_PlannedComputerSystem"].properties),
                "CreationClassName": "Msvm_PlannedComputerSystem",
                "Name": str(one.vm_id).upper(),
                "ElementName": one.settings["name"],
                "Caption": "Planned Virtual Machine",
                "EnabledState": _DISABLED,
                "HealthState": 5,
                "OperationalStatus": [2],
                "InstallDate": utc(one.created).isoformat(),
            }

    def settings(self) -> Iterable[Row]:
        """``Msvm_VirtualSystemSettingData`` of planned VMs, and of checkpoints that they refer to."""
        for one in self._all():
            yield self._settings_row(one)
            if one.settings["parent"] is not None:
                yield {
                    **self._settings_row(one),
                    "InstanceID": f"{settings_id(one.vm_id)}\\{one.settings['parent'].upper()}",
                    "VirtualSystemType": "Microsoft:Hyper-V:Snapshot:Missing",
                    "ConfigurationID": one.settings["parent"].upper(),
                }

    def _settings_row(self, one: PlannedVm) -> Row:
        folder = one.folder or one.settings["folder"]
        return {
            **dict.fromkeys(CLASSES["Msvm_VirtualSystemSettingData"].properties),
            "InstanceID": settings_id(one.vm_id),
            "ElementName": one.settings["name"],
            "Caption": "Virtual Machine Settings",
            "VirtualSystemIdentifier": str(one.vm_id).upper(),
            "VirtualSystemType": "Microsoft:Hyper-V:System:Planned",
            "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{one.settings['generation']}",
            "ConfigurationID": str(one.vm_id).upper(),
            "ConfigurationDataRoot": folder,
            "SnapshotDataRoot": folder,
            "CreationTime": utc(one.created).isoformat(),
            "Notes": [one.settings["notes"]],
            "IncrementalBackupEnabled": False,
            "UserSnapshotType": one.settings["checkpoint_type"],
            "IsAutomaticSnapshot": False,
            "Version": one.settings["version"],
        }

    def storage(self) -> Iterable[Row]:
        """``Msvm_StorageAllocationSettingData``."""
        for one in self._all():
            for kind, slot, path in storage_of(one.settings):
                instance = storage_id(one, slot)
                yield {
                    **dict.fromkeys(CLASSES["Msvm_StorageAllocationSettingData"].properties),
                    "InstanceID": instance,
                    "ElementName": "Hard Disk Image" if kind == "disk" else "ISO Disk Image",
                    "Caption": "Hard Disk Image" if kind == "disk" else "ISO Disk Image",
                    "ResourceType": 31,
                    "ResourceSubType": f"Microsoft:Hyper-V:{_SUBTYPES[kind]}",
                    "HostResource": [path],
                    "Parent": instance.removesuffix("\\L") + "\\D",
                    "SnapshotId": "",
                    "WriteHardeningMethod": 0,
                }

    def connections(self) -> Iterable[Row]:
        """``Msvm_EthernetPortAllocationSettingData``."""
        for one in self._all():
            for index, adapter in enumerate(adapters_of(one.settings["hardware"])):
                switch = switch_of(adapter)
                connected = bool(switch) and index not in one.disconnected
                yield {
                    **dict.fromkeys(CLASSES["Msvm_EthernetPortAllocationSettingData"].properties),
                    "InstanceID": connection_id(one, adapter["key"]),
                    "ElementName": "Dynamic Ethernet Switch Port",
                    "Caption": "Ethernet Switch Port Settings",
                    "ResourceType": 33,
                    "ResourceSubType": "Microsoft:Hyper-V:Ethernet Connection",
                    "HostResource": [self._switch(switch)] if connected else None,
                    "Parent": connection_id(one, adapter["key"]).removesuffix("\\C"),
                    "EnabledState": _ENABLED if connected else _DISABLED,
                    "LastKnownSwitchName": switch or None,
                }

    def _switch(self, name: str) -> str:
        where = f"\\\\{self._host.name}\\root\\virtualization\\v2:Msvm_VirtualEthernetSwitch"
        key = str(uuid5(UUID(int=0), name)).upper()
        return f'{where}.CreationClassName="Msvm_VirtualEthernetSwitch",Name="{key}"'

    def _all(self) -> tuple[PlannedVm, ...]:
        return self._model.planned.all(self._node)


def settings_id(owner: UUID) -> str:
    """``InstanceID`` of the settings of a VM or checkpoint."""
    return f"Microsoft:{str(owner).upper()}"


def storage_id(planned: PlannedVm, slot: str) -> str:
    """``InstanceID`` of the file in a drive."""
    place = Slot.parse(slot)
    old = UUID(planned.settings["vm_id"])
    controller = uuid5(old, f"{place.controller_type.name}{place.controller_number}")
    return f"{settings_id(planned.vm_id)}\\{str(controller).upper()}\\0\\{place.controller_location}\\L"


def connection_id(planned: PlannedVm, key: str) -> str:
    """``InstanceID`` of the connection of an adapter."""
    adapter = uuid5(UUID(planned.settings["vm_id"]), key)
    return f"{settings_id(planned.vm_id)}\\{str(adapter).upper()}\\C"
