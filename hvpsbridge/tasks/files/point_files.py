"""The volumes and files of a recovery point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from hvpsbridge.errors import FileNotFound, FilesUnreadable, PointNotFound
from hvpsbridge.filesystems.client import DiskFiles
from hvpsbridge.filesystems.model import Entry, Volume
from hvpsbridge.formats.readable import Readable
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.reading import ChunkReaders

_TAIL = re.compile(r"(?P<point>.+?):(?P<disk>\d{1,5})(?::(?P<volume>[^:]+))?")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector such as ``web01@latest:0:2`` names.

    Attributes:
        disk: number of the disk; None for all.
        volume: name of the volume; None for the only one.
    """

    point: Point
    disk: int | None
    volume: str | None


def select(repository: Repository, selector: str) -> Selection:
    """The point, disk and volume of a selector. A point comes first: times contain colons, too.

    Raises:
        PointNotFound: the point does not exist.
        FileNotFound: the point does not have the disk.
    """
    try:
        return Selection(repository.catalog.find_point(selector), None, None)
    except PointNotFound:
        match = _TAIL.fullmatch(selector)
        if match is None:
            raise
    point = repository.catalog.find_point(match["point"])
    disk = int(match["disk"])
    if disk >= len(point.disks):
        raise FileNotFound(
            f"disk {disk}", f"point {point.short_id} has {len(point.disks)} disks, numbered from 0"
        )
    return Selection(point, disk, match["volume"])


@dataclass(frozen=True, slots=True)
class PointFiles:
    """Volumes of a point's disks, and their files."""

    files: DiskFiles
    volumes: tuple[Volume, ...]

    def volume(self, disk: int | None, name: str | None) -> int:
        """Index of the volume: the one of that name, or else the only one that can be read.

        Raises:
            FileNotFound: there is none, or several.
            FilesUnreadable: it is refused.
        """
        fitting = [
            index
            for index, volume in enumerate(self.volumes)
            if name in (None, volume.name) and (disk in (None, volume.disk) or "/" in volume.name)
        ]
        readable = [index for index in fitting if not self.volumes[index].refused]
        if name is not None and len(fitting) == 1 and not readable:
            volume = self.volumes[fitting[0]]
            raise FilesUnreadable(f"volume {address(volume)}", volume.refused)
        if len(readable) == 1:
            return readable[0]
        known = ", ".join(address(self.volumes[index]) for index in readable or range(len(self.volumes)))
        if not readable:
            raise FileNotFound(
                f"volume {name}" if name else "readable volume",
                f"run `hvps files ls` without a path to see the volumes ({known or 'there are none'})",
            )
        raise FileNotFound("single volume", f"choose one as POINT:DISK:PARTITION: {known}")

    def entry(self, volume: int, path: bytes) -> Entry:
        """The entry at a path.

        Raises:
            FileNotFound: there is none.
        """
        found = self.files.entry(volume, path)
        if found is None:
            shown = path.decode("utf-8", "backslashreplace")
            raise FileNotFound(f"file {shown}", f"not on volume {address(self.volumes[volume])}")
        return found


def address(volume: Volume) -> str:
    """DISK:PARTITION of a volume."""
    return f"{volume.disk}:{volume.name}"


@contextmanager
def open_point(
    repository: Repository, point: Point, readers: ChunkReaders | None = None
) -> Iterator[PointFiles]:
    """Open all disks of a point, since a volume group may be on several.

    Args:
        readers: of the repository, with a cache that several points share.

    Raises:
        MachineError: the libraries are not installed.
    """
    with nullcontext(readers) if readers is not None else repository.readers() as readers:
        disks: Sequence[Readable] = [repository.reader(readers, disk) for disk in point.disks]
        sectors = [disk.sector_bytes for disk in point.disks]
        with DiskFiles(disks, sectors) as files:
            yield PointFiles(files, files.volumes())
