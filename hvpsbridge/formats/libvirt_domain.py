"""A VM of a point as a libvirt domain. Pure; its QEMU options are in :mod:`hvpsbridge.formats.qemu_options`.

Guests of Hyper-V need not have virtio drivers, so disks are at IDE and AHCI controllers, which Windows and
Linux know, unless a disk has sectors of 4096 bytes, which QEMU has at SCSI controllers only. Adapters are
there, but not connected: the source may still run (libvirt, Domain XML format; QEMU, Invocation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as Xml

from hvpsbridge.formats.definition import number_in, rows_of, sections_of, slot_of, table_of
from hvpsbridge.units import MIB

DEFAULT_MEMORY_BYTES = 2048 * MIB
MAX_PROCESSORS = 240
# Two IDE channels of two, at a PC.
IDE_DISKS = 4
_GENERATION_2 = 2
_MAC_DIGITS = 12


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """A disk of the domain.

    Attributes:
        file: its qcow2 file.
        slot: where it was, for example ``scsi 0:1``.
    """

    file: str
    slot: str
    sector_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What is made of a VM's definition.

    Attributes:
        uefi: generation 2.
        disks: in the order in which they are tried for booting.
        macs: of the adapters.
        lacks: what the definition does not have, so that a default was taken; one line each.
    """

    name: str
    memory_bytes: int
    processors: int
    uefi: bool
    disks: tuple[DomainDisk, ...]
    macs: tuple[str, ...]
    lacks: tuple[str, ...]


def domain_of(name: str, definition: str, disks: Sequence[DomainDisk]) -> Domain:
    """A domain for a VM.

    Args:
        name: of the VM.
        definition: portable, from the point; may be damaged or empty.
        disks: as in the point.
    """
    found = sections_of(definition)
    lacks = []
    memory = number_in(table_of(found.get("memory")), "Startup")
    if not memory:
        lacks.append(f"memory; the domain has {DEFAULT_MEMORY_BYTES // MIB} MiB")
    processors = number_in(table_of(found.get("processor")), "Count")
    if not processors:
        lacks.append("processors; the domain has one")
    generation = number_in(table_of(found.get("vm")), "Generation")
    if not generation:
        lacks.append("the generation; the domain boots by UEFI")
    first = _boot_slot(found)
    ordered = sorted(disks, key=lambda disk: disk.slot != first)
    macs = map(_mac, rows_of(found.get("network")))
    return Domain(
        name=_name(name),
        memory_bytes=max(memory or DEFAULT_MEMORY_BYTES, 32 * MIB),
        processors=min(processors or 1, MAX_PROCESSORS),
        uefi=generation in (None, 0, _GENERATION_2),
        disks=tuple(ordered),
        macs=tuple(mac for mac in macs if mac),
        lacks=tuple(lacks),
    )


def domain_xml(domain: Domain) -> str:
    """The domain for ``virsh define``. Its files are named by absolute paths."""
    top = Xml.Element("domain", type="kvm")
    Xml.SubElement(top, "name").text = domain.name
    Xml.SubElement(top, "memory", unit="KiB").text = str(domain.memory_bytes // 1024)
    Xml.SubElement(top, "vcpu").text = str(domain.processors)
    system = Xml.SubElement(top, "os", {"firmware": "efi"} if domain.uefi else {})
    kind = Xml.SubElement(system, "type", arch="x86_64", machine="q35" if domain.uefi else "pc")
    kind.text = "hvm"
    if domain.uefi:
        firmware = Xml.SubElement(system, "firmware")
        Xml.SubElement(firmware, "feature", enabled="no", name="secure-boot")
    features = Xml.SubElement(top, "features")
    for name in ("acpi", "apic"):
        Xml.SubElement(features, name)
    devices = Xml.SubElement(top, "devices")
    for order, (disk, bus, device) in enumerate(placed(domain), 1):
        made = Xml.SubElement(devices, "disk", type="file", device="disk")
        Xml.SubElement(made, "driver", name="qemu", type="qcow2")
        Xml.SubElement(made, "source", file=disk.file)
        Xml.SubElement(made, "target", dev=device, bus=bus)
        if disk.sector_bytes != 512:
            size = str(disk.sector_bytes)
            Xml.SubElement(made, "blockio", logical_block_size=size, physical_block_size=size)
        Xml.SubElement(made, "boot", order=str(order))
    if any(bus == "scsi" for _, bus, _ in placed(domain)):
        Xml.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for mac in domain.macs:
        adapter = Xml.SubElement(devices, "interface", type="network")
        Xml.SubElement(adapter, "mac", address=mac)
        Xml.SubElement(adapter, "source", network="default")
        Xml.SubElement(adapter, "model", type="e1000e" if domain.uefi else "e1000")
        Xml.SubElement(adapter, "link", state="down")
    Xml.SubElement(devices, "serial", type="pty")
    Xml.SubElement(devices, "graphics", type="vnc", listen="127.0.0.1")
    video = Xml.SubElement(devices, "video")
    Xml.SubElement(video, "model", type="vga")
    Xml.indent(top)
    return Xml.tostring(top, encoding="unicode") + "\n"


def placed(domain: Domain) -> list[tuple[DomainDisk, str, str]]:
    """Disks with their bus (ide, sata or scsi) and the device name that says where on it."""
    counts = dict.fromkeys(("ide", "sata", "scsi"), 0)
    letters = {"ide": "hd", "sata": "sd", "scsi": "sd"}
    found = []
    for disk in domain.disks:
        if disk.sector_bytes != 512:
            bus = "scsi"
        elif not domain.uefi and disk.slot.startswith("ide ") and counts["ide"] < IDE_DISKS:
            bus = "ide"
        else:
            bus = "sata"
        number = counts[bus] if bus == "ide" else counts["sata"] + counts["scsi"]
        counts[bus] += 1
        found.append((disk, bus, letters[bus] + _letters(number)))
    return found


def _letters(number: int) -> str:
    """a to z, then aa and so on."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _name(text: str) -> str:
    """A name that libvirt takes: no slash, no control characters, not empty."""
    kept = "".join("_" if letter == "/" or not letter.isprintable() else letter for letter in text).strip()
    return kept[:100].strip() or "restored"


def _mac(adapter: Mapping[str, Any]) -> str | None:
    digits = str(adapter.get("MacAddress") or "").lower()
    valid = len(digits) == _MAC_DIGITS and all(digit in "0123456789abcdef" for digit in digits)
    # libvirt refuses addresses of groups.
    if not valid or digits == "0" * _MAC_DIGITS or int(digits[1], 16) & 1:
        return None
    return ":".join(digits[at : at + 2] for at in range(0, _MAC_DIGITS, 2))


def _boot_slot(found: Mapping[str, Any]) -> str | None:
    """Slot of the first disk in the boot order of the firmware; that of IDE 0:0 without one."""
    for entry in rows_of(table_of(found.get("firmware")).get("BootOrder")):
        if slot := slot_of(table_of(entry.get("Device"))):
            return slot
    return "ide 0:0"
