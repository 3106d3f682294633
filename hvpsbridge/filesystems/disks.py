"""Disks as the parsing libraries want them: seekable files that remember the first failed read."""

from __future__ import annotations

import io

from hvpsbridge.formats.readable import Readable


class UnreadableError(Exception):
    """Something on a disk cannot be read. The text says what and why.

    Attributes:
        damaged: whether the repository's data is damaged, not the file system or its support here.
    """

    def __init__(self, what: str, *, damaged: bool = False) -> None:
        super().__init__(what)
        self.damaged = damaged


class DiskFile(io.RawIOBase):
    """A readable as a file for libraries.

    Libraries turn a failed read into a message of their own, or into nothing at all. So the failure is kept
    here, and :meth:`check` raises it.

    Attributes:
        failure: of the first read that failed.
    """

    def __init__(self, disk: Readable) -> None:
        super().__init__()
        self.disk = disk
        self.size_bytes = disk.size_bytes
        self.failure: UnreadableError | None = None
        self._position = 0

    def check(self) -> None:
        """Raise the first failure.

        Raises:
            UnreadableError: a read failed.
        """
        if self.failure is not None:
            raise self.failure

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def get_size(self) -> int:
        """Size in bytes; libyal asks for it by this name."""
        return self.size_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position in bytes."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise OSError("seek before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        wanted = self.size_bytes if size is None or size < 0 else size
        data = self.read_at(self._position, wanted)
        self._position += len(data)
        return data

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end."""
        count = max(0, min(length, self.size_bytes - offset))
        if not count:
            return b""
        try:
            return self.disk.pread(offset, count)
        except UnreadableError as err:
            self.failure = self.failure or err
            raise OSError(str(err)) from err
