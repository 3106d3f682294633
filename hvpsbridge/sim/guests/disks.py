"""Guest disks: a raw image with a partition table and filled file systems, and newer states of it.

Each disk has a folder: ``files-N`` has the files of partition N, and each state of the disk is an image with
its file list beside it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.sim.guests.files import FileEntry, churn, grow, list_files
from hvpsbridge.sim.guests.filesystems import FILE_SYSTEMS
from hvpsbridge.sim.guests.partitions import (
    blank,
    copy_range,
    extract,
    lay_out,
    read_table,
    write_table,
)
from hvpsbridge.units import MIB


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """A partition to create."""

    file_system: str
    size_bytes: int = 192 * MIB
    files: int = 1000
    data_bytes: int = 32 * MIB


@dataclass(frozen=True, slots=True)
class DiskState:
    """A guest disk at one moment.

    Attributes:
        image: sparse raw image.
        file_lists: JSON file beside it, for :func:`load_lists`.
        files: number of files in all partitions.
        changes: number of files changed since the previous state; 0 for the first.
    """

    image: Path
    file_lists: Path
    files: int
    changes: int = 0


class GuestDisk:
    """A disk of a guest. The seed determines names and contents."""

    def __init__(
        self, folder: Path, plans: Sequence[PartitionPlan], *, seed: int, size_bytes: int | None = None
    ) -> None:
        """Create the disk in its first state.

        Args:
            folder: new folder for the disk.
            plans: the partitions, in order.
            seed: seed of everything random.
            size_bytes: size of the disk; by default slightly more than that of the partitions.

        Raises:
            ToolMissing: a program for one of the file systems is not installed.
            ValueError: the partitions do not fit.
        """
        self._folder, self._seed = folder, seed
        size = size_bytes or sum(plan.size_bytes for plan in plans) + 3 * MIB
        systems = [FILE_SYSTEMS[plan.file_system] for plan in plans]
        parts = lay_out(
            [
                (system.partition_type, system.name, plan.size_bytes)
                for system, plan in zip(systems, plans, strict=True)
            ],
            size,
        )
        folder.mkdir(parents=True)
        image = folder / "state-0.raw"
        blank(image, size)
        write_table(image, parts, name=f"disk {seed}")
        for number, (plan, system, part) in enumerate(zip(plans, systems, parts, strict=True)):
            files = self._files(number)
            grow(files, seed + number, files=plan.files, data_bytes=plan.data_bytes)
            with _scratch(folder) as scratch:
                single = scratch / "partition"
                blank(single, part.length_bytes)
                system.make(single, files, seed=seed + number)
                copy_range(single, 0, image, part.offset_bytes, part.length_bytes)
        self.state = self._listed(image, len(parts), changes=0)

    def keep_running(self, *, seed: int, share: float = 0.03) -> DiskState:
        """Change, add and delete files in place. Returns the newer state, of the same size.

        The image of the older state remains unchanged.
        """
        older = self.state.image
        parts = read_table(older)
        newer = self._folder / f"state-{int(older.stem.removeprefix('state-')) + 1}.raw"
        blank(newer, older.stat().st_size)
        first, last = parts[0].offset_bytes, parts[-1].offset_bytes + parts[-1].length_bytes
        copy_range(older, 0, newer, 0, first)
        copy_range(older, last, newer, last, older.stat().st_size - last)
        changes = 0
        for number, part in enumerate(parts):
            change = churn(self._files(number), seed + number, share=share)
            with _scratch(self._folder) as scratch:
                single = scratch / "partition"
                extract(older, part, single)
                FILE_SYSTEMS[part.name].change(single, self._files(number), change, seed=seed + number)
                copy_range(single, 0, newer, part.offset_bytes, part.length_bytes)
            changes += len(change)
        self.state = self._listed(newer, len(parts), changes=changes)
        return self.state

    def _files(self, number: int) -> Path:
        return self._folder / f"files-{number}"

    def _listed(self, image: Path, partitions: int, *, changes: int) -> DiskState:
        lists = [list_files(self._files(number)) for number in range(partitions)]
        path = image.with_suffix(".files.json")
        rows = [{name: [entry.size_bytes, entry.sha256] for name, entry in files.items()} for files in lists]
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")
        return DiskState(image, path, sum(map(len, lists)), changes)


def load_lists(path: Path) -> list[dict[str, FileEntry]]:
    """The file list of each partition, in order, from a file beside an image."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [{name: FileEntry(*row) for name, row in files.items()} for files in rows]


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the disk, where large files fit."""
    path = Path(tempfile.mkdtemp(dir=folder, prefix="scratch-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)
