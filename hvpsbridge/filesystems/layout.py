"""Volumes of disks, and the file system of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.filesystems import lvm, signatures, tsk
from hvpsbridge.filesystems.disks import UnreadableError
from hvpsbridge.filesystems.exfat import ExfatFileSystem
from hvpsbridge.filesystems.model import Entry, Volume
from hvpsbridge.filesystems.ntfs import NtfsFileSystem
from hvpsbridge.filesystems.pieces import Piece, PiecedVolume
from hvpsbridge.filesystems.replay import replayed
from hvpsbridge.filesystems.tools import Tools
from hvpsbridge.filesystems.xfs import XfsFileSystem
from hvpsbridge.filesystems.xfs_log import log_notice
from hvpsbridge.formats.readable import Readable

_LVM_REFUSED = "LVM physical volume; its logical volumes are listed by their names"


class FileSystem(Protocol):
    """What reads one file system."""

    def entry(self, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        ...

    def children(self, folder: Entry) -> Iterator[Entry]:
        """Entries of a folder."""
        ...

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of a file; fewer only at its end."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A volume and its bytes.

    Attributes:
        pieces: where the bytes are on the disks; empty for a logical volume that is refused.
    """

    volume: Volume
    data: Readable
    pieces: tuple[Piece, ...] = ()
    dirty: bool = False


def volumes(disks: Sequence[Readable], sector_bytes: Sequence[int]) -> list[Found]:
    """All volumes of the disks, in the order of disks and tables; logical volumes last.

    Raises:
        UnreadableError: a disk cannot be read.
    """
    found: list[Found] = []
    for number, sector in enumerate(sector_bytes):
        found += _on_disk(disks, number, sector)
    return found + list(_logical(disks, [each for each in found if each.volume.content == signatures.LVM]))


def _on_disk(disks: Sequence[Readable], number: int, sector_bytes: int) -> Iterator[Found]:
    disk = disks[number]
    if disk.size_bytes < 4096:
        return
    whole = signatures.probe(disk)
    # A boot sector of FAT or NTFS could pass for a partition table.
    table = None if whole.kind and whole.kind != "ldm" else tsk.partitions(disk, sector_bytes)
    if table is None:
        yield _found(disks, number, "0", (Piece(disk.size_bytes, ((number, 0),)),))
        return
    for name, offset, length, described in table:
        if "Extended" in described or offset >= disk.size_bytes:
            continue
        length = min(length, disk.size_bytes - offset)
        dynamic = "Logical Disk Manager" in described or "LDM" in described
        pieces = (Piece(length, ((number, offset),)),) if length else ()
        yield _found(disks, number, name, pieces, signatures.DYNAMIC_DISK if dynamic else None)


def _found(
    disks: Sequence[Readable],
    disk: int,
    name: str,
    pieces: tuple[Piece, ...],
    content: signatures.Content | None = None,
) -> Found:
    """A volume of these pieces; its content is probed if it is not given."""
    data = PiecedVolume(disks, pieces)
    content = content or signatures.probe(data)
    volume = Volume(
        disk=disk,
        name=name,
        offset=0 if "/" in name or not pieces else pieces[0].places[0][1],
        size_bytes=data.size_bytes,
        content=content.kind,
        refused=_LVM_REFUSED if content.kind == signatures.LVM else content.refused,
    )
    return Found(volume, data, pieces, content.dirty)


def _logical(disks: Sequence[Readable], physical: Sequence[Found]) -> Iterator[Found]:
    places = [lvm.PhysicalVolume(each.volume.disk, each.volume.offset, each.data) for each in physical]
    for volume in lvm.logical_volumes(places):
        refused = volume.refused
        if not refused:
            try:
                yield _found(disks, volume.disk, volume.name, volume.pieces)
                continue
            except ValueError as err:
                refused = str(err)
        yield _found(disks, volume.disk, volume.name, (), signatures.Content("", refused))


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened file system.

    Attributes:
        notice: what its user must know about how current it is; empty if nothing.
    """

    files: FileSystem
    notice: str = ""


def open_file_system(found: Found, tools: Tools) -> Opened:
    """The file system of a volume.

    Raises:
        UnreadableError: it is refused, or does not open.
    """
    volume = found.volume
    if volume.refused:
        raise UnreadableError(volume.refused)
    if volume.content == "ntfs":
        ntfs = NtfsFileSystem(found.data)
        return Opened(
            ntfs,
            "the NTFS log was not closed and is not replayed: the newest changes may be missing" * ntfs.dirty,
        )
    if volume.content == "xfs":
        return Opened(XfsFileSystem(found.data), log_notice(found.data, tools))
    if volume.content == "exfat":
        return Opened(ExfatFileSystem(found.data))
    if volume.content == "ext" and found.dirty:
        data, notice = replayed(found.data, tools)
        return Opened(tsk.TskFileSystem(data, "ext"), notice)
    return Opened(tsk.TskFileSystem(found.data, volume.content))
