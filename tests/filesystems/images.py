"""Disk images with file systems, made without root by the file systems' own tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hvpsbridge.units import MIB

ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}


def tool(*arguments: str | Path, text: str = "", cwd: Path | None = None) -> bytes:
    """Output of a tool that has to succeed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=text.encode(),
        capture_output=True,
        env=ENVIRONMENT,
        cwd=cwd,
        timeout=120,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def empty(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def ext4(path: Path, source: Path, size_bytes: int = 64 * MIB, *options: str) -> Path:
    tool("mkfs.ext4", "-q", "-F", "-d", source, *options, empty(path, size_bytes))
    return path


def ntfs(path: Path, files: dict[str, Path], size_bytes: int = 64 * MIB) -> Path:
    tool("mkntfs", "-q", "-F", "-f", empty(path, size_bytes))
    for name, content in files.items():
        tool("ntfscp", "-q", path, content, name)
    return path


def fat32(path: Path, source: Path, size_bytes: int = 64 * MIB) -> Path:
    tool("mkfs.vfat", "-F", "32", "-n", "LABEL", empty(path, size_bytes))
    tool("mcopy", "-i", path, "-s", "-m", *sorted(source.iterdir()), "::")
    return path


def exfat(path: Path, size_bytes: int = 64 * MIB) -> Path:
    tool("mkfs.exfat", "-L", "LABEL", empty(path, size_bytes))
    return path


def xfs(path: Path, prototype: str, size_bytes: int = 320 * MIB) -> Path:
    protofile = path.with_suffix(".proto")
    protofile.write_text(prototype)
    tool("mkfs.xfs", "-q", "-f", "-p", protofile, empty(path, size_bytes))
    return path


def partitioned(path: Path, label: str, parts: Sequence[Path]) -> Path:
    """A disk with these images as partitions, on a table of that kind (``dos`` or ``gpt``)."""
    sizes = [part.stat().st_size for part in parts]
    empty(path, sum(sizes) + (len(sizes) + 2) * MIB)
    script = [f"label: {label}"] + [
        f"start={1 + at}MiB, size={size // MIB}MiB"
        for at, size in zip((sum(sizes[:index]) // MIB for index in range(len(sizes))), sizes, strict=True)
    ]
    tool("sfdisk", "-q", path, text="\n".join(script) + "\n")
    with path.open("r+b") as disk:
        at = MIB
        for part in parts:
            disk.seek(at)
            disk.write(part.read_bytes())
            at += part.stat().st_size
    return path


def tree(folder: Path) -> Path:
    """A folder with what file systems can hold."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "big.bin").write_bytes(bytes(range(256)) * 8000)
    (folder / "hello.txt").write_text("hello\n")
    (folder / "empty").write_bytes(b"")
    return folder


def unix_tree(folder: Path) -> Path:
    """As :func:`tree`, with what only Unix has."""
    tree(folder)
    (folder / "link").symlink_to("a/b/big.bin")
    (folder / "hard").hardlink_to(folder / "hello.txt")
    (folder / "out").symlink_to("../../etc/passwd")
    (folder / "hello.txt").chmod(0o640)
    os.utime(folder / "hello.txt", ns=(10**18, 10**18))
    Path(os.fsdecode(os.fsencode(folder) + b"/n\xe4me")).write_text("latin")
    (folder / "tab\tnew\nline\x1b[2J").write_text("x")
    with (folder / "sparse").open("wb") as file:
        file.truncate(3 << 30)
        file.seek(2 << 30)
        file.write(b"here")
    return folder


class FileDisk:
    """An image file as a disk, which counts what is read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self.size_bytes = os.fstat(self._file).st_size

    def pread(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)
