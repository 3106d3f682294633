"""NTFS by libfsntfs, which also reads NTFS compression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyfsntfs

from hvpsbridge.filesystems.disks import DiskFile
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.reported import OpenFile, Reported
from hvpsbridge.filesystems.tsk import RawNtfs
from hvpsbridge.formats.readable import Readable

_REPARSE_POINT = 0x400
_ENCRYPTED = 0x4000
_REPARSE_ATTRIBUTE = 0xC0
_SYMLINK = 0xA000000C
_JUNCTION = 0xA0000003
_WOF = 0x80000017
_DEDUP = 0x80000013
# Reparse points whose content is somewhere else, by name.
_ELSEWHERE = {
    _WOF: "WOF compresses it; restore the disk and read it on Windows",
    _DEDUP: "it is deduplicated; its content is in the chunk store of the volume, which cannot be read here",
    0x9000001A: "its content is in the cloud (OneDrive)",
    0x80000018: "it is a container layer",
    0x80000014: "it is on a network file system",
    0xC0000004: "it is in hierarchical storage",
    0x80000006: "it is in hierarchical storage",
}
# A file reference is a number in the MFT and, above it, a count of uses.
_INDEX_MASK = 0xFFFFFFFFFFFF
# FILETIME counts 100 ns since 1601.
_EPOCH_1601 = 116444736000000000


class NtfsFileSystem:
    """An NTFS volume."""

    def __init__(self, volume: Readable) -> None:
        self._file = DiskFile(volume)
        self._volume = pyfsntfs.volume()
        self._raw: RawNtfs | None = None
        self._opened = OpenFile(self._file, self._volume.get_file_entry)
        with Reported(self._file, "the NTFS file system cannot be opened"):
            self._volume.open_file_object(self._file)
        self.dirty = self._is_dirty()

    def _is_dirty(self) -> bool:
        """Whether the log was not closed: byte for byte what ntfs-3g looks at (``ntfs_is_logfile_clean``)."""
        with Reported(self._file, "the NTFS log cannot be read"):
            log = self._volume.get_file_entry(2)
            head: bytes = log.read_buffer_at_offset(4096, 0)
        if head[:4] != b"RSTR":
            return head[:4] != b"\xff" * 4
        area = int.from_bytes(head[24:26], "little")
        clients = int.from_bytes(head[area + 12 : area + 14], "little")
        flags = int.from_bytes(head[area + 14 : area + 16], "little")
        return clients != 0xFFFF and not flags & 2

    def entry(self, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        names = [name for name in path.split(b"/") if name]
        with Reported(self._file, path.decode("utf-8", "replace")):
            if not names:
                return self._entry(self._volume.get_root_directory(), b"/")
            wanted = "\\" + b"\\".join(names).decode("utf-8", "surrogatepass")
            found = self._volume.get_file_entry_by_path(wanted)
            return None if found is None else self._entry(found, b"/" + b"/".join(names))

    def children(self, folder: Entry) -> Iterator[Entry]:
        """Entries of a folder, without the metadata files of NTFS."""
        parent = b"" if folder.path == b"/" else folder.path
        where = folder.path.decode("utf-8", "replace")
        with Reported(self._file, where):
            opened = self._opened.open(folder)
            count = opened.number_of_sub_file_entries
        for index in range(count):
            with Reported(self._file, f"entry {index} of {where}"):
                found = opened.get_sub_file_entry(index)
                key = found.file_reference & _INDEX_MASK
                name = found.name
            if name and not (key < 24 and name.startswith("$")) and name != ".":
                yield self._entry(found, parent + b"/" + name.encode("utf-8", "surrogatepass"))

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer at its end."""
        return self._opened.read(entry, offset, length)

    def _entry(self, found: Any, path: bytes) -> Entry:
        with Reported(self._file, path.decode("utf-8", "replace")):
            flags = found.file_attribute_flags
            kind = FileKind.FOLDER if found.has_directory_entries_index() else FileKind.FILE
            target, refused = b"", ""
            if flags & _REPARSE_POINT:
                kind, target, refused = self._reparse(found.file_reference & _INDEX_MASK, kind)
            if flags & _ENCRYPTED and kind is FileKind.FILE:
                refused = "EFS encrypts it; restore the disk and read it as its owner"
            filetime = found.get_modification_time_as_integer()
            return Entry(
                path=path,
                kind=kind,
                size_bytes=found.size if kind is FileKind.FILE and found.has_default_data_stream() else 0,
                key=found.file_reference & _INDEX_MASK,
                modified_ns=(filetime - _EPOCH_1601) * 100 if filetime else None,
                target=target,
                refused=refused,
            )

    def _reparse(self, key: int, kind: FileKind) -> tuple[FileKind, bytes, str]:
        """Kind, target and refusal of a file with a reparse point.

        libfsntfs has no call for its data, so the other library reads it.
        """
        if self._raw is None:
            self._raw = RawNtfs(self._file.disk)
        data = self._raw.attribute(key, _REPARSE_ATTRIBUTE)
        tag = int.from_bytes(data[:4], "little")
        if tag in (_SYMLINK, _JUNCTION):
            return FileKind.SYMLINK, _target(data, 20 if tag == _SYMLINK else 16), ""
        if kind is FileKind.FOLDER:
            return kind, b"", ""
        return kind, b"", _ELSEWHERE.get(tag, f"its content is behind a reparse point (0x{tag:08X})")


def _target(data: bytes, names: int) -> bytes:
    """The shown name of a link, or else its full name; data as in MS-FSCC 2.1.2.4 and 2.1.2.5."""
    full, full_length, shown, shown_length = (
        int.from_bytes(data[at : at + 2], "little") for at in (8, 10, 12, 14)
    )
    start, length = (shown, shown_length) if shown_length else (full, full_length)
    text = data[names + start : names + start + length].decode("utf-16-le", "surrogatepass")
    return text.replace("\\", "/").encode("utf-8", "surrogatepass")
