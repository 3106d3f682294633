"""An image file as a view of a disk: which bytes are tables, and which are bytes of the disk.

A view holds no data. It is made from the disk's extents, and says for each byte of the file whether it is
part of a table, a byte of the disk, or zero. So any part of a file of any size can be computed on demand.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.extents import Extent, joined


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskShape:
    """What an image file says of its disk, besides the data.

    Attributes:
        size_bytes: a multiple of the logical sector size.
        disk_id: the id that the file gets.
        sector_bytes: logical sector size.
        physical_sector_bytes: physical sector size.
        block_bytes: size of an allocation unit, for formats that have one of any size; None for the usual.
    """

    size_bytes: int
    disk_id: UUID
    sector_bytes: int = 512
    physical_sector_bytes: int = 4096
    block_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Bytes of the disk in the file: ``length`` bytes of ``disk_offset`` are at ``file_offset``."""

    disk_offset: int
    file_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Table:
    """A part of the file that is not data of the disk.

    Attributes:
        offset: where it is in the file, in bytes.
        length: in bytes.
        render: bytes ``start`` to ``start + length`` of the table. Where a table encloses payload, only what
            is around the payload is asked for.
    """

    offset: int
    length: int
    render: Callable[[int, int], bytes]

    @classmethod
    def of(cls, offset: int, content: bytes) -> Table:
        """A table of these bytes."""
        return cls(offset, len(content), lambda start, length: content[start : start + length])

    @property
    def end(self) -> int:
        """First byte after the table."""
        return self.offset + self.length


class Payload:
    """Runs of the disk that the file holds, ascending both in the disk and in the file."""

    def __init__(self, runs: Iterable[Placed]) -> None:
        # Three numbers a run: a disk of many TiB has millions.
        self._disk = array("Q")
        self._file = array("Q")
        self._length = array("Q")
        for run in runs:
            self._disk.append(run.disk_offset)
            self._file.append(run.file_offset)
            self._length.append(run.length)

    def __len__(self) -> int:
        return len(self._disk)

    def _run(self, index: int) -> Placed:
        return Placed(self._disk[index], self._file[index], self._length[index])

    def __iter__(self) -> Iterator[Placed]:
        return map(self._run, range(len(self)))

    @property
    def end(self) -> int:
        """First byte of the file after the last run; 0 if there is none."""
        return self._file[-1] + self._length[-1] if len(self) else 0

    def in_file(self, offset: int, length: int) -> Iterator[Placed]:
        """What these bytes of the file hold of the disk, ascending."""
        return self._cut(self._file, offset, length)

    def of_disk(self, offset: int, length: int) -> Iterator[Placed]:
        """Where these bytes of the disk are in the file, ascending; bytes that are in no run are left out."""
        return self._cut(self._disk, offset, length)

    def _cut(self, starts: array[int], offset: int, length: int) -> Iterator[Placed]:
        end = offset + length
        index = max(bisect_right(starts, offset) - 1, 0)
        while index < len(starts) and starts[index] < end:
            skip = max(offset - starts[index], 0)
            left = min(self._length[index], end - starts[index]) - skip
            if left > 0:
                yield Placed(self._disk[index] + skip, self._file[index] + skip, left)
            index += 1


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image file of a disk, without the data.

    Attributes:
        size_bytes: of the file.
        tables: ascending; they do not overlap. All else outside of the payload is zeros.
        payload: where the disk's bytes are. A run may reach beyond the end of the disk, with zeros.
    """

    size_bytes: int
    tables: tuple[Table, ...]
    payload: Payload

    def table_bytes(self, offset: int, length: int) -> bytes:
        """Bytes of the file that are not payload: tables, and zeros between them."""
        content = bytearray(length)
        for table in self.tables:
            start, end = max(table.offset, offset), min(table.end, offset + length)
            if start < end:
                content[start - offset : end - offset] = table.render(start - table.offset, end - start)
        return bytes(content)

    def table_extents(self) -> Iterator[Extent]:
        """Extents of the file that are tables, ascending, without the payload that a table encloses."""
        for table in self.tables:
            position = table.offset
            for run in self.payload.in_file(table.offset, table.length):
                if position < run.file_offset:
                    yield Extent(position, run.file_offset - position)
                position = run.file_offset + run.length
            if position < table.end:
                yield Extent(position, table.end - position)

    def data_extents(self, disk: Iterable[Extent]) -> Iterator[Extent]:
        """Extents of the file that are data of the disk, ascending.

        Args:
            disk: extents of the disk with data, ascending.
        """
        for extent in disk:
            for run in self.payload.of_disk(extent.offset, extent.length):
                yield Extent(run.file_offset, run.length)

    def extents(self, disk: Iterable[Extent]) -> Iterator[Extent]:
        """Extents of the file that are not known to be zeros, ascending; neighbours are joined.

        Args:
            disk: extents of the disk with data, ascending. It is read as the result is.
        """
        return joined(heapq.merge(self.table_extents(), self.data_extents(disk)))


def big_endian(entries: array[int], start: int, length: int) -> bytes:
    """Bytes of a table of big-endian numbers.

    Args:
        entries: all numbers that the bytes touch; their bytes are swapped in place.
        start: where the bytes are in the table.
        length: of the bytes.
    """
    if sys.byteorder == "little":
        entries.byteswap()
    skip = start % entries.itemsize
    return entries.tobytes()[skip : skip + length]


def runs_in_order(runs: Iterable[Extent], file_offset: int, *, head_bytes: int = 0) -> Iterator[Placed]:
    """Runs of a disk one after another in a file.

    Args:
        runs: of the disk, ascending.
        file_offset: of the first.
        head_bytes: what the file has before each of them.
    """
    for run in runs:
        yield Placed(run.offset, file_offset + head_bytes, run.length)
        file_offset += head_bytes + run.length
