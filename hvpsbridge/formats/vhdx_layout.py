"""The layout of a VHDX: headers, tables and the place of each block, for the content that it is to hold.

Pure, as :mod:`vhdx`. The layout is the simplest that the format allows: no log to replay, regions at fixed
places, blocks in ascending order. Readers accept any layout.

::

    0       file identifier "vhdxfile"
    64 KiB  header 1            128 KiB  header 2
    192 KiB region table 1      256 KiB  region table 2
    1 MiB   log, empty
    2 MiB   metadata region
    3 MiB   block allocation table, whole MiB
    -       sector bitmap blocks of 1 MiB (differencing disks only)
    -       payload blocks
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.vhdx import (
    BAT_REGION,
    HEADER_OFFSETS,
    LOG_OFFSET,
    METADATA_REGION,
    NO_GUID,
    REGION_TABLE_OFFSETS,
    BlockState,
    Region,
    VhdxHeader,
    pack_regions,
)
from hvpsbridge.formats.vhdx_metadata import CHUNK_SECTORS, Metadata
from hvpsbridge.formats.views.view import Placed
from hvpsbridge.units import MIB

_CREATOR = "hvpsbridge"
_METADATA_OFFSET = LOG_OFFSET + 1 * MIB
BAT_OFFSET = _METADATA_OFFSET + 1 * MIB
_BITMAP_PRESENT = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """A VHDX without its payload.

    Attributes:
        head: all bytes before the payload.
        payload: places of the blocks, ascending. The last block is complete in the file even if the disk ends
            within it.
        file_bytes: size of the file.
    """

    head: bytes
    payload: tuple[Placed, ...]
    file_bytes: int


def plan(
    metadata: Metadata, present: Iterable[Extent], write_guid: UUID, *, log_guid: UUID = NO_GUID
) -> Layout:
    """Layout of a file with the blocks that ``present`` touches.

    In a differencing disk a block that is not completely present is marked partial, with a sector bitmap.

    Args:
        metadata: of the disk.
        present: the bytes that the file holds.
        write_guid: FileWriteGuid and DataWriteGuid of the headers.
        log_guid: says that there is a log to replay; the log is empty all the same.

    Raises:
        ValueError: the format does not allow the metadata.
    """
    metadata.check()
    extents = tuple(present)
    runs = align(extents, metadata.block_bytes, metadata.blocks * metadata.block_bytes)
    bat = array("Q", bytes(8 * metadata.bat_entries))
    bat_bytes = bat_region_bytes(metadata)
    position = BAT_OFFSET + bat_bytes
    bitmaps: dict[int, bytearray] = {}
    if metadata.parent is not None:
        bitmaps = _bitmaps(metadata, extents)
        for chunk in bitmaps:
            bat[metadata.bitmap_index(chunk)] = position | _BITMAP_PRESENT
            position += MIB
    head_bytes = position
    payload = []
    for run in runs:
        payload.append(Placed(run.offset, position, run.length))
        for block in range(run.offset // metadata.block_bytes, run.end // metadata.block_bytes):
            state = _state(metadata, block, bitmaps)
            bat[metadata.bat_index(block)] = position | state
            position += metadata.block_bytes
    head = bytearray(head_bytes)
    for offset, content in head_pieces(metadata, write_guid, bat_bytes, log_guid=log_guid):
        head[offset : offset + len(content)] = content
    head[BAT_OFFSET : BAT_OFFSET + 8 * len(bat)] = bat.tobytes()
    for chunk, bitmap in bitmaps.items():
        at = bat[metadata.bitmap_index(chunk)] & ~(MIB - 1)
        head[at : at + MIB] = bitmap
    return Layout(bytes(head), tuple(payload), position)


def bat_region_bytes(metadata: Metadata) -> int:
    """Size of the region of the block allocation table: whole MiB."""
    return -(-metadata.bat_entries * 8 // MIB) * MIB


def head_pieces(
    metadata: Metadata, write_guid: UUID, bat_bytes: int, *, log_guid: UUID = NO_GUID
) -> Iterator[tuple[int, bytes]]:
    """Offset and content of all that is before the block allocation table, ascending."""
    yield 0, b"vhdxfile" + _CREATOR.encode("utf-16-le")
    for offset, sequence in zip(HEADER_OFFSETS, (1, 2), strict=True):
        header = VhdxHeader(
            sequence=sequence, file_write_guid=write_guid, data_write_guid=write_guid, log_guid=log_guid
        )
        yield offset, header.pack()
    regions = pack_regions(
        (Region(BAT_REGION, BAT_OFFSET, bat_bytes), Region(METADATA_REGION, _METADATA_OFFSET, MIB))
    )
    for offset in REGION_TABLE_OFFSETS:
        yield offset, regions
    yield _METADATA_OFFSET, metadata.pack()


def allocated(metadata: Metadata, bat: bytes) -> tuple[Extent, ...]:
    """The set of extents of the disk whose blocks are in this file, according to the table.

    Raises:
        ValueError: the table is too short.
    """
    entries = array("Q", bat[: 8 * metadata.bat_entries])
    if len(entries) < metadata.bat_entries:
        raise ValueError(f"the block allocation table has {len(entries)} of {metadata.bat_entries} entries")
    wanted = (BlockState.FULLY_PRESENT, BlockState.PARTIALLY_PRESENT)
    blocks = (
        Extent(block * metadata.block_bytes, metadata.block_bytes)
        for block in range(metadata.blocks)
        if entries[metadata.bat_index(block)] & 7 in wanted
    )
    return align(blocks, metadata.block_bytes, metadata.size_bytes)


def _bitmaps(metadata: Metadata, extents: Iterable[Extent]) -> dict[int, bytearray]:
    """Sector bitmaps by chunk: one bit per sector, low bit first, set if this file has the sector."""
    sector = metadata.logical_sector_bytes
    bitmaps: dict[int, bytearray] = {}
    for extent in extents:
        first, last = extent.offset // sector, -(-extent.end // sector)
        while first < last:
            chunk = first // CHUNK_SECTORS
            end = min(last, (chunk + 1) * CHUNK_SECTORS)
            bitmap = bitmaps.setdefault(chunk, bytearray(MIB))
            _set_bits(bitmap, first % CHUNK_SECTORS, end - chunk * CHUNK_SECTORS)
            first = end
    return dict(sorted(bitmaps.items()))


def _set_bits(bitmap: bytearray, first: int, last: int) -> None:
    low, high = first // 8, last // 8
    if low == high:
        bitmap[low] |= (1 << (last - 8 * high)) - (1 << (first - 8 * low))
        return
    bitmap[low] |= 0x100 - (1 << (first - 8 * low))
    bitmap[low + 1 : high] = b"\xff" * (high - low - 1)
    if last % 8:
        bitmap[high] |= (1 << (last % 8)) - 1


def _state(metadata: Metadata, block: int, bitmaps: dict[int, bytearray]) -> BlockState:
    if metadata.parent is None:
        return BlockState.FULLY_PRESENT
    sectors = metadata.block_bytes // metadata.logical_sector_bytes
    at = block % metadata.chunk_ratio * sectors // 8
    disk_sectors = metadata.size_bytes // metadata.logical_sector_bytes - block * sectors
    bits = bitmaps[block // metadata.chunk_ratio][at : at + sectors // 8]
    whole = disk_sectors >= sectors and bits.count(0xFF) == len(bits)
    return BlockState.FULLY_PRESENT if whole else BlockState.PARTIALLY_PRESENT
