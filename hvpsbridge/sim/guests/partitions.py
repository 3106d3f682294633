"""Writes and reads GUID partition tables, and copies partitions, with their holes, into and out of a disk.

Layout (UEFI specification 2.10, chapter 5): a protective MBR in sector 0, the header in sector 1, 128
entries of 128 bytes from sector 2; entries and header again, in that order, at the end of the disk.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from hvpsbridge.units import MIB

SECTOR = 512
ALIGNMENT = MIB
_ENTRIES = 128
_ENTRY = struct.Struct("<16s16sQQQ72s")
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_SIGNATURE = b"EFI PART"
_REVISION = b"\x00\x00\x01\x00"
_TABLE_SECTORS = _ENTRIES * _ENTRY.size // SECTOR
_NAMES = UUID("6f0cbd2e-6b0a-4a51-9a60-3f5d6a1c8e55")
_COPY_BYTES = 4 * MIB

LINUX_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; offset and length in bytes, multiples of a sector."""

    kind: UUID
    name: str
    offset_bytes: int
    length_bytes: int


class BadTable(ValueError):
    """A disk has no valid partition table."""


def lay_out(sizes: Sequence[tuple[UUID, str, int]], disk_bytes: int) -> tuple[Partition, ...]:
    """Consecutive partitions of (kind, name, bytes) from the first MiB on, aligned to MiB.

    Raises:
        ValueError: they do not fit the disk.
    """
    at, parts = ALIGNMENT, []
    for kind, name, size in sizes:
        length = size // ALIGNMENT * ALIGNMENT
        parts.append(Partition(kind, name, at, length))
        at += length
    if at + ALIGNMENT > disk_bytes:
        raise ValueError(f"partitions of {at} bytes do not fit a disk of {disk_bytes}")
    return tuple(parts)


def write_table(image: Path, parts: Sequence[Partition], *, name: str) -> None:
    """Write the protective MBR and both tables into an image; ids depend on ``name``."""
    disk_bytes = image.stat().st_size
    last = disk_bytes // SECTOR - 1
    entries = b"".join(
        _ENTRY.pack(
            part.kind.bytes_le,
            uuid5(_NAMES, f"{name}/{number}").bytes_le,
            part.offset_bytes // SECTOR,
            (part.offset_bytes + part.length_bytes) // SECTOR - 1,
            0,
            part.name.encode("utf-16-le"),
        )
        for number, part in enumerate(parts)
    ).ljust(_ENTRIES * _ENTRY.size, b"\0")

    def header(own: int, other: int, table: int) -> bytes:
        fields = [
            *(_SIGNATURE, _REVISION, _HEADER.size, 0, 0, own, other),
            *(2 + _TABLE_SECTORS, last - 1 - _TABLE_SECTORS, uuid5(_NAMES, name).bytes_le),
            *(table, _ENTRIES, _ENTRY.size, zlib.crc32(entries)),
        ]
        fields[3] = zlib.crc32(_HEADER.pack(*fields))
        return _HEADER.pack(*fields).ljust(SECTOR, b"\0")

    protective = struct.pack("<BBHBBHII", 0, 0, 2, 0xEE, 0xFF, 0xFFFF, 1, min(last, 0xFFFFFFFF))
    with image.open("r+b") as disk:
        disk.write((bytes(446) + protective).ljust(510, b"\0") + b"\x55\xaa")
        disk.write(header(1, last, 2) + entries)
        disk.seek((last - _TABLE_SECTORS) * SECTOR)
        disk.write(entries + header(last, 1, last - _TABLE_SECTORS))


def read_table(image: Path) -> tuple[Partition, ...]:
    """The partitions of a disk. Both copies of the table are checked.

    Raises:
        BadTable: a signature or checksum is wrong, or the two copies differ.
    """
    with image.open("rb") as disk:
        last = disk.seek(0, os.SEEK_END) // SECTOR - 1
        primary, backup = (_read_copy(disk.fileno(), own) for own in (1, last))
    if primary != backup:
        raise BadTable("the two copies of the partition table differ")
    return primary


def _read_copy(disk: int, own: int) -> tuple[Partition, ...]:
    raw = os.pread(disk, _HEADER.size, own * SECTOR)
    if len(raw) < _HEADER.size or raw[:8] != _SIGNATURE:
        raise BadTable(f"no partition table in sector {own}")
    fields = list(_HEADER.unpack(raw))
    found, fields[3] = fields[3], 0
    if zlib.crc32(_HEADER.pack(*fields)) != found or fields[5] != own:
        raise BadTable(f"the header in sector {own} is damaged")
    table = os.pread(disk, _ENTRIES * _ENTRY.size, fields[10] * SECTOR)
    if zlib.crc32(table) != fields[13]:
        raise BadTable(f"the table of the header in sector {own} is damaged")
    return tuple(
        Partition(
            kind=UUID(bytes_le=kind),
            name=name.decode("utf-16-le").rstrip("\0"),
            offset_bytes=first * SECTOR,
            length_bytes=(end + 1 - first) * SECTOR,
        )
        for kind, _, first, end, _, name in _ENTRY.iter_unpack(table)
        if kind != bytes(16)
    )


def data_runs(file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The (offset, length) of data between two offsets of an open file, in order."""
    while start < end:
        try:
            start = os.lseek(file, start, os.SEEK_DATA)
        except OSError:  # ENXIO: no data up to the end
            return
        stop = min(os.lseek(file, start, os.SEEK_HOLE), end)
        if start < stop:
            yield start, stop - start
        start = stop


def copy_range(source: Path, source_offset: int, target: Path, target_offset: int, length: int) -> None:
    """Copy data between two existing files, without holes: the target must read as zeros there."""
    with source.open("rb") as reads, target.open("r+b") as writes:
        for at, run in data_runs(reads.fileno(), source_offset, source_offset + length):
            done = 0
            while done < run:
                data = os.pread(reads.fileno(), min(_COPY_BYTES, run - done), at + done)
                if not data:  # the source is shorter; the rest reads as zeros
                    return
                os.pwrite(writes.fileno(), data, target_offset + at + done - source_offset)
                done += len(data)


def blank(path: Path, size_bytes: int) -> None:
    """Create or truncate a file that is one hole of that size."""
    with path.open("wb") as file:
        file.truncate(size_bytes)


def extract(image: Path, part: Partition, target: Path) -> None:
    """Copy a partition of a disk to a sparse file."""
    blank(target, part.length_bytes)
    copy_range(image, part.offset_bytes, target, 0, part.length_bytes)
