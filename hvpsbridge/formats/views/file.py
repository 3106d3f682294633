"""A view and its disk, as a seekable file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Protocol

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.views.view import ImageView


class ReadableDisk(Protocol):
    """The content of a disk: that of a point, or a file."""

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within the disk.

        Raises:
            Damaged: some of them cannot be read.
        """
        ...

    def extents(self) -> Iterable[Extent]:
        """Extents with data, ascending."""
        ...


class ViewFile(io.RawIOBase):
    """An image file that is computed as it is read. As thread-safe as its disk, by :meth:`pread`.

    Attributes:
        size_bytes: of the file.
    """

    def __init__(self, view: ImageView, disk: ReadableDisk) -> None:
        super().__init__()
        self._view = view
        self._disk = disk
        self._position = 0
        self.size_bytes = view.size_bytes

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position in bytes; it may be beyond the end, as with any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset}")
        self._position = base + offset
        return self._position

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
