"""Bytes that can be read at any place: the least that is asked of a disk, a volume or a file."""

from __future__ import annotations

import io
from typing import Protocol


class Readable(Protocol):
    """The content of a disk, a part of one, or a file."""

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within it.

        Raises:
            HvpsError: some of them cannot be read. Where libraries parse a disk, in a process of their own,
                it is ``filesystems.disks.UnreadableError``.
        """
        ...


class SeekableFile(io.RawIOBase):
    """A file of fixed size with a position, for one thread at a time. Subclasses read.

    Attributes:
        size_bytes: of the file.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self._position = 0

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
