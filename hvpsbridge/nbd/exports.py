"""What the server exports: disks that are read, and what writes go to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.formats.readable import Readable
from hvpsbridge.nbd.protocol import ExportFlag


class Disk(Readable, Protocol):
    """The content of an export. Used by several threads at a time."""

    def status(self, offset: int, length: int) -> Iterable[tuple[int, bool]]:
        """Lengths of runs, one after another from ``offset``, and whether each is data; else it is zeros."""
        ...


class WritableDisk(Disk, Protocol):
    """A disk that takes writes. A flush covers all that was answered before it, on any connection."""

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write ``data``, all within the disk.

        Raises:
            OSError: it cannot be kept.
        """
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        ...

    def flush(self) -> None:
        """Make everything durable that was written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export.

    Attributes:
        name: by which clients ask for it.
        description: one line for people.
        disk: its content.
        writable: where writes go; the same disk, or None if it is read-only.
        block_bytes: what clients should read at a time, a power of two.
    """

    name: str
    description: str
    disk: Disk
    writable: WritableDisk | None = None
    block_bytes: int = 256 * 1024

    @property
    def flags(self) -> ExportFlag:
        """What can be done with it. All connections see one disk, and a flush covers all of them."""
        flags = ExportFlag.HAS_FLAGS | ExportFlag.SEND_DF | ExportFlag.SEND_CACHE | ExportFlag.CAN_MULTI_CONN
        if self.writable is None:
            return flags | ExportFlag.READ_ONLY
        return (
            flags
            | ExportFlag.SEND_FLUSH
            | ExportFlag.SEND_FUA
            | ExportFlag.SEND_TRIM
            | ExportFlag.SEND_WRITE_ZEROES
        )
