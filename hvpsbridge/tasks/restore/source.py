"""What a target restores from: one disk of a point, and how to read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hvpsbridge.errors import Damaged, DiskDamaged
from hvpsbridge.formats.definition import disk_of, number_in, table_of
from hvpsbridge.formats.extents import Extent, joined, split, total_bytes
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.vhdx_metadata import MAX_BLOCK_BYTES, MIN_BLOCK_BYTES
from hvpsbridge.formats.views.view import DiskShape
from hvpsbridge.repository import Repository
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter, Progress
from hvpsbridge.tasks.restore.results import DamagedRange, RestoredDisk
from hvpsbridge.units import size_text

# What a VHDX can have.
_SECTORS = (512, 4096)
# What New-VHD makes.
_USUAL_PHYSICAL_BYTES = 4096


@dataclass(slots=True)
class DiskSource:
    """One disk of a point, for a target.

    Args:
        repository: holds the point.
        point: the point.
        disk: one of its disks.
        cancel: to be checked before each chunk.
        on_progress: called a few times a second.
        on_spoiled: called with a line if the place was changed but does not hold the disk.
        skip_damaged: leave out what is damaged, instead of failing.
        keep_ids: give the new file the id that the disk had.
        keeps_damaged: the target has old content, which stays where the point is damaged.

    Attributes:
        damaged: what was left out.
    """

    repository: Repository
    point: Point
    disk: ManifestDisk
    cancel: Cancellation = field(default_factory=Cancellation)
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_spoiled: Callable[[str], None] = lambda text: None
    skip_damaged: bool = False
    keep_ids: bool = False
    keeps_damaged: bool = False
    damaged: dict[int, DamagedRange] = field(default_factory=dict)
    _spans: list[Extent] = field(default_factory=list)
    _image: DiskImage | None = None
    _extents: tuple[Extent, ...] | None = None

    @property
    def image(self) -> DiskImage:
        """The disk, for one thread."""
        if self._image is None:
            self._image = self.repository.image(self.point, self.disk)
        return self._image

    def extents(self) -> tuple[Extent, ...]:
        """Extents of the disk with data, ascending.

        Raises:
            DiskDamaged: a part of the tree cannot be read.
        """
        if self._extents is None:
            self._extents = tuple(self.image.extents(self.on_damaged))
        return self._extents

    @property
    def data_bytes(self) -> int:
        """How much of the disk is data."""
        return total_bytes(self.extents())

    def meter(self, owed_bytes: int | None = None) -> Meter:
        """A meter of what will be written; all data of the disk by default."""
        owed = self.data_bytes if owed_bytes is None else owed_bytes
        return Meter(self.on_progress, self.disk.slot, "restore", owed)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Offset and content of each chunk that is not zero, in the order that is fastest to read.

        Raises:
            DiskDamaged: a chunk cannot be read.
            Interrupted: the restore was cancelled.
        """
        for offset, data in self.image.chunks(self.on_damaged):
            self.cancel.check()
            yield offset, data

    @property
    def size_bytes(self) -> int:
        """Size of the disk."""
        return self.disk.size_bytes

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the disk from ``offset``, all within it.

        Raises:
            DiskDamaged: some of them cannot be read.
        """
        content = bytearray(length)
        view, position = memoryview(content), offset
        grid = self.repository.grid
        while position < offset + length:
            extent = grid.extent(grid.number(position), self.size_bytes)
            count = min(extent.end, offset + length) - position
            self.image.seek(position)
            try:
                self.image.readinto(view[position - offset :][:count])
            except Damaged as err:
                self.on_damaged(extent, err)
            position += count
        return bytes(content)

    def conditions(self) -> tuple[Damaged, ...]:
        """An error for each disk that was restored in part; empty if all of it was."""
        if not self.damaged:
            return ()
        first = self.damaged[min(self.damaged)]
        lost = sum(each.length for each in self.damaged.values())
        state = "have the content from before" if self.keeps_damaged else "are zeros"
        what = f"{len(self.damaged)} ranges, {size_text(lost)}, could not be restored and {state}"
        return (Damaged(self.repository.store.url, f"disk {self.disk.slot}", f"{what}; first {first.what}"),)

    def shape(self) -> DiskShape:
        """The shape of a file of this disk: as the definition in the point has it, or as is usual."""
        found = disk_of(self.point.manifest.definition, self.disk.slot)
        physical = number_in(table_of(found.get("Vhd")), "PhysicalSectorSize")
        kept = self.disk.disk_id if self.keep_ids else None
        return DiskShape(
            size_bytes=self.disk.size_bytes,
            disk_id=kept or uuid4(),
            sector_bytes=self.disk.sector_bytes,
            physical_sector_bytes=physical if physical in _SECTORS else _USUAL_PHYSICAL_BYTES,
            block_bytes=_block(found.get("Base")),
        )

    def restored(self, started: float, path: str, **more: Any) -> RestoredDisk:
        """The result of this disk.

        Args:
            started: when its restore began, by ``time.monotonic``.
            path: where it is.
            more: further fields.
        """
        return RestoredDisk(
            slot=self.disk.slot,
            path=path,
            size_bytes=self.disk.size_bytes,
            data_bytes=self.data_bytes,
            seconds=round(time.monotonic() - started, 3),
            sector_bytes=self.disk.sector_bytes,
            damaged=tuple(self.damaged[offset] for offset in sorted(self.damaged)),
            damaged_kept=bool(self.damaged) and self.keeps_damaged,
            **more,
        )

    def on_damaged(self, extent: Extent, err: Damaged) -> None:
        """Take note of a part that cannot be read.

        Raises:
            DiskDamaged: nothing may be left out.
        """
        if not self.skip_damaged:
            raise DiskDamaged(
                err.repository, err.name, err.what, self.disk.slot, extent.offset, extent.end - 1
            ) from err
        self.damaged[extent.offset] = DamagedRange(extent.offset, extent.length, f"{err.name}: {err.what}")
        if extent.length > self.repository.grid.chunk_bytes:
            self._spans.append(extent)

    def is_damaged(self, offset: int) -> bool:
        """Whether the chunk at an offset was found to be damaged, or its id cannot be read."""
        grid = self.repository.grid
        chunk = grid.extent(grid.number(offset), self.size_bytes)
        return chunk.offset in self.damaged or any(one.offset <= offset < one.end for one in self._spans)

    def to_write(self, extent: Extent) -> tuple[Extent, ...]:
        """Parts of an extent that a target writes, asked after they were read."""
        if not (self.keeps_damaged and self.damaged):
            return (extent,)
        cells = split((extent,), self.repository.grid.chunk_bytes)
        return tuple(joined(cell for cell in cells if not self.is_damaged(cell.offset)))


def _block(base: object) -> int | None:
    """Block size of the base of the chain, if a VHDX can have it."""
    block = number_in(table_of(base), "BlockSize") or 0
    allowed = MIN_BLOCK_BYTES <= block <= MAX_BLOCK_BYTES and not block & (block - 1)
    return block if allowed else None
