"""VHD files, fixed and dynamic (Virtual Hard Disk Image Format Specification, Microsoft, October 2006).

All integers are big endian. Sectors have 512 bytes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from datetime import UTC, datetime

from hvpsbridge.formats.extents import Extent, align, split
from hvpsbridge.formats.views.view import (
    DiskShape,
    ImageView,
    Payload,
    Placed,
    Table,
    big_endian,
    runs_in_order,
)
from hvpsbridge.units import GIB, KIB, MIB

MAX_SIZE_BYTES = 2040 * GIB
BLOCK_BYTES = 2 * MIB
SECTOR_BYTES = 512

_FOOTER = struct.Struct(">8sIIQI4sI4sQQIII16sB")
_FOOTER_BYTES = 512
_HEADER = struct.Struct(">8sQQIIII")
_HEADER_BYTES = 1024
_HEADER_OFFSET = _FOOTER_BYTES
_BAT_OFFSET = _HEADER_OFFSET + _HEADER_BYTES
_BITMAP_BYTES = BLOCK_BYTES // SECTOR_BYTES // 8
_UNUSED = 0xFFFFFFFF
_NONE = 0xFFFFFFFFFFFFFFFF
_FIXED, _DYNAMIC = 2, 3
_FEATURES, _VERSION = 2, 0x00010000
# The creator that Windows writes; QEMU takes the size from the geometry for creators it does not know.
_CREATOR, _CREATOR_VERSION, _CREATOR_HOST = b"win ", 0x000A0000, b"Wi2k"
# Seconds are counted from here.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def fixed_vhd_view(shape: DiskShape, extents: Iterable[Extent], created: datetime) -> ImageView:
    """A fixed VHD: the disk, then a footer.

    Raises:
        ValueError: the format does not allow the shape.
    """
    _check(shape)
    footer = Table.of(shape.size_bytes, _footer(shape, created, _FIXED))
    return ImageView(footer.end, (footer,), Payload([Placed(0, 0, shape.size_bytes)]))


def vhd_view(shape: DiskShape, extents: Iterable[Extent], created: datetime) -> ImageView:
    """A dynamic VHD: each block is behind its bitmap of sectors, which says that it has all of them.

    Args:
        shape: of the disk.
        extents: of the disk's data, ascending.
        created: time stamp of the file.

    Raises:
        ValueError: the format does not allow the shape.
    """
    _check(shape)
    blocks = -(-shape.size_bytes // BLOCK_BYTES)
    bat_bytes = -(-4 * blocks // SECTOR_BYTES) * SECTOR_BYTES
    first = _BAT_OFFSET + bat_bytes
    used = split(align(extents, BLOCK_BYTES, blocks * BLOCK_BYTES), BLOCK_BYTES)
    payload = Payload(runs_in_order(used, first, head_bytes=_BITMAP_BYTES))
    end = max(payload.end, first)
    footer = _footer(shape, created, _DYNAMIC)
    tables = (
        Table.of(0, footer),
        Table.of(_HEADER_OFFSET, _header(blocks)),
        Table(_BAT_OFFSET, bat_bytes, _Bat(payload).render),
        Table(first, end - first, lambda start, length: b"\xff" * length),
        Table.of(end, footer),
    )
    return ImageView(end + _FOOTER_BYTES, tables, payload)


def _check(shape: DiskShape) -> None:
    if shape.sector_bytes != SECTOR_BYTES:
        raise ValueError(f"a VHD has sectors of 512 bytes, not {shape.sector_bytes}; use vhdx")
    if not 0 < shape.size_bytes <= MAX_SIZE_BYTES or shape.size_bytes % SECTOR_BYTES:
        raise ValueError(f"a VHD cannot have a size of {shape.size_bytes} bytes (at most 2040 GiB); use vhdx")


class _Bat:
    """The block allocation table: sector numbers of the blocks' bitmaps."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload

    def render(self, start: int, length: int) -> bytes:
        first, last = start // 4, -(-(start + length) // 4)
        entries = array("I", [_UNUSED]) * (last - first)
        for run in self._payload.of_disk(first * BLOCK_BYTES, (last - first) * BLOCK_BYTES):
            place = run.disk_offset // BLOCK_BYTES - first
            entries[place] = (run.file_offset - _BITMAP_BYTES) // SECTOR_BYTES
        return big_endian(entries, start, length)


def _footer(shape: DiskShape, created: datetime, kind: int) -> bytes:
    cylinders, heads, sectors = _geometry(shape.size_bytes // SECTOR_BYTES)
    packed = _FOOTER.pack(
        b"conectix",
        _FEATURES,
        _VERSION,
        _NONE if kind == _FIXED else _HEADER_OFFSET,
        max(int((created - _EPOCH).total_seconds()), 0),
        _CREATOR,
        _CREATOR_VERSION,
        _CREATOR_HOST,
        shape.size_bytes,
        shape.size_bytes,
        cylinders << 16 | heads << 8 | sectors,
        kind,
        0,
        shape.disk_id.bytes,
        0,
    ).ljust(_FOOTER_BYTES, b"\0")
    return _with_checksum(packed, 64)


def _header(blocks: int) -> bytes:
    packed = _HEADER.pack(b"cxsparse", _NONE, _BAT_OFFSET, _VERSION, blocks, BLOCK_BYTES, 0)
    return _with_checksum(packed.ljust(_HEADER_BYTES, b"\0"), 36)


def _with_checksum(data: bytes, at: int) -> bytes:
    """The same bytes with the complement of their sum at ``at``, which is zero before."""
    return data[:at] + struct.pack(">I", ~sum(data) & 0xFFFFFFFF) + data[at + 4 :]


def _geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, by the specification's algorithm; smaller than a large disk."""
    sectors = min(sectors, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    tracks = sectors // 17
    heads = max((tracks + KIB - 1) // KIB, 4)
    per_track = 17
    if tracks >= heads * KIB or heads > 16:
        per_track, heads = 31, 16
        tracks = sectors // per_track
    if tracks >= heads * KIB:
        per_track, heads = 63, 16
        tracks = sectors // per_track
    return tracks // heads, heads, per_track
