"""Partitions and logical volumes as disks of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hvpsbridge.errors import HvpsError
from hvpsbridge.filesystems.client import DiskFiles
from hvpsbridge.filesystems.pieces import PiecedVolume
from hvpsbridge.filesystems.signatures import LVM
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.readable import Readable
from hvpsbridge.tasks.file_names import disk_name, logical_volume_name, path_part

Warn = Callable[[str], None]
Disks = Sequence[tuple[ManifestDisk, Readable]]


def contents(disks: Disks, warn: Warn) -> Iterator[tuple[str, PiecedVolume]]:
    """File name and bytes of each partition, in the order of disks and tables, and of each logical volume.

    Args:
        warn: called with a sentence for what cannot be read.
    """
    physical = []
    for disk, content in disks:
        try:
            with DiskFiles([content], [disk.sector_bytes]) as files:
                volumes = files.volumes()
                if any(volume.content == LVM for volume in volumes):
                    physical.append((disk, content))
                for index, volume in enumerate(volumes):
                    # A file system without a table begins at 0, and so do logical volumes.
                    if volume.offset:
                        yield f"{disk_name(disk.slot)}-p{path_part(volume.name)}", files.content(index)
        except HvpsError as err:
            warn(f"partitions of disk {disk.slot} are not shown: {err}")
    if physical:
        yield from _logical(physical, warn)


def _logical(disks: Disks, warn: Warn) -> Iterator[tuple[str, PiecedVolume]]:
    try:
        with DiskFiles([each for _, each in disks], [disk.sector_bytes for disk, _ in disks]) as files:
            for index, volume in enumerate(files.volumes()):
                group, slash, name = volume.name.partition("/")
                if slash and volume.size_bytes:
                    yield logical_volume_name(group, name), files.content(index)
                elif slash:
                    warn(f"logical volume {volume.name} is not shown: {volume.refused}")
                elif group == LVM:
                    slot = disks[volume.disk][0].slot
                    warn(f"logical volumes of disk {slot} are not shown: {volume.refused}")
    except HvpsError as err:
        warn(f"logical volumes are not shown: {err}")
