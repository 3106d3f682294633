"""FAT32 in a file: created by mkfs.vfat, filled and changed in place by mtools, checked by fsck.vfat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from uuid import UUID

from hvpsbridge.sim.guests.files import Change
from hvpsbridge.sim.guests.partitions import BASIC_DATA
from hvpsbridge.sim.guests.tools import batches, find_tool, run_tool, said


@dataclass(frozen=True, slots=True)
class Fat32:
    """The file system of firmware partitions, appliances and small Windows disks. It has no journal."""

    name: str = "fat32"
    partition_type: UUID = BASIC_DATA

    def unavailable(self) -> str:
        for tool in ("mkfs.vfat", "fsck.vfat", "mcopy"):
            find_tool(tool)
        return ""

    def make(self, partition: Path, folder: Path, *, seed: int) -> None:
        run_tool(
            *("mkfs.vfat", "-F", "32", "-s", "1", "-n", "GUEST"),
            *("-i", f"{seed & 0xFFFFFFFF:08x}", partition),
        )
        entries = sorted(str(entry) for entry in folder.iterdir())
        for batch in batches(entries):
            run_tool("mcopy", "-i", partition, "-s", "-m", *batch, "::/")

    def change(self, partition: Path, folder: Path, change: Change, *, seed: int) -> None:
        for batch in batches(f"::/{path}" for path in (*change.deleted, *change.replaced, *change.patched)):
            run_tool("mdel", "-i", partition, *batch)
        for batch in batches(f"::/{path}" for path in change.folders):
            run_tool("mmd", "-i", partition, *batch)
        written = sorted((*change.replaced, *change.added, *change.patched), key=_parent)
        for parent, names in groupby(written, key=_parent):
            self._copy_in(partition, (str(folder / name) for name in names), parent)

    def check(self, partition: Path) -> tuple[str, ...]:
        done = run_tool("fsck.vfat", "-n", partition, accept=range(256))
        return () if done.returncode == 0 else (f"fsck.vfat ended with {done.returncode}: {said(done)}",)

    def read_out(self, partition: Path, into: Path) -> None:
        into.mkdir()
        run_tool("mcopy", "-i", partition, "-s", "-m", "-n", "::/", into)

    @staticmethod
    def _copy_in(partition: Path, sources: Iterable[str], parent: str) -> None:
        for batch in batches(sources):
            run_tool("mcopy", "-i", partition, "-m", *batch, f"::/{parent}/")


def _parent(path: str) -> str:
    return PurePosixPath(path).parent.as_posix()
