"""Partitions of a disk as disks of their own."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.filesystems.client import DiskFiles
from hvpsbridge.filesystems.disks import Window
from hvpsbridge.formats.readable import Readable


def partitions(disk: Readable, sector_bytes: int) -> Iterator[tuple[str, Window]]:
    """Number and bytes of each partition, in the order of the table; none for a disk without a table.

    Raises:
        MachineError: the libraries that read tables are not installed.
        FilesUnreadable: the table cannot be read.
        Damaged: a part of the disk that is needed for this.
    """
    with DiskFiles([disk], [sector_bytes]) as files:
        for volume in files.volumes():
            # A file system without a table begins at 0, and so do logical volumes, which may be anywhere.
            if volume.offset:
                yield volume.name, Window(disk, volume.offset, volume.size_bytes)
