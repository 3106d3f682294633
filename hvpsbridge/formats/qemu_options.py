"""A domain as options of QEMU, and as a script that starts it. Pure."""

from __future__ import annotations

import shlex

from hvpsbridge.formats.libvirt_domain import Domain, placed
from hvpsbridge.units import MIB

# What Debian's package ovmf installs.
UEFI = "/usr/share/ovmf/OVMF.fd"
# Of one controller.
AHCI_PORTS = 6


def machine_options(domain: Domain, accelerator: str) -> list[str]:
    """Machine, memory, processors and firmware, without a network.

    Args:
        domain: the VM.
        accelerator: as QEMU has it, for example ``kvm:tcg``.
    """
    machine = "q35" if domain.uefi else "pc"
    options = ["-machine", f"{machine},accel={accelerator}", "-m", str(domain.memory_bytes // MIB)]
    options += ["-smp", str(domain.processors)]
    if domain.uefi:
        options += ["-bios", UEFI]
    return [*options, "-nic", "none"]


def disk_options(domain: Domain) -> list[str]:
    """Controllers, and disks with the drives ``disk0``, ``disk1`` and so on, which must be there."""
    disks = placed(domain)
    options = []
    if any(bus == "scsi" for _, bus, _ in disks):
        options += ["-device", "virtio-scsi-pci,id=scsi"]
    ports = sum(bus == "sata" for _, bus, _ in disks)
    for number in range(-(-ports // AHCI_PORTS)):
        options += ["-device", f"ich9-ahci,id=ahci{number}"]
    counts = dict.fromkeys(("ide", "sata", "scsi"), 0)
    for index, (disk, bus, _) in enumerate(disks):
        number, counts[bus] = counts[bus], counts[bus] + 1
        boot = f"drive=disk{index},bootindex={index + 1}"
        if bus == "ide":
            options += ["-device", f"ide-hd,bus=ide.{number // 2},unit={number % 2},{boot}"]
        elif bus == "sata":
            port = f"ahci{number // AHCI_PORTS}.{number % AHCI_PORTS}"
            options += ["-device", f"ide-hd,bus={port},{boot}"]
        else:
            size = f"logical_block_size={disk.sector_bytes},physical_block_size={disk.sector_bytes}"
            options += ["-device", f"scsi-hd,bus=scsi.0,{size},{boot}"]
    return options


def qemu_script(domain: Domain) -> str:
    """A shell script that starts QEMU with the disks beside it, and passes on further arguments."""
    command = [
        "qemu-system-x86_64",
        "-name",
        domain.name.replace(",", ",,"),
        *machine_options(domain, "kvm:tcg"),
    ]
    for index, disk in enumerate(domain.disks):
        name = disk.file.rpartition("/")[2].replace(",", ",,")
        command += ["-drive", f"file={name},format=qcow2,if=none,id=disk{index}"]
    command += disk_options(domain)
    return (
        "#!/bin/sh\n"
        "# Starts the VM without a network. Add options, such as -snapshot to keep the disks as they are.\n"
        'cd "$(dirname "$0")" || exit 1\n'
        f'exec {shlex.join(command)} "$@"\n'
    )
