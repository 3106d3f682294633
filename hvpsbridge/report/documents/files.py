"""Documents about single files: ``hvps files``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from hvpsbridge.filesystems.model import Entry, Volume
from hvpsbridge.report.documents.document import Document
from hvpsbridge.secret import Word


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
