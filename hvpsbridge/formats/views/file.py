"""A view and its disk, as a seekable file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.readable import Readable, SeekableFile
from hvpsbridge.formats.views.view import ImageView


class ReadableDisk(Readable, Protocol):
    """The content of a disk that knows where its data is: one of a point, or a file."""

    def extents(self) -> Iterable[Extent]:
        """Extents with data, ascending."""
        ...


class ViewFile(SeekableFile):
    """An image file that is computed as it is read. As thread-safe as its disk, by :meth:`pread`."""

    def __init__(self, view: ImageView, disk: ReadableDisk) -> None:
        super().__init__(view.size_bytes)
        self._view = view
        self._disk = disk

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer is not importable at run time
        """Fill ``buffer``; the count of bytes, less than it takes only at the end of the file.

        Raises:
            Damaged: some of the disk's bytes cannot be read.
        """
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self.size_bytes - self._position), 0)
        if count:
            view[:count] = self.pread(self._position, count)
            self._position += count
        return count

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the file from ``offset``, all within the file.

        Raises:
            Damaged: some of the disk's bytes cannot be read.
        """
        pieces: list[bytes] = []
        position, end = offset, offset + length
        for run in self._view.payload.in_file(offset, length):
            if position < run.file_offset:
                pieces.append(self._view.table_bytes(position, run.file_offset - position))
            pieces.append(self._of_disk(run.disk_offset, run.length))
            position = run.file_offset + run.length
        if position < end:
            pieces.append(self._view.table_bytes(position, end - position))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _of_disk(self, offset: int, length: int) -> bytes:
        inside = max(min(length, self._disk.size_bytes - offset), 0)
        content = self._disk.pread(offset, inside) if inside else b""
        return content if inside == length else content.ljust(length, b"\0")

    def extents(self) -> Iterator[Extent]:
        """Extents of the file that are not known to be zeros, ascending."""
        return self._view.extents(self._disk.extents())
