"""Files of a volume as a tar archive (pax format)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems.client import shown
from hvpsbridge.filesystems.model import Entry, FileKind

_TYPES = {FileKind.FILE: tarfile.REGTYPE, FileKind.FOLDER: tarfile.DIRTYPE, FileKind.SYMLINK: tarfile.SYMTYPE}
_ZEROS = bytes(1 << 20)


class Archive:
    """A tar archive that is written to a stream. Close it, or nothing after the last file is written."""

    def __init__(self, output: IO[bytes], source: bytes) -> None:
        self._tar = tarfile.open(  # noqa: SIM115  # closed by close()
            fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._source = source.rstrip(b"/")
        self._written: dict[int, str] = {}

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def add(self, entry: Entry, content: Iterator[bytes | int]) -> None:
        """Write one entry.

        Raises:
            FilesUnreadable: it is not in the archive; or its content broke off there, and zeros follow.
        """
        if entry.kind is FileKind.OTHER or entry.refused:
            raise FilesUnreadable(shown(entry.path), entry.refused or "it is a device, pipe or socket")
        name = entry.path[len(self._source) :].lstrip(b"/").decode("utf-8", "surrogateescape")
        header = tarfile.TarInfo(name)
        header.type = _TYPES[entry.kind]
        default = 0o755 if entry.kind is FileKind.FOLDER else 0o644
        header.mode = default if entry.mode is None else entry.mode
        header.uid, header.gid = entry.owner or 0, entry.group or 0
        if entry.modified_ns is not None:
            header.mtime = entry.modified_ns / 10**9
        header.linkname = entry.target.decode("utf-8", "surrogateescape")
        if entry.kind is not FileKind.FILE:
            self._tar.addfile(header)
            return
        first = self._written.get(entry.key) if entry.links > 1 else None
        if first is not None:
            header.type, header.linkname = tarfile.LNKTYPE, first
            self._tar.addfile(header)
            return
        header.size = entry.size_bytes
        stream = _Stream(content)
        self._tar.addfile(header, io.BufferedReader(stream, 1 << 20))
        if stream.failure is not None:
            raise stream.failure
        if entry.links > 1:
            self._written[entry.key] = name


class _Stream(io.RawIOBase):
    """Content as a file; zeros after a failure, since the archive has its length already."""

    def __init__(self, content: Iterator[bytes | int]) -> None:
        super().__init__()
        self._content = content
        self._rest: memoryview = memoryview(b"")
        self._zeros = 0
        self.failure: Exception | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # as in ViewFile
        """Fill a part of ``buffer``."""
        view = memoryview(buffer).cast("B")
        while not self._rest and not self._zeros:
            try:
                part = next(self._content)
            except StopIteration:
                return 0
            except Exception as err:  # noqa: BLE001  # raised again by the archive when the entry is complete
                self.failure = err
                self._zeros = 1 << 62
                break
            if isinstance(part, int):
                self._zeros = part
            else:
                self._rest = memoryview(part)
        if self._rest:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        else:
            count = min(len(view), self._zeros, len(_ZEROS))
            view[:count] = _ZEROS[:count]
            self._zeros -= count
        return count
