"""Drives, adapters and the vTPM in a plan of a new VM (:mod:`vm_plan`), from a VM's definition."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hvpsbridge.formats.definition import flag_in, number_in, rows_of, slot_of, table_of, text_in

# Microsoft.HyperV.PowerShell.ControllerType
_CONTROLLERS = {"ide": "IDE", "scsi": "SCSI"}
_MAX_CONTROLLERS, _MAX_PLACES = 4, 64
_CONTROLLER_OF_GENERATION = {1: 0, 2: 1}
# Parameters of Set-VMNetworkAdapter, the members of a definition, and what a new adapter has.
_SETTINGS = {
    **{name: (name, 1) for name in ("MacAddressSpoofing", "DhcpGuard", "RouterGuard")},
    **{name: (name, 1) for name in ("AllowTeaming", "IeeePriorityTag", "DeviceNaming")},
    **{name: (name, 0) for name in ("IovWeight", "DynamicIPAddressLimit", "StormLimit")},
    "VmqWeight": ("VMQWeight", 100),
    "PortMirroring": ("PortMirroringMode", 0),
}
# Members of BandwidthSetting, and parameters of Set-VMNetworkAdapter: bits per second, and a share.
_BANDWIDTH = ("MaximumBandwidth", "MinimumBandwidthAbsolute", "MinimumBandwidthWeight")
# Microsoft.HyperV.PowerShell.VMNetworkAdapterVlanMode, and its private modes but the promiscuous one, whose
# list of secondary VLANs no definition has.
_ACCESS, _TRUNK, _PRIVATE = 1, 2, 3
_PRIVATE_MODES = {1: "Isolated", 2: "Community"}
# Get-VMKeyProtector of a VM without one.
_NO_PROTECTOR = bytes((0, 0, 0, 4))


@dataclass(frozen=True, slots=True)
class PlannedDisk:
    """A disk of the new VM: slot as ``scsi 0:1``, and path of its file on the host."""

    slot: str
    path: str


def planned_disk(disk: PlannedDisk, disks: object) -> dict[str, Any]:
    """A disk drive.

    Args:
        disk: the disk.
        disks: that section of the definition.

    Raises:
        ValueError: its controller is one that a plan does not have.
    """
    kind, _, place = disk.slot.partition(" ")
    number, _, location = place.partition(":")
    if kind not in _CONTROLLERS:
        raise ValueError(f"disk {disk.slot} cannot be attached: its controller is neither IDE nor SCSI")
    found = next((each for each in rows_of(disks) if slot_of(each) == disk.slot), {})
    limits = {
        name: value for name in ("MinimumIOPS", "MaximumIOPS") if (value := number_in(found, name) or 0) > 0
    }
    return {
        "ControllerType": _CONTROLLERS[kind],
        "ControllerNumber": int(number),
        "ControllerLocation": int(location),
        "Path": disk.path,
        "limits": limits or None,
    }


def isos_of(dvd: object) -> tuple[str, ...]:
    """Paths of ISO files in the DVD drives of a definition."""
    paths = (text_in(each, "Path") for each in rows_of(dvd))
    return tuple(dict.fromkeys(path for path in paths if path))


def planned_dvds(dvd: object, generation: int, isos: Collection[str]) -> list[dict[str, Any]]:
    """DVD drives, with those ISO files that the host has."""
    planned = []
    for each in rows_of(dvd):
        number, location = number_in(each, "ControllerNumber"), number_in(each, "ControllerLocation")
        if number_in(each, "ControllerType") != _CONTROLLER_OF_GENERATION[generation]:
            continue
        if number in range(_MAX_CONTROLLERS) and location in range(_MAX_PLACES):
            path = text_in(each, "Path")
            planned.append(
                {
                    "ControllerNumber": number,
                    "ControllerLocation": location,
                    "Path": path if path in isos else None,
                }
            )
    return planned


def planned_adapters(network: object, *, connect: bool, keep_macs: bool) -> list[dict[str, Any]]:
    """Network adapters."""
    adapters = []
    for each in rows_of(network):
        static = keep_macs and flag_in(each, "DynamicMacAddressEnabled") is False
        adapters.append(
            {
                "Name": text_in(each, "Name") or "Network Adapter",
                "IsLegacy": True if flag_in(each, "IsLegacy") else None,
                "SwitchName": (text_in(each, "SwitchName") or None) if connect else None,
                "StaticMacAddress": text_in(each, "MacAddress") if static else None,
                "settings": _settings(each),
                "bandwidth": _bandwidth(table_of(each.get("Bandwidth"))),
                "vlan": _vlan(table_of(each.get("Vlan"))),
            }
        )
    return adapters


def planned_tpm(found: Mapping[str, Any], *, new: bool) -> dict[str, Any] | None:
    """The vTPM; None if the VM has none, or there is nothing that it can be made with.

    Args:
        found: the sections of the definition.
        new: make a new one if the host cannot use the key protector.
    """
    if not has_tpm(found):
        return None
    protector = _protector(found.get("key_protector"))
    return {"protector": protector, "new": new} if new or protector is not None else None


def has_tpm(found: Mapping[str, Any]) -> bool:
    """Whether a VM of generation 2 has a vTPM."""
    generation = number_in(table_of(found.get("vm")), "Generation")
    return generation == 2 and bool(flag_in(table_of(found.get("security")), "TpmEnabled"))


def promiscuous_of(network: object) -> bool:
    """Whether an adapter has a VLAN setting that no plan takes over."""
    return any(
        number_in(vlan, "OperationMode") and _vlan(vlan) is None
        for vlan in (table_of(each.get("Vlan")) for each in rows_of(network))
    )


def _settings(adapter: Mapping[str, Any]) -> dict[str, int] | None:
    """What is not as a new adapter has it."""
    found = {}
    for parameter, (member, usual) in _SETTINGS.items():
        value = number_in(adapter, member)
        if value is not None and value >= 0 and value != usual:
            found[parameter] = value
    return found or None


def _bandwidth(bandwidth: Mapping[str, Any]) -> list[dict[str, int]]:
    """Limits, each by itself; 0 is none."""
    return [{name: value} for name in _BANDWIDTH if (value := number_in(bandwidth, name))]


def _vlan(vlan: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters of ``Set-VMNetworkAdapterVlan``; None for an adapter without VLAN."""
    mode, wanted = number_in(vlan, "OperationMode"), _Reader(vlan)
    if mode == _ACCESS:
        return wanted("Access", VlanId=("AccessVlanId", number_in))
    if mode == _TRUNK:
        return wanted(
            "Trunk",
            NativeVlanId=("NativeVlanId", number_in),
            AllowedVlanIdList=("AllowedVlanIdListString", text_in),
        )
    private = _PRIVATE_MODES.get(number_in(vlan, "PrivateVlanMode") or 0)
    if mode == _PRIVATE and private is not None:
        return wanted(
            private,
            PrimaryVlanId=("PrimaryVlanId", number_in),
            SecondaryVlanId=("SecondaryVlanId", number_in),
        )
    return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads parameters of a mode from members; all must be there."""

    members: Mapping[str, Any]

    def __call__(
        self, mode: str, **names: tuple[str, Callable[[Mapping[str, Any], str], Any]]
    ) -> dict[str, Any] | None:
        values = {parameter: read(self.members, member) for parameter, (member, read) in names.items()}
        return None if None in values.values() else {mode: True, **values}


def _protector(text: object) -> str | None:
    """The key protector as base64, if it is one."""
    if not isinstance(text, str):
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return None if raw in (b"", _NO_PROTECTOR) else text


def controllers_used(disks: Iterable[Mapping[str, Any]], dvds: Iterable[Mapping[str, Any]]) -> int:
    """How many SCSI controllers drives of a plan need."""
    numbers = [disk["ControllerNumber"] for disk in disks if disk["ControllerType"] == "SCSI"]
    numbers += [dvd["ControllerNumber"] for dvd in dvds]
    return max((number + 1 for number in numbers), default=0)
