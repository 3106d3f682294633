"""Errors of the libraries as ours, and reading files by libyal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvpsbridge.filesystems.disks import DiskFile, UnreadableError
from hvpsbridge.filesystems.model import Entry


class Reported:
    """Turns errors of the library, and reads that failed beneath it, into ``UnreadableError``."""

    def __init__(self, file: DiskFile, what: str) -> None:
        self._file = file
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if err is None or isinstance(err, OSError):
            self._file.check()
        if isinstance(err, OSError):
            raise UnreadableError(f"{self._what}: {' '.join(str(err).split())[:300]}") from err


class OpenFile:
    """Reads files of a volume. The one that was used last stays open.

    Args:
        file: the volume.
        find: the library's file entry of a key.
    """

    def __init__(self, file: DiskFile, find: Callable[[int], Any]) -> None:
        self._file = file
        self._find = find
        self._opened: tuple[int, Any] | None = None

    def open(self, entry: Entry) -> Any:
        """The library's file entry."""
        if self._opened is None or self._opened[0] != entry.key:
            self._opened = (entry.key, self._find(entry.key))
        return self._opened[1]

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer at its end.

        Raises:
            UnreadableError: some of them cannot be read.
        """
        count = min(length, entry.size_bytes - offset)
        if count <= 0:
            return b""
        with Reported(self._file, entry.path.decode("utf-8", "replace")):
            data: bytes = self.open(entry).read_buffer_at_offset(count, offset)
        if len(data) != count:
            raise UnreadableError(f"{len(data)} bytes instead of {count} at {offset}")
        return data
