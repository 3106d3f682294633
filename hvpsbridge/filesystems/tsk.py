"""The Sleuth Kit (pytsk3): partition tables, ext, FAT and exFAT."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytsk3

from hvpsbridge.filesystems.disks import DiskFile, UnreadableError
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.formats.readable import Readable

_KINDS = {
    int(pytsk3.TSK_FS_META_TYPE_REG): FileKind.FILE,
    int(pytsk3.TSK_FS_META_TYPE_DIR): FileKind.FOLDER,
    int(pytsk3.TSK_FS_META_TYPE_LNK): FileKind.SYMLINK,
}
_VIRTUAL = frozenset(
    int(value) for value in (pytsk3.TSK_FS_META_TYPE_VIRT, getattr(pytsk3, "TSK_FS_META_TYPE_VIRT_DIR", 11))
)
_FS_TYPES = {
    "ext": pytsk3.TSK_FS_TYPE_EXT_DETECT,
    "fat": pytsk3.TSK_FS_TYPE_FAT_DETECT,
    "exfat": pytsk3.TSK_FS_TYPE_EXFAT,
}
# Longest target of a symbolic link that Linux allows.
_MAX_TARGET = 4096


class TskImage(pytsk3.Img_Info):  # type: ignore[misc]  # pytsk3 has no types
    """A disk for the library."""

    def __init__(self, disk: Readable) -> None:
        self.file = DiskFile(disk)
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes; short at the end, and none after a failure: the library ends if this raises."""
        try:
            return self.file.read_at(offset, size)
        except OSError:
            return b""

    def get_size(self) -> int:
        """Size in bytes."""
        return self.file.size_bytes

    def close(self) -> None:
        """Nothing to close."""


