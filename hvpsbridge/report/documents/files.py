"""Documents about single files: ``hvps files``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.filesystems.model import Entry, Volume
from hvpsbridge.report.documents.document import Document
from hvpsbridge.repository import Point
from hvpsbridge.secret import Word
from hvpsbridge.tasks.files.diff import ChangedVolume


@dataclass(frozen=True, slots=True)
class VolumeList(Document):
    """Volumes of a recovery point."""

    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One entry of a file system.

    Attributes:
        path: bytes that are not UTF-8 are written as \\xNN.
        kind: file, folder, symlink or other.
        modified: null if the file system has no time for it.
        refused: why its content cannot be read; empty if it can.
    """

    path: str
    kind: Word
    size_bytes: int
    mode: int | None
    owner: int | None
    group: int | None
    modified: datetime | None
    target: str
    refused: str


@dataclass(frozen=True, slots=True)
class FileList(Document):
    """Entries of a file system.

    Attributes:
        notices: what must be known about how complete and current they are.
    """

    files: tuple[ListedFile, ...]
    notices: tuple[str, ...]


def listed(entry: Entry) -> ListedFile:
    """An entry as the document has it."""
    return ListedFile(
        path=entry.path.decode("utf-8", "backslashreplace"),
        kind=Word(entry.kind.value),
        size_bytes=entry.size_bytes,
        mode=entry.mode,
        owner=entry.owner,
        group=entry.group,
        modified=_time(entry.modified_ns),
        target=entry.target.decode("utf-8", "backslashreplace"),
        refused=entry.refused,
    )


def _time(modified_ns: int | None) -> datetime | None:
    try:
        return None if modified_ns is None else datetime.fromtimestamp(modified_ns / 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class DiffFile:
    """A file that differs.

    Attributes:
        change: added, removed or changed.
        path: bytes that are not UTF-8 are written as \\xNN.
    """

    change: Word
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffVolume:
    """A volume that differs.

    Attributes:
        changed_bytes: of chunks there that differ; 0 for a logical volume, whose chunks count with its disk.
        not_compared: why its files were not compared; empty if they were.
    """

    volume: str
    content: str
    changed_bytes: int
    files: tuple[DiffFile, ...]
    not_compared: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDiff(Document):
    """What changed between two recovery points.

    Attributes:
        changed_bytes: of all chunks that differ.
        stored_bytes: added to the repository by the later point.
        problems: what could not be compared.
    """

    earlier: UUID
    later: UUID
    changed_bytes: int
    stored_bytes: int
    volumes: tuple[DiffVolume, ...]
    problems: tuple[str, ...]


def point_diff(
    one: Point, other: Point, volumes: tuple[ChangedVolume, ...], problems: tuple[str, ...]
) -> PointDiff:
    """The document of a comparison, without its files, which may be millions: see :func:`diff_files`."""
    return PointDiff(
        earlier=one.point_id,
        later=other.point_id,
        changed_bytes=sum(each.changed_bytes for each in volumes),
        stored_bytes=stored_bytes(other),
        volumes=tuple(
            DiffVolume(
                volume=each.volume,
                content=each.content,
                changed_bytes=each.changed_bytes,
                files=(),
                not_compared=each.not_compared,
            )
            for each in volumes
        ),
        problems=problems,
    )


def diff_files(volume: ChangedVolume) -> Iterator[DiffFile]:
    """The files of a volume that differ, as the document has them."""
    for file in volume.files:
        path = file.path.decode("utf-8", "backslashreplace")
        yield DiffFile(Word(file.change.value), path, file.size_bytes)


def stored_bytes(point: Point) -> int:
    """What a point added to the repository."""
    return sum(disk.stats.stored_bytes for disk in point.disks)
