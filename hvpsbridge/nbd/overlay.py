"""Writes to a disk that is read-only, kept in a sparse file beside it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hvpsbridge.formats.extents import Extent
from hvpsbridge.nbd.exports import Disk

# Kept or not as a whole: a first write into a block copies the rest of it.
BLOCK_BYTES = 64 * 1024
# Looked at between two looks at the lock.
_LOOK_BYTES = 1 << 30


class Overlay:
    """A disk over another one, which it does not change. Thread-safe; all threads see one content.

    Args:
        disk: what was not written is read from it.
        folder: of the sparse file, which has no name and is gone when the process ends.
    """

    def __init__(self, disk: Disk, folder: Path | None = None) -> None:
        self._disk = disk
        self.size_bytes = disk.size_bytes
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - close() does
        self._file.truncate(self.size_bytes)
        # Blocks that are in the file.
        self._kept: set[int] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Drop all that was written."""
        self._file.close()

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within the disk.

        Raises:
            HvpsError: some of them were never written, and cannot be read below.
        """
        with self._lock:
            runs = list(self._runs(offset, length))
        return b"".join(
            os.pread(self._file.fileno(), count, at) if kept else self._disk.pread(at, count)
            for at, count, kept in runs
        )

    def status(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Lengths of runs, one after another from ``offset``, and whether each is data."""
        with self._lock:
            runs = list(self._runs(offset, length))
        for at, count, kept in runs:
            if kept:
                yield count, True
            else:
                yield from self._disk.status(at, count)

    def extents(self) -> Iterator[Extent]:
        """Extents with data, ascending."""
        position = 0
        while position < self.size_bytes:
            step = min(_LOOK_BYTES, self.size_bytes - position)
            for length, data in self.status(position, step):
                if data:
                    yield Extent(position, length)
                position += length

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write ``data``, all within the disk.

        Raises:
            OSError: the file system is full.
            HvpsError: the rest of a block cannot be read below.
        """
        with self._lock:
            self._copy_edges(offset, len(data))
            view, at = memoryview(data), offset
            while view:
                count = os.pwrite(self._file.fileno(), view, at)
                view, at = view[count:], at + count
            self._keep(offset, len(data))

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        step = 4 * 1024 * 1024
        for at in range(offset, offset + length, step):
            self.pwrite(at, bytes(min(step, offset + length - at)))

    def flush(self) -> None:
        """Nothing outlives this process, so there is nothing to make durable."""

    def _copy_edges(self, offset: int, length: int) -> None:
        """Copy blocks of which only a part is about to be written."""
        end = offset + length
        for block in {offset // BLOCK_BYTES, max(end - 1, offset) // BLOCK_BYTES}:
            start = block * BLOCK_BYTES
            stop = min(start + BLOCK_BYTES, self.size_bytes)
            if block not in self._kept and (offset > start or end < stop):
                os.pwrite(self._file.fileno(), self._disk.pread(start, stop - start), start)

    def _keep(self, offset: int, length: int) -> None:
        if length:
            self._kept.update(range(offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES + 1))

    def _runs(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Offset and length of runs, and whether each is in the file."""
        position, end = offset, offset + length
        while position < end:
            kept = position // BLOCK_BYTES in self._kept
            stop = position
            while stop < end and (stop // BLOCK_BYTES in self._kept) == kept:
                stop = (stop // BLOCK_BYTES + 1) * BLOCK_BYTES
            stop = min(stop, end)
            yield position, stop - position, kept
            position = stop
