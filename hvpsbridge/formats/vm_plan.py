"""What a restore asks a host to make of a VM's definition: the parameter ``Json`` of ``New-HvpsVm``.

Definitions come from a repository, and so from another host: a value that does not have the form that it must
have is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hvpsbridge.formats.definition import flag_in, number_in, rows_of, sections_of, table_of, text_in
from hvpsbridge.formats.vm_devices import (
    PlannedDisk,
    controllers_used,
    has_tpm,
    isos_of,
    planned_adapters,
    planned_disk,
    planned_dvds,
    planned_tpm,
    promiscuous_of,
)

_Reader = Callable[[Mapping[str, Any], str], Any]

# Microsoft.HyperV.PowerShell.OnOffState
_OFF = 1
_BOOT_DEVICES = 6
# Microsoft.HyperV.PowerShell.VMBootSourceType
_BOOT_FILE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What is not in the definition.

    Attributes:
        mark: notes of the VM while it is made.
        connect_network: connect adapters to the switches that the definition names.
        keep_macs: give adapters with a static address that address.
        new_tpm: make a new vTPM if the host cannot use the key protector.
        isos: files for DVD drives that the host has.
        keep_mark: leave the mark in the notes, instead of those in the definition.
    """

    mark: str
    connect_network: bool = False
    keep_macs: bool = False
    new_tpm: bool = False
    isos: Collection[str] = ()
    keep_mark: bool = False


def vm_plan(definition: str, disks: Iterable[PlannedDisk], options: PlanOptions) -> str:
    """The plan, as JSON text.

    Raises:
        ValueError: the definition lacks what a VM cannot be made without.
    """
    found = sections_of(definition)
    vm, memory = table_of(found.get("vm")), table_of(found.get("memory"))
    generation, startup = number_in(vm, "Generation"), number_in(memory, "Startup")
    if generation not in (1, 2) or startup is None:
        raise ValueError("the definition in this point lacks generation or memory of the VM")
    planned = [planned_disk(disk, found.get("disks")) for disk in disks]
    dvds = planned_dvds(found.get("dvd"), generation, options.isos)
    used = controllers_used(planned, dvds if generation == 2 else ())
    dynamic = flag_in(memory, "DynamicMemoryEnabled")
    plan: dict[str, Any] = {
        "mark": options.mark,
        "notes": options.mark if options.keep_mark else text_in(vm, "Notes") or "",
        "generation": generation,
        "version": text_in(vm, "Version"),
        "memory": {
            "DynamicMemoryEnabled": dynamic,
            "StartupBytes": startup,
            "MinimumBytes": number_in(memory, "Minimum") if dynamic else None,
            "MaximumBytes": number_in(memory, "Maximum") if dynamic else None,
            "Buffer": number_in(memory, "Buffer") if dynamic else None,
            "Priority": number_in(memory, "Priority"),
        },
        "processor": _members(
            found.get("processor"),
            {
                "Count": number_in,
                "Maximum": number_in,
                "Reserve": number_in,
                "RelativeWeight": number_in,
                "ExposeVirtualizationExtensions": flag_in,
                "CompatibilityForMigrationEnabled": flag_in,
                "CompatibilityForOlderOperatingSystemsEnabled": flag_in,
            },
        ),
        "vm": _members(
            vm,
            {
                "AutomaticStartDelay": number_in,
                "AutomaticStopAction": number_in,
                "CheckpointType": number_in,
                "AutomaticCheckpointsEnabled": flag_in,
            },
        ),
        "scsi_controllers": max(number_in(found, "scsi_controllers") or 0, used),
        "disks": planned,
        "dvd": dvds,
        "adapters": planned_adapters(
            found.get("network"), connect=options.connect_network, keep_macs=options.keep_macs
        ),
        "tpm": planned_tpm(found, new=options.new_tpm),
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


def isos_in(definition: str) -> tuple[str, ...]:
    """Paths of ISO files in the DVD drives of a definition."""
    return isos_of(sections_of(definition).get("dvd"))


def wants_tpm(definition: str) -> bool:
    """Whether a definition has a vTPM."""
    return has_tpm(sections_of(definition))


def left_out(definition: str) -> tuple[str, ...]:
    """What a definition has and a plan does not take over, one line each."""
    found = sections_of(definition)
    lines = []
    if has_tpm(found):
        lines.append("what the vTPM holds, so BitLocker will ask for its recovery key")
    if flag_in(table_of(found.get("security")), "Shielded"):
        lines.append("shielding")
    if promiscuous_of(found.get("network")):
        lines.append("VLAN settings of network adapters that are promiscuous, or not complete in the point")
    disks = rows_of(found.get("disks"))
    if any(flag_in(each, "SupportPersistentReservations") for each in disks):
        lines.append("sharing of disks with other VMs")
    if any((text_in(each, "QoSPolicyID") or "").strip("0-") for each in disks):
        lines.append("the storage QoS policy of disks")
    boot = rows_of(table_of(found.get("firmware")).get("BootOrder"))
    if any(number_in(each, "BootType") == _BOOT_FILE for each in boot):
        lines.append("boot entries that are files, so it starts \\EFI\\BOOT\\BOOTX64.EFI of the first disk")
    if flag_in(table_of(found.get("vm")), "IsClustered"):
        lines.append("its role in the cluster")
    return tuple(lines)


def _firmware(firmware: object) -> dict[str, Any]:
    found = table_of(firmware)
    secure = number_in(found, "SecureBoot")
    return {
        "EnableSecureBoot": secure,
        "SecureBootTemplate": text_in(found, "SecureBootTemplate") if secure != _OFF else None,
        "PreferredNetworkBootProtocol": number_in(found, "PreferredNetworkBootProtocol"),
        "ConsoleMode": number_in(found, "ConsoleMode"),
        "PauseAfterBootFailure": number_in(found, "PauseAfterBootFailure"),
    }


def _boot(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Drives by slot, and adapters by name, which is how the new ones are found."""
    network = rows_of(found.get("network"))
    names = {text_in(each, "AdapterId"): text_in(each, "Name") or "Network Adapter" for each in network}
    order: list[dict[str, Any]] = []
    for entry in rows_of(table_of(found.get("firmware")).get("BootOrder")):
        device = table_of(entry.get("Device"))
        kind, adapter = number_in(device, "ControllerType"), text_in(device, "AdapterId")
        if adapter in names:
            order.append({"adapter": names[adapter], "type": None, "number": None, "location": None})
        elif kind is not None:
            order.append(
                {
                    "adapter": None,
                    "type": kind,
                    "number": number_in(device, "ControllerNumber"),
                    "location": number_in(device, "ControllerLocation"),
                }
            )
    return order


def _bios(bios: object) -> dict[str, Any] | None:
    found = table_of(bios)
    if not found:
        return None
    numlock, order = flag_in(found, "NumLockEnabled"), found.get("StartupOrder")
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
        for each in rows_of(services)
        if (identity := text_in(each, "Id")) and (enabled := flag_in(each, "Enabled")) is not None
    }
    return found or None


def _members(section: object, members: Mapping[str, _Reader]) -> dict[str, Any]:
    found = table_of(section)
    return {name: read(found, name) for name, read in members.items()}
