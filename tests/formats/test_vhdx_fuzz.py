"""VHDX structures that anyone may have written: read or refused, within bounds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from hvpsbridge.formats import vhdx, vhdx_layout, vhdx_metadata
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.vhdx_metadata import Metadata
from hvpsbridge.units import KIB, MIB
from tests.fuzzing import Target, at_length, briefly

WRITE_ID = UUID("11111111-2222-3333-4444-555555555555")
PLAIN = Metadata(size_bytes=64 * MIB + 4096, block_bytes=1 * MIB, disk_id=WRITE_ID, logical_sector_bytes=4096)
CHILD = Metadata(
    size_bytes=64 * MIB,
    block_bytes=2 * MIB,
    disk_id=WRITE_ID,
    parent=(("parent_linkage", str(WRITE_ID)), ("relative_path", ".\\p.vhdx")),
)
PRESENT = [Extent(MIB, 5 * MIB), Extent(32 * MIB, 4096)]


def structures(metadata: Metadata) -> tuple[bytes, bytes, bytes]:
    """Region table, metadata and block allocation table of a file."""
    head = vhdx_layout.plan(metadata, PRESENT, WRITE_ID).head
    table = head[192 * KIB : 256 * KIB]
    where = {region.guid: region for region in vhdx.unpack_regions(table)}
    bat = where[vhdx.BAT_REGION].offset
    return table, metadata.pack(), head[bat : bat + 8 * metadata.bat_entries]


HEADER = vhdx.VhdxHeader(sequence=7, file_write_guid=WRITE_ID, data_write_guid=WRITE_ID, log_guid=WRITE_ID)
REGIONS = structures(PLAIN)[0]
# Only what is used is worth mutating; the rest of the 64 KiB is zeros, and its checksum is slow.
USED_REGION_BYTES = 16 + 3 * 32


def padded(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:length].ljust(length, b"\0")


def read_metadata(data: bytes) -> object:
    # Mutations of the table are rare in 64 KiB, so the used parts lie together in the sample.
    found = Metadata.unpack(data[:256].ljust(64 * KIB, b"\0") + data[256:])
    return found.blocks, found.bat_entries, found.bat_index(found.blocks - 1)


def metadata_sample(metadata: Metadata) -> bytes:
    packed = metadata.pack()
    return packed[:256] + packed[64 * KIB :]


def read_table(metadata: Metadata, data: bytes) -> object:
    return vhdx_layout.allocated(metadata, data)


TARGETS = [
    Target(
        name="VHDX header",
        samples=(HEADER.pack()[:128],),
        parse=vhdx.VhdxHeader.unpack_unchecked,  # the checksum takes long in Python
        refuses=(ValueError,),
        complete=padded(4 * KIB),
    ),
    Target(
        name="VHDX region table",
        samples=(REGIONS[:USED_REGION_BYTES],),
        parse=vhdx.unpack_regions_unchecked,
        refuses=(ValueError,),
        complete=padded(64 * KIB),
    ),
    Target(
        name="VHDX metadata",
        samples=(metadata_sample(PLAIN), metadata_sample(CHILD)),
        parse=read_metadata,
        refuses=(ValueError,),
    ),
    Target(
        name="VHDX block allocation table",
        samples=(structures(PLAIN)[2],),
        parse=lambda data: read_table(PLAIN, data),
        refuses=(ValueError,),
    ),
    Target(
        name="VHDX block allocation table of a child",
        samples=(structures(CHILD)[2],),
        parse=lambda data: read_table(CHILD, data),
        refuses=(ValueError,),
    ),
]


test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=100)
test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)


def test_no_more_of_a_parent_locator_is_read_than_it_can_have() -> None:
    packed = bytearray(CHILD.pack())
    locator = len(packed) - packed[::-1].find(vhdx_metadata._PARENT_LOCATOR_TYPE.bytes_le[::-1]) - 16
    struct.pack_into("<H", packed, locator + 18, 65535)
    with pytest.raises(ValueError, match="65535 entries"):
        Metadata.unpack(bytes(packed))


def test_more_metadata_items_than_the_format_has_are_refused() -> None:
    packed = bytearray(PLAIN.pack())
    struct.pack_into("<H", packed, 10, 65535)
    with pytest.raises(ValueError, match="65535 items"):
        Metadata.unpack(bytes(packed))


@pytest.mark.parametrize(
    "field", ["block_bytes", "logical_sector_bytes", "physical_sector_bytes", "size_bytes"]
)
@pytest.mark.parametrize("value", [0, 1, 3 * MIB])
def test_values_that_the_format_does_not_allow_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match="VHDX"):
        Metadata.unpack(replace(PLAIN, **{field: value + (field == "size_bytes")}).pack())


@pytest.mark.parametrize(
    "places",
    [[(0, MIB)], [(MIB, 0)], [(MIB + 1, MIB)], [(2 * MIB, 2 * MIB), (3 * MIB, MIB)], [(2**63, MIB)] * 2],
)
def test_regions_that_cannot_be_there_are_refused(places: list[tuple[int, int]]) -> None:
    kinds = (vhdx.BAT_REGION, vhdx.METADATA_REGION)
    table = vhdx.pack_regions([vhdx.Region(kind, *place) for kind, place in zip(kinds, places, strict=False)])
    with pytest.raises(ValueError, match="VHDX region"):
        vhdx.unpack_regions(table)
