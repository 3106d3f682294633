"""A disk with systemd-boot, a kernel of Debian and a shell, for a VM of generation 2. Made without root."""

from __future__ import annotations

from pathlib import Path

from hvpsbridge.units import MIB
from tests.filesystems.images import empty, tool
from tests.qemu.linux import initramfs, kernel_and_modules, missing

LOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox printf '\\nsmall login: ' > /dev/tty0
while :; do /bin/busybox sleep 3600; done
"""
_ENTRY = "title small\nlinux /linux\ninitrd /initrd\noptions console=tty0 quiet\n"


def missing_for_efi() -> str:
    """What this machine lacks for such a disk; empty if it can be made."""
    return missing() or ("" if LOADER.exists() else "systemd-boot-efi")


def efi_disk(path: Path, *, system: bool = True, menu: bool = False) -> Path:
    """A disk with a GPT and the system partition. The guest shows a login prompt, and uses no disk.

    Args:
        path: of the new raw image.
        system: whether there is an init; without one the kernel panics.
        menu: whether the boot loader waits for a key.
    """
    found = kernel_and_modules()
    assert found is not None
    work = path.parent / f"{path.name}.work"
    work.mkdir()
    (work / "initrd").write_bytes(initramfs((), _INIT if system else None))
    (work / "small.conf").write_text(_ENTRY)
    (work / "loader.conf").write_text("timeout menu-force\n" if menu else "timeout 0\n")
    image = empty(work / "system", 64 * MIB)
    tool("mkfs.vfat", "-F", "32", image)
    tool("mmd", "-i", image, "::EFI", "::EFI/BOOT", "::loader", "::loader/entries")
    for source, name in (
        (found[0], "linux"),
        (work / "initrd", "initrd"),
        (work / "small.conf", "loader/entries/small.conf"),
        (work / "loader.conf", "loader/loader.conf"),
        (LOADER, "EFI/BOOT/BOOTX64.EFI"),
    ):
        tool("mcopy", "-i", image, source, f"::{name}")
    tool("sfdisk", "-q", empty(path, 66 * MIB), text="label: gpt\nstart=1MiB, size=64MiB, type=U\n")
    with path.open("r+b") as disk:
        disk.seek(MIB)
        disk.write(image.read_bytes())
    return path
