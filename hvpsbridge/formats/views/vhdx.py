"""VHDX files, dynamic and fixed (MS-VHDX). The block allocation table is computed where it is read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from uuid import UUID

from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.vhdx import BlockState
from hvpsbridge.formats.vhdx_layout import BAT_OFFSET, bat_region_bytes, head_pieces
from hvpsbridge.formats.vhdx_metadata import Metadata
from hvpsbridge.formats.views.view import DiskShape, ImageView, Payload, Placed, Table, runs_in_order
from hvpsbridge.units import MIB

# What New-VHD makes (docs/hyperv-facts.md#vhdx-structures).
USUAL_BLOCK_BYTES = 32 * MIB


def vhdx_view(
    shape: DiskShape, extents: Iterable[Extent], write_guid: UUID, *, fixed: bool = False
) -> ImageView:
    """A VHDX of the disk.

    Args:
        shape: of the disk.
        extents: of the disk's data, ascending.
        write_guid: FileWriteGuid and DataWriteGuid of the headers; a new one for each file.
        fixed: all blocks are in the file, also those without data.

    Raises:
        ValueError: the format does not allow the shape.
    """
    metadata = Metadata(
        size_bytes=shape.size_bytes,
        block_bytes=shape.block_bytes or USUAL_BLOCK_BYTES,
        disk_id=shape.disk_id,
        logical_sector_bytes=shape.sector_bytes,
        physical_sector_bytes=shape.physical_sector_bytes,
        fixed=fixed,
    )
    metadata.check()
    block = metadata.block_bytes
    whole = metadata.blocks * block
    runs = (Extent(0, whole),) if fixed else align(extents, block, whole)
    bat_bytes = bat_region_bytes(metadata)
    payload = Payload(runs_in_order(runs, BAT_OFFSET + bat_bytes))
    bat = _Bat(metadata, payload)
    tables = (
        *(Table.of(offset, content) for offset, content in head_pieces(metadata, write_guid, bat_bytes)),
        Table(BAT_OFFSET, 8 * metadata.bat_entries, bat.render),
    )
    return ImageView(max(payload.end, BAT_OFFSET + bat_bytes), tables, payload)


class _Bat:
    """The block allocation table, of which any part can be computed."""

    def __init__(self, metadata: Metadata, payload: Payload) -> None:
        self._payload = payload
        self._block = metadata.block_bytes
        # After so many entries comes one for a sector bitmap, which only differencing disks have.
        self._ratio = metadata.chunk_ratio
        self._entries = metadata.bat_entries

    def render(self, start: int, length: int) -> bytes:
        """Bytes ``start`` to ``start + length`` of the table."""
        first, last = start // 8, -(-(start + length) // 8)
        entries = array("Q", bytes(8 * (last - first)))
        for chunk in range(first // (self._ratio + 1), (last - 1) // (self._ratio + 1) + 1):
            at = chunk * (self._ratio + 1)
            low, high = max(first - at, 0), min(last - at, self._ratio)
            if low < high:
                for index, block_entries in self._blocks(chunk * self._ratio + low, high - low):
                    place = at + index - chunk * self._ratio - first
                    entries[place : place + len(block_entries)] = block_entries
        skip = start - 8 * first
        return entries.tobytes()[skip : skip + length]

    def _blocks(self, first: int, count: int) -> Iterator[tuple[int, array[int]]]:
        """Number of a block that is present, and the entries of it and those after it."""
        for run in self._payload.of_disk(first * self._block, count * self._block):
            yield run.disk_offset // self._block, _ascending(run, self._block)


def _ascending(run: Placed, block: int) -> array[int]:
    """Entries of the blocks of a run: offsets in the file, which are whole MiB, and the state below them."""
    first = run.file_offset | BlockState.FULLY_PRESENT
    return array("Q", range(first, first + run.length, block))
