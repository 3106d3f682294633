"""What a restore asks a host to make of a VM's definition: the parameter ``Json`` of ``New-HvpsVm``.

Definitions come from a repository, and so from another host: a value that does not have the form that it must
have is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_Reader = Callable[[Mapping[str, Any], str], Any]

# Microsoft.HyperV.PowerShell.ControllerType
_CONTROLLERS = {"ide": "IDE", "scsi": "SCSI"}
# Microsoft.HyperV.PowerShell.OnOffState
_OFF = 1
_BOOT_DEVICES = 6
# Microsoft.HyperV.PowerShell.VMBootSourceType
_BOOT_FILE = 3


@dataclass(frozen=True, slots=True)
class PlannedDisk:
    """A disk of the new VM: slot as ``scsi 0:1``, and path of its file on the host."""

    slot: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What is not in the definition.

    Attributes:
        mark: notes of the VM while it is made.
        connect_network: connect adapters to the switches that the definition names.
        keep_macs: give adapters with a static address that address.
    """

    mark: str
    connect_network: bool = False
    keep_macs: bool = False


def vm_plan(definition: str, disks: Iterable[PlannedDisk], options: PlanOptions) -> str:
    """The plan, as JSON text.

    Raises:
        ValueError: the definition lacks what a VM cannot be made without.
    """
    found = _table(_parsed(definition))
    vm, memory = _table(found.get("vm")), _table(found.get("memory"))
    generation, startup = _number(vm, "Generation"), _number(memory, "Startup")
    if generation not in (1, 2) or startup is None:
        raise ValueError("the definition in this point lacks generation or memory of the VM")
    planned = [_disk(disk) for disk in disks]
    used = [disk["ControllerNumber"] + 1 for disk in planned if disk["ControllerType"] == "SCSI"]
    adapters = _adapters(found.get("network"), options)
    dynamic = _flag(memory, "DynamicMemoryEnabled")
    plan: dict[str, Any] = {
        "mark": options.mark,
        "notes": _text(vm, "Notes") or "",
        "generation": generation,
        "version": _text(vm, "Version"),
        "memory": {
            "DynamicMemoryEnabled": dynamic,
            "StartupBytes": startup,
            "MinimumBytes": _number(memory, "Minimum") if dynamic else None,
            "MaximumBytes": _number(memory, "Maximum") if dynamic else None,
            "Buffer": _number(memory, "Buffer") if dynamic else None,
            "Priority": _number(memory, "Priority"),
        },
        "processor": _members(
            found.get("processor"),
            {
                "Count": _number,
                "Maximum": _number,
                "Reserve": _number,
                "RelativeWeight": _number,
                "ExposeVirtualizationExtensions": _flag,
                "CompatibilityForMigrationEnabled": _flag,
                "CompatibilityForOlderOperatingSystemsEnabled": _flag,
            },
        ),
        "vm": _members(
            vm,
            {
                "AutomaticStartDelay": _number,
                "AutomaticStopAction": _number,
                "CheckpointType": _number,
                "AutomaticCheckpointsEnabled": _flag,
            },
        ),
        "scsi_controllers": max([_number(found, "scsi_controllers") or 0, *used]),
        "disks": planned,
        "adapters": adapters,
        "firmware": _firmware(found.get("firmware")) if generation == 2 else None,
        "boot": _boot(found),
        "bios": _bios(found.get("bios")),
        "services": _services(found.get("integration_services")),
    }
    return json.dumps(plan, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Needs:
    """What a host must have for a plan; None where the plan does not say."""

    version: str | None
    memory_bytes: int
    processors: int | None
    switches: tuple[str, ...]
    template: str | None


def needs_of(plan: str) -> Needs:
    """What a host must have for a plan of :func:`vm_plan`."""
    found = json.loads(plan)
    return Needs(
        version=found["version"],
        memory_bytes=found["memory"]["StartupBytes"],
        processors=found["processor"]["Count"],
        switches=tuple(dict.fromkeys(a["SwitchName"] for a in found["adapters"] if a["SwitchName"])),
        template=(found["firmware"] or {}).get("SecureBootTemplate"),
    )


def left_out(definition: str) -> tuple[str, ...]:
    """What a definition has and a plan does not take over, one line each."""
    found = _table(_parsed(definition))
    security, lines = _table(found.get("security")), []
    if _flag(security, "TpmEnabled"):
        lines.append("a virtual TPM, so BitLocker will ask for its recovery key")
    if _flag(security, "Shielded"):
        lines.append("shielding")
    if dvd := _list(found.get("dvd")):
        lines.append(f"{len(dvd)} DVD drives")
    if any(_number(_table(each.get("Vlan")), "OperationMode") for each in _list(found.get("network"))):
        lines.append("VLAN settings of network adapters")
    if any(_flag(each, "SupportPersistentReservations") for each in _list(found.get("disks"))):
        lines.append("sharing of disks with other VMs")
    if any(
        _number(each, "MinimumIOPS") or _number(each, "MaximumIOPS") for each in _list(found.get("disks"))
    ):
        lines.append("limits of disks")
    boot = _list(_table(found.get("firmware")).get("BootOrder"))
    if any(_number(each, "BootType") == _BOOT_FILE for each in boot):
        lines.append("boot entries that are files, so it starts \\EFI\\BOOT\\BOOTX64.EFI of the first disk")
    if _flag(_table(found.get("vm")), "IsClustered"):
        lines.append("its role in the cluster")
    return tuple(lines)


def _parsed(definition: str) -> object:
    try:
        return json.loads(definition)
    except (ValueError, RecursionError):
        return {}


def _disk(disk: PlannedDisk) -> dict[str, Any]:
    kind, _, place = disk.slot.partition(" ")
    number, _, location = place.partition(":")
    if kind not in _CONTROLLERS:
        raise ValueError(f"disk {disk.slot} cannot be attached: its controller is neither IDE nor SCSI")
    return {
        "ControllerType": _CONTROLLERS[kind],
        "ControllerNumber": int(number),
        "ControllerLocation": int(location),
        "Path": disk.path,
    }


def _adapters(network: object, options: PlanOptions) -> list[dict[str, Any]]:
    adapters = []
    for each in _list(network):
        static = options.keep_macs and _flag(each, "DynamicMacAddressEnabled") is False
        adapters.append(
            {
                "Name": _text(each, "Name") or "Network Adapter",
                "IsLegacy": True if _flag(each, "IsLegacy") else None,
                "SwitchName": (_text(each, "SwitchName") or None) if options.connect_network else None,
                "StaticMacAddress": _text(each, "MacAddress") if static else None,
            }
        )
    return adapters


def _firmware(firmware: object) -> dict[str, Any]:
    found = _table(firmware)
    secure = _number(found, "SecureBoot")
    return {
        "EnableSecureBoot": secure,
        "SecureBootTemplate": _text(found, "SecureBootTemplate") if secure != _OFF else None,
        "PreferredNetworkBootProtocol": _number(found, "PreferredNetworkBootProtocol"),
        "ConsoleMode": _number(found, "ConsoleMode"),
        "PauseAfterBootFailure": _number(found, "PauseAfterBootFailure"),
    }


def _boot(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Drives by slot, and adapters by name, which is how the new ones are found."""
    network = _list(found.get("network"))
    names = {_text(each, "AdapterId"): _text(each, "Name") or "Network Adapter" for each in network}
    order: list[dict[str, Any]] = []
    for entry in _list(_table(found.get("firmware")).get("BootOrder")):
        device = _table(entry.get("Device"))
        kind, adapter = _number(device, "ControllerType"), _text(device, "AdapterId")
        if adapter in names:
            order.append({"adapter": names[adapter], "type": None, "number": None, "location": None})
        elif kind is not None:
            order.append(
                {
                    "adapter": None,
                    "type": kind,
                    "number": _number(device, "ControllerNumber"),
                    "location": _number(device, "ControllerLocation"),
                }
            )
    return order


def _bios(bios: object) -> dict[str, Any] | None:
    found = _table(bios)
    if not found:
        return None
    numlock, order = _flag(found, "NumLockEnabled"), found.get("StartupOrder")
    fits = isinstance(order, list) and all(type(each) is int and 0 <= each < _BOOT_DEVICES for each in order)
    return {
        "EnableNumLock": True if numlock else None,
        "DisableNumLock": True if numlock is False else None,
        "StartupOrder": order if fits and order else None,
    }


def _services(services: object) -> dict[str, bool] | None:
    """Whether each service is enabled, by the end of its id."""
    found = {
        identity.rpartition("\\")[2]: enabled
        for each in _list(services)
        if (identity := _text(each, "Id")) and (enabled := _flag(each, "Enabled")) is not None
    }
    return found or None


def _members(section: object, members: Mapping[str, _Reader]) -> dict[str, Any]:
    found = _table(section)
    return {name: read(found, name) for name, read in members.items()}


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def _flag(found: Mapping[str, Any], name: str) -> bool | None:
    value = found.get(name)
    return value if isinstance(value, bool) else None


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None
