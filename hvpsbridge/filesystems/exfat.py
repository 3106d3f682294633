"""exFAT by The Sleuth Kit, with the valid length of files by libfsfat.

Beyond its valid length a file reads as zeros. The Sleuth Kit gives what clusters held before, and libfsfat
ends the file there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyfsfat

from hvpsbridge.filesystems.disks import DiskFile, UnreadableError
from hvpsbridge.filesystems.model import Entry
from hvpsbridge.filesystems.reported import Reported
from hvpsbridge.filesystems.tsk import TskFileSystem
from hvpsbridge.formats.readable import Readable


class ExfatFileSystem:
    """An exFAT volume."""

    def __init__(self, volume: Readable) -> None:
        self._files = TskFileSystem(volume, "exfat")
        self._file = DiskFile(volume)
        self._volume = pyfsfat.volume()
        self._valid: tuple[int, int] | None = None
        with Reported(self._file, "the exFAT file system cannot be opened"):
            self._volume.open_file_object(self._file)

    def entry(self, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        return self._files.entry(path)

    def children(self, folder: Entry) -> Iterator[Entry]:
        """Entries of a folder."""
        return self._files.children(folder)

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer at its end."""
        count = max(0, min(length, entry.size_bytes - offset))
        written = max(0, min(count, self._valid_length(entry) - offset))
        data = self._files.read(entry, offset, written) if written else b""
        return data + bytes(count - len(data))

    def _valid_length(self, entry: Entry) -> int:
        if self._valid is None or self._valid[0] != entry.key:
            path = entry.path.decode("utf-8", "replace")
            with Reported(self._file, path):
                found = self._volume.get_file_entry_by_path(path.replace("/", "\\"))
                if found is None:
                    raise UnreadableError("its valid length cannot be found")
                self._valid = (entry.key, found.size)
        return self._valid[1]
