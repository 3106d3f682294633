"""What a disk holds: volumes, and the entries of their file systems."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FileKind(StrEnum):
    """Type of a directory entry."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A partition, a logical volume, or a disk without a partition table.

    Attributes:
        disk: number of the disk, from 0; of a logical volume, its first disk.
        name: number in the partition table, 0 for a whole disk, or ``GROUP/VOLUME``.
        offset: on the disk in bytes; 0 for a logical volume.
        content: ``ext4``, ``ntfs`` and so on; empty if unknown.
        refused: why its files cannot be read; empty if they can.
    """

    disk: int
    name: str
    offset: int
    size_bytes: int
    content: str
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a file system.

    Attributes:
        path: from the root, with slashes, in the bytes of the file system (UTF-8 for NTFS, FAT and exFAT).
        key: number of the file in its file system; hard links share it.
        mode: permission bits; None where the file system has none.
        owner, group: numbers; None where the file system has none.
        modified_ns: since 1970, UTC; None if not set.
        target: of a symbolic link.
        links: how many names the file has.
        refused: why its content cannot be read; empty if it can.
    """

    path: bytes
    kind: FileKind
    size_bytes: int
    key: int
    mode: int | None = None
    owner: int | None = None
    group: int | None = None
    modified_ns: int | None = None
    target: bytes = b""
    links: int = 1
    refused: str = ""
