"""Disks in memory, and files of views of them, for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.units import MIB


class MemoryDisk:
    """A disk of zeros but for its extents, which have a pattern that differs everywhere."""

    def __init__(self, size_bytes: int, extents: Sequence[Extent]) -> None:
        self.size_bytes = size_bytes
        self._extents = tuple(extents)
        # Shorter than a block and of odd length, so that no two blocks are alike.
        self._pattern = random.Random(size_bytes).randbytes(65_521)

    def extents(self) -> Sequence[Extent]:
        """Extents with data, ascending."""
        return self._extents

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes of the disk."""
        assert 0 <= offset <= offset + length <= self.size_bytes, (offset, length)
        content = bytearray(length)
        for extent in self._extents:
            start, end = max(extent.offset, offset), min(extent.end, offset + length)
            if start < end:
                skip = start % len(self._pattern)
                times = (skip + end - start) // len(self._pattern) + 1
                content[start - offset : end - offset] = (self._pattern * times)[skip : skip + end - start]
        return bytes(content)


def write_sparse(file: ViewFile, target: Path) -> None:
    """Write a view's file, only what its extents say."""
    with target.open("wb") as sink:
        sink.truncate(file.size_bytes)
        for extent in file.extents():
            for at in range(extent.offset, extent.end, MIB):
                sink.seek(at)
                sink.write(file.pread(at, min(MIB, extent.end - at)))


def write_raw(disk: MemoryDisk, target: Path) -> None:
    """Write the disk itself."""
    with target.open("wb") as sink:
        sink.truncate(disk.size_bytes)
        for extent in disk.extents():
            sink.seek(extent.offset)
            sink.write(disk.pread(extent.offset, extent.length))