class TskFileSystem:
    """A file system that The Sleuth Kit reads."""

    def __init__(self, volume: Readable, kind: str) -> None:
        self._image = TskImage(volume)
        try:
            self._fs = pytsk3.FS_Info(self._image, offset=0, type=_FS_TYPES[kind])
        except OSError as err:
            self._image.file.check()
            raise UnreadableError(f"the {kind} file system cannot be opened: {_reason(err)}") from err
        self._has_owners = kind == "ext"

    def entry(self, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        current = self._root()
        walked = b""
        for name in filter(None, path.split(b"/")):
            if current.kind is not FileKind.FOLDER:
                return None
            for found in self._children(current.key, walked):
                if found.path.rpartition(b"/")[2] == name or (
                    not self._has_owners and _folded(found.path.rpartition(b"/")[2]) == _folded(name)
                ):
                    current, walked = found, found.path
                    break
            else:
                return None
        return current

    def children(self, folder: Entry) -> Iterator[Entry]:
        """Entries of a folder."""
        return self._children(folder.key, b"" if folder.path == b"/" else folder.path)

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer at its end."""
        count = min(length, entry.size_bytes - offset)
        if count <= 0:
            return b""
        try:
            data: bytes = self._fs.open_meta(inode=entry.key).read_random(offset, count)
        except OSError as err:
            self._image.file.check()
            raise UnreadableError(_reason(err)) from err
        self._image.file.check()
        if len(data) != count:
            raise UnreadableError(f"{len(data)} bytes instead of {count} at {offset}")
        return data

    def size_of(self, key: int) -> int:
        """Size in bytes of the file of that number."""
        return int(self._fs.open_meta(inode=key).info.meta.size)

    def _root(self) -> Entry:
        return self._entry(self._fs.open_meta(inode=self._fs.info.root_inum), b"/")

    def _children(self, key: int, parent: bytes) -> Iterator[Entry]:
        try:
            folder = self._fs.open_dir(inode=key)
        except OSError as err:
            self._image.file.check()
            raise UnreadableError(_reason(err)) from err
        self._image.file.check()
        for found in folder:
            name = found.info.name
            if (
                name is None
                or name.name in (b".", b"..")
                or not int(name.flags) & int(pytsk3.TSK_FS_NAME_FLAG_ALLOC)
            ):
                continue
            self._image.file.check()
            if not parent and self._is_of_library(name.name):
                continue
            path = parent + b"/" + name.name
            meta = found.info.meta
            if meta is None:
                yield Entry(
                    path=path,
                    kind=FileKind.OTHER,
                    size_bytes=0,
                    key=int(name.meta_addr),
                    refused="its inode cannot be read",
                )
            elif int(meta.type) not in _VIRTUAL:
                yield self._entry(found, path)

    def _is_of_library(self, name: bytes) -> bool:
        """Whether the library shows something in the root of FAT or exFAT that is not a file there."""
        return not self._has_owners and (
            name
            in (b"$ALLOC_BITMAP", b"$UPCASE_TABLE", b"$VOLUME_LABEL", b"$VOLUME_GUID", b"$TEX_FAT", b"$ACT")
            or name.endswith(b" (Volume Label Entry)")
        )

    def _entry(self, found: pytsk3.File, path: bytes) -> Entry:
        meta = found.info.meta
        kind = _KINDS.get(int(meta.type), FileKind.OTHER)
        target = b""
        if kind is FileKind.SYMLINK and 0 < meta.size <= _MAX_TARGET:
            target = bytes(meta.link or b"") or found.read_random(0, meta.size)
        seconds, part = int(meta.mtime), int(meta.mtime_nano)
        return Entry(
            path=path,
            kind=kind,
            size_bytes=int(meta.size),
            key=int(meta.addr),
            mode=stat.S_IMODE(int(meta.mode)) if self._has_owners else None,
            owner=int(meta.uid) if self._has_owners else None,
            group=int(meta.gid) if self._has_owners else None,
            modified_ns=seconds * 10**9 + part if seconds else None,
            target=target,
            links=int(meta.nlink) if self._has_owners else 1,
        )


class RawNtfs:
    """Attributes of NTFS that libfsntfs does not give."""

    def __init__(self, volume: Readable) -> None:
        self._image = TskImage(volume)
        try:
            self._fs = pytsk3.FS_Info(self._image, offset=0, type=pytsk3.TSK_FS_TYPE_NTFS)
        except OSError as err:
            self._image.file.check()
            raise UnreadableError(f"the NTFS file system cannot be opened: {_reason(err)}") from err

    def attribute(self, key: int, wanted: int) -> bytes:
        """Data of the first attribute of that type; empty if the file has none."""
        try:
            file = self._fs.open_meta(inode=key)
            for found in file:
                if int(found.info.type) == wanted:
                    size = min(int(found.info.size), 16384)  # the largest reparse point
                    data: bytes = file.read_random(0, size, found.info.type, found.info.id)
                    return data
        except OSError as err:
            self._image.file.check()
            raise UnreadableError(_reason(err)) from err
        return b""


def partitions(disk: Readable, sector_bytes: int) -> list[tuple[str, int, int, str]] | None:
    """Number, offset, length and description of each partition; None if there is no partition table.

    Raises:
        UnreadableError: the table is damaged.
    """
    image = TskImage(disk)
    try:
        table = pytsk3.Volume_Info(image)
    except OSError:
        image.file.check()
        return None
    image.file.check()
    unit = int(table.info.block_size)
    if table.info.vstype == pytsk3.TSK_VS_TYPE_DOS:
        unit = sector_bytes  # the library assumes 512
    found: list[tuple[str, int, int, str]] = []
    for part in table:
        if not int(part.flags) & int(pytsk3.TSK_VS_PART_FLAG_ALLOC):
            continue
        described = part.desc.decode("utf-8", "replace")
        found.append((str(len(found) + 1), int(part.start) * unit, int(part.len) * unit, described))
    return found


def _folded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").casefold()


def _reason(err: Exception) -> str:
    return " ".join(str(err).split())[:300]
