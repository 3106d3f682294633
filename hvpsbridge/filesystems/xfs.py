"""XFS by libfsxfs."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

import pyfsxfs

from hvpsbridge.filesystems.disks import DiskFile
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.reported import OpenFile, Reported
from hvpsbridge.formats.readable import Readable

_KINDS = {stat.S_IFREG: FileKind.FILE, stat.S_IFDIR: FileKind.FOLDER, stat.S_IFLNK: FileKind.SYMLINK}


class XfsFileSystem:
    """An XFS volume. Its log is not replayed."""

    def __init__(self, volume: Readable) -> None:
        self._file = DiskFile(volume)
        self._volume = pyfsxfs.volume()
        self._opened = OpenFile(self._file, self._volume.get_file_entry_by_inode)
        with Reported(self._file, "the XFS file system cannot be opened"):
            self._volume.open_file_object(self._file)

    def entry(self, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        names = [name for name in path.split(b"/") if name]
        with Reported(self._file, path.decode("utf-8", "replace")):
            if not names:
                return self._entry(self._volume.root_directory, b"/")
            try:
                wanted = "/" + b"/".join(names).decode("utf-8")
            except UnicodeDecodeError:
                return None
            found = self._volume.get_file_entry_by_path(wanted)
            return None if found is None else self._entry(found, b"/" + b"/".join(names))

    def children(self, folder: Entry) -> Iterator[Entry]:
        """Entries of a folder. One whose name is not UTF-8 is shown by its number, and refused."""
        parent = b"" if folder.path == b"/" else folder.path
        where = folder.path.decode("utf-8", "replace")
        with Reported(self._file, where):
            opened = self._opened.open(folder)
            count = opened.number_of_sub_file_entries
        for index in range(count):
            with Reported(self._file, f"entry {index} of {where}"):
                found = opened.get_sub_file_entry(index)
                key = found.inode_number
                try:
                    name = found.name.encode("utf-8", "surrogatepass")
                except OSError:
                    self._file.check()
                    name = b""
            if name:
                yield self._entry(found, parent + b"/" + name)
            else:
                yield Entry(
                    path=parent + b"/" + f"#inode-{key}".encode(),
                    kind=FileKind.OTHER,
                    size_bytes=0,
                    key=key,
                    refused="its name is not UTF-8, which cannot be read on XFS here",
                )

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer at its end."""
        return self._opened.read(entry, offset, length)

    def _entry(self, found: Any, path: bytes) -> Entry:
        with Reported(self._file, path.decode("utf-8", "replace")):
            mode = found.file_mode
            kind = _KINDS.get(stat.S_IFMT(mode), FileKind.OTHER)
            target = found.symbolic_link_target if kind is FileKind.SYMLINK else None
            return Entry(
                path=path,
                kind=kind,
                size_bytes=found.size if kind is FileKind.FILE else 0,
                key=found.inode_number,
                mode=stat.S_IMODE(mode),
                owner=found.owner_identifier,
                group=found.group_identifier,
                modified_ns=found.get_modification_time_as_integer(),
                target=(target or "").encode("utf-8", "surrogatepass"),
                links=found.number_of_links,
            )
