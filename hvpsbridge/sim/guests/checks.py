"""Checks of a restored disk. They share no code with backup, storage or restore.

A check compares a raw disk with the file list of the guest at that moment. It reads both copies of the
partition table, runs the file systems' own checkers on a copy with its journal replayed, and reads all files.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.sim.guests.disks import load_lists
from hvpsbridge.sim.guests.files import FileEntry, list_files
from hvpsbridge.sim.guests.filesystems import FILE_SYSTEMS
from hvpsbridge.sim.guests.partitions import BadTable, Partition, extract, read_table
from hvpsbridge.sim.guests.tools import run_tool, said

# Findings of one kind that are listed; the rest is counted.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DiskCheck:
    """Result of a check.

    Attributes:
        file_systems: names, in the order of partitions.
        files: number of files with the size and SHA-256 of the guest's.
        unclean: errors of the partition table and of checkers.
        different: files that are missing, unexpected or different.
    """

    file_systems: tuple[str, ...]
    files: int
    unclean: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether everything is as in the guest, and there were files to compare."""
        return self.files > 0 and not self.unclean and not self.different


def check_disk(raw: Path, file_lists: Path, *, scratch: Path) -> DiskCheck:
    """Compare a raw disk with the guest's file lists. The disk is only read.

    Args:
        raw: the restored disk.
        file_lists: file beside the guest's image.
        scratch: an existing folder with space for the disk's partitions and files.
    """
    expected = load_lists(file_lists)
    try:
        parts = read_table(raw)
    except BadTable as err:
        return DiskCheck((), 0, (str(err),), ())
    if len(parts) != len(expected):
        return DiskCheck((), 0, (f"{len(parts)} partitions instead of {len(expected)}",), ())
    good, unclean, different = 0, [], []
    for part, files in zip(parts, expected, strict=True):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            complaints, found = _examine(raw, part, Path(folder))
        unclean += [f"{part.name}: {complaint}" for complaint in complaints]
        wrong = _compare(files, found)
        different += [f"{part.name}: {line}" for line in wrong]
        good += len(files) - sum(1 for name in files if found.get(name) != files[name])
    return DiskCheck(tuple(part.name for part in parts), good, tuple(unclean), _shortened(different))


def images_equal(one: Path, other: Path) -> str:
    """Empty if two files have the same bytes, else the first difference as ``cmp`` prints it."""
    if one.stat().st_size != other.stat().st_size:
        return f"{one.stat().st_size} bytes instead of {other.stat().st_size}"
    done = run_tool("cmp", one, other, accept=(0, 1))
    return "" if done.returncode == 0 else said(done)


def _examine(raw: Path, part: Partition, scratch: Path) -> tuple[tuple[str, ...], dict[str, FileEntry]]:
    system = FILE_SYSTEMS[part.name]
    single, into = scratch / "partition", scratch / "files"
    extract(raw, part, single)
    complaints = system.check(single)
    system.read_out(single, into)
    return complaints, list_files(into)


def _compare(expected: dict[str, FileEntry], found: dict[str, FileEntry]) -> list[str]:
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"{name} is missing")
        elif name not in expected:
            lines.append(f"{name} was not in the guest")
        elif expected[name] != found[name]:
            lines.append(f"{name} has other contents")
    return lines


def _shortened(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {more} more") if more > 0 else tuple(lines)
