"""A small real Linux on a disk: kernel of Debian, busybox, syslinux. Made without root."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hvpsbridge.qemu.guest import best_accelerator
from hvpsbridge.units import MIB
from tests.filesystems.images import empty, ext4, tool

BUSYBOX = Path("/bin/busybox")
MASTER_BOOT_RECORD = Path("/usr/lib/syslinux/mbr/mbr.bin")
MODULES = ("ata_piix", "sd_mod", "ext4", "virtio_pci", "virtio_blk", "virtio_console")
BOOT_BYTES = 40 * MIB
# Behind the first partition.
ROOT_START = MIB + BOOT_BYTES
# The serial line is the console, the last one named.
CONSOLES = "console=tty0 console=ttyS0"

_INITRAMFS = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod /$module; done
until [ -b /dev/sda2 -o -b /dev/vda2 ]; do /bin/busybox sleep 0.1; done
for disk in /dev/[sv]da2; do /bin/busybox mount -t ext4 $disk /root; done
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""
_INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
if [ ! -e /written ]; then
    cat /proc/sys/kernel/random/uuid > /written
    echo "wrote: $(cat /written)"
    mount -o remount,ro /
    poweroff -f
fi
echo "read: $(cat /written)"
if [ -e /large ]; then dd if=/large of=/dev/null bs=1M; echo "large: done"; fi
if [ -e /agent ]; then
    for port in /dev/vport*p1; do exec 3<>"$port"; done
    read -r question <&3
    id=${question##*: }
    echo "{\\"return\\": ${id%%\\}*}}" >&3
    sleep 3600
fi
printf '\\nsmall login: ' | tee /dev/tty0
while :; do sleep 3600; done
"""
COMMANDS = ("sh", "mount", "cat", "poweroff", "dd", "sleep", "tee")


def missing() -> str:
    """What this machine lacks for such a disk; empty if it can be made."""
    # One that needs libraries cannot run in an initramfs.
    if not BUSYBOX.exists() or b"/ld-linux" in BUSYBOX.read_bytes():
        return "busybox-static"
    if not MASTER_BOOT_RECORD.exists() or shutil.which("syslinux") is None:
        return "syslinux and syslinux-common"
    return "" if kernel_and_modules() else "a kernel in /boot with drivers of IDE (linux-image-cloud-amd64)"


