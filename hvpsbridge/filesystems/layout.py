"""Volumes of disks, and the file system of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hvpsbridge.filesystems import lvm, signatures, tsk
from hvpsbridge.filesystems.disks import UnreadableError, Window
from hvpsbridge.filesystems.exfat import ExfatFileSystem
from hvpsbridge.filesystems.model import Entry, Volume
from hvpsbridge.filesystems.ntfs import NtfsFileSystem
from hvpsbridge.filesystems.replay import replayed
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
    """A volume and its bytes."""

    volume: Volume
    data: Readable
    dirty: bool = False


def volumes(disks: Sequence[Readable], sector_bytes: Sequence[int]) -> list[Found]:
    """All volumes of the disks, in the order of disks and tables; logical volumes last.

    Raises:
        UnreadableError: a disk cannot be read.
    """
    found: list[Found] = []
    for number, (disk, sector) in enumerate(zip(disks, sector_bytes, strict=True)):
        found += _on_disk(number, disk, sector)
    physical = [each for each in found if each.volume.content == signatures.LVM]
    return found + (list(_logical(physical)) if physical else [])


def _on_disk(number: int, disk: Readable, sector_bytes: int) -> Iterator[Found]:
    if disk.size_bytes < 4096:
        return
    whole = signatures.probe(disk)
    # A boot sector of FAT or NTFS could pass for a partition table.
    table = None if whole.kind and whole.kind != "ldm" else tsk.partitions(disk, sector_bytes)
    if table is None:
        yield _probed(number, "0", 0, disk)
        return
    for name, offset, length, described in table:
        if "Extended" in described or offset >= disk.size_bytes:
            continue
        if "Logical Disk Manager" in described or "LDM" in described:
            yield Found(
                _volume(number, name, offset, length, signatures.DYNAMIC_DISK), Window(disk, offset, length)
            )
            continue
        yield _probed(number, name, offset, Window(disk, offset, length))


def _probed(number: int, name: str, offset: int, data: Readable) -> Found:
    content = signatures.probe(data)
    return Found(_volume(number, name, offset, data.size_bytes, content), data, content.dirty)


def _volume(number: int, name: str, offset: int, length: int, content: signatures.Content) -> Volume:
    refused = _LVM_REFUSED if content.kind == signatures.LVM else content.refused
    return Volume(
        disk=number, name=name, offset=offset, size_bytes=length, content=content.kind, refused=refused
    )


def _logical(physical: Sequence[Found]) -> Iterator[Found]:
    first = physical[0].volume
    try:
        logical = lvm.logical_volumes([each.data for each in physical])
    except UnreadableError as err:
        if err.damaged:
            raise
        yield Found(replace(first, name="lvm", refused=str(err)), physical[0].data)
        return
    for volume in logical:
        if isinstance(volume, lvm.RefusedVolume):
            yield Found(
                replace(first, name=volume.name, offset=0, size_bytes=0, content="", refused=volume.reason),
                physical[0].data,
            )
            continue
        yield _probed(first.disk, volume.name, 0, volume)


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened file system.

    Attributes:
        notice: what its user must know about how current it is; empty if nothing.
    """

    files: FileSystem
    notice: str = ""


def open_file_system(found: Found) -> Opened:
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
        return Opened(XfsFileSystem(found.data), log_notice(found.data))
    if volume.content == "exfat":
        return Opened(ExfatFileSystem(found.data))
    if volume.content == "ext" and found.dirty:
        data, notice = replayed(found.data)
        return Opened(tsk.TskFileSystem(data, "ext"), notice)
    return Opened(tsk.TskFileSystem(found.data, volume.content))