def linux_disk(
    path: Path,
    *,
    files: Sequence[str] = (),
    data_bytes: int = 0,
    system: bool = True,
) -> Path:
    """A disk with an MBR, FAT16 with boot loader and kernel, and ext4 with the system.

    When it boots the first time, it writes the file ``/written`` and switches itself off. Later it prints
    what is in it on the console, and a login prompt there and on the screen.

    Args:
        path: of the new raw image.
        files: empty files in the root folder, which change what the system does.
        data_bytes: size of a file that is read whole before the prompt; 0 for none.
        system: whether there is an init; without one the kernel panics.
    """
    work = path.parent / f"{path.name}.work"
    work.mkdir()
    found = kernel_and_modules()
    assert found is not None
    kernel, modules = found
    root = work / "root"
    for folder in ("bin", "sbin", "dev", "proc"):
        (root / folder).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for command in COMMANDS:
        (root / "bin" / command).symlink_to("busybox")
    for name in files:
        (root / name).touch()
    if data_bytes:
        _fill(root / "large", data_bytes)
    if system:
        (root / "sbin/init").write_text(_INIT)
        (root / "sbin/init").chmod(0o755)
    root_bytes = 24 * MIB + data_bytes + data_bytes // 16
    # Inodes and lost+found belong to root whoever runs the tests.
    image = ext4(work / "ext4", root, root_bytes // MIB * MIB, "-E", "root_owner=0:0")
    boot = _boot(work, kernel, modules)
    empty(path, ROOT_START + image.stat().st_size + MIB)
    script = (
        f"label: dos\nstart=1MiB, size={BOOT_BYTES // MIB}MiB, type=6, bootable\n"
        f"start={ROOT_START // MIB}MiB, size={image.stat().st_size // MIB}MiB, type=83\n"
    )
    tool("sfdisk", "-q", path, text=script)
    with path.open("r+b") as disk:
        disk.write(MASTER_BOOT_RECORD.read_bytes()[:440])
        for part, at in ((boot, MIB), (image, ROOT_START)):
            disk.seek(at)
            with part.open("rb") as file:
                shutil.copyfileobj(file, disk, MIB)
    shutil.rmtree(work)
    return path


def first_boot(path: Path) -> str:
    """Boot a disk as it is, and let it write; what it wrote into its file."""
    options = [
        "-machine",
        f"pc,accel={best_accelerator().value}",
        "-m",
        "256",
        "-nic",
        "none",
        "-display",
        "none",
    ]
    drive = ["-drive", f"file={path},format=raw,if=ide", "-no-reboot"]
    done = subprocess.run(
        ["qemu-system-x86_64", *options, *drive, "-monitor", "none", "-serial", "stdio"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("wrote: ")]
    assert lines, done.stdout
    return lines[0].removeprefix("wrote: ").strip()


def _boot(work: Path, kernel: Path, modules: Sequence[Path]) -> Path:
    """FAT16 with syslinux, the kernel and its initramfs."""
    (work / "initrd").write_bytes(initramfs(modules, _INITRAMFS))
    config = f"DEFAULT linux\nLABEL linux\n KERNEL linux\n INITRD initrd\n APPEND quiet {CONSOLES}\n"
    (work / "syslinux.cfg").write_text(config)
    image = empty(work / "boot", BOOT_BYTES)
    # The loader finds its own sectors by the number of those in front of the partition.
    tool("mkfs.vfat", "-F", "16", "-h", str(MIB // 512), image)
    for source, name in (
        (kernel, "linux"),
        (work / "initrd", "initrd"),
        (work / "syslinux.cfg", "syslinux.cfg"),
    ):
        tool("mcopy", "-i", image, source, f"::{name}")
    tool("syslinux", "--install", image)
    return image


def initramfs(modules: Sequence[Path], init: str | None) -> bytes:
    """A cpio archive (kernel documentation: initramfs buffer format); without an init, the kernel panics."""
    entries = [_entry(folder, 0o040755, b"") for folder in ("bin", "dev", "root")]
    entries.append(_entry("bin/busybox", 0o100755, BUSYBOX.read_bytes()))
    if init is not None:
        entries.append(_entry("init", 0o100755, init.encode()))
    names = []
    for module in modules:
        content = module.read_bytes()
        names.append(module.name.removesuffix(".xz"))
        content = lzma.decompress(content) if module.suffix == ".xz" else content
        entries.append(_entry(names[-1], 0o100644, content))
    entries.append(_entry("modules", 0o100644, "\n".join(names).encode()))
    return b"".join((*entries, _entry("TRAILER!!!", 0, b"")))


def _entry(name: str, mode: int, content: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)


@cache
def kernel_and_modules() -> tuple[Path, tuple[Path, ...]] | None:
    """The first kernel that can be read and has the drivers, and its modules in the order to load them."""
    for kernel in sorted(Path("/boot").glob("vmlinuz-*")):
        folder = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
        try:
            kernel.open("rb").close()
            modules = _modules(folder)
        except (OSError, LookupError):
            continue
        return kernel, modules
    return None


def _modules(folder: Path) -> tuple[Path, ...]:
    built_in = {
        Path(line).name.partition(".")[0] for line in (folder / "modules.builtin").read_text().split()
    }
    known: dict[str, tuple[Path, list[Path]]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, needed = line.partition(":")
        name = Path(module).name.partition(".")[0]
        known[name] = (folder / module, [folder / other for other in needed.split()])
    wanted: list[Path] = []
    for name in MODULES:
        if name in built_in:
            continue
        module, needed = known[name]
        wanted += [each for each in (*reversed(needed), module) if each not in wanted]
    return tuple(wanted)


def _fill(path: Path, size_bytes: int) -> None:
    """Data that neither compresses nor repeats."""
    with Path("/dev/urandom").open("rb") as source, path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(source.read(MIB))
