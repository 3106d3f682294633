"""VHDX structures: read back, and checked by qemu-img."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats import vhdx, vhdx_layout
from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.vhdx_metadata import Metadata
from hvpsbridge.units import GIB, KIB, MIB, TIB

DISK_ID = UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
WRITE_ID = UUID("11111111-2222-3333-4444-555555555555")
NEEDS_QEMU = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="needs qemu-img (Debian: qemu-utils)"
)


def build(target: Path, content: bytes, metadata: Metadata, present: list[Extent]) -> None:
    layout = vhdx_layout.plan(metadata, present, WRITE_ID)
    with target.open("wb") as file:
        file.write(layout.head)
        for run in layout.payload:
            file.seek(run.file_offset)
            file.write(content[run.disk_offset : run.disk_offset + run.length])
        file.truncate(layout.file_bytes)


def read_structures(head: bytes) -> tuple[Metadata, bytes]:
    assert head.startswith(b"vhdxfile")
    header = max((vhdx.VhdxHeader.unpack(head[at:]) for at in vhdx.HEADER_OFFSETS), key=lambda h: h.sequence)
    assert not header.log_guid.int
    regions = {region.guid: region for region in vhdx.unpack_regions(head[vhdx.REGION_TABLE_OFFSETS[0] :])}
    where, bat = regions[vhdx.METADATA_REGION], regions[vhdx.BAT_REGION]
    return (
        Metadata.unpack(head[where.offset : where.offset + where.length]),
        head[bat.offset : bat.offset + bat.length],
    )


def test_crc32c_gives_the_standards_check_value() -> None:
    assert vhdx.crc32c(b"123456789") == 0xE3069283


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 2, 32, 256]),
    st.sampled_from([512, 4096]),
    st.integers(1, 40_000),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 300)), max_size=8),
)
def test_the_table_says_which_blocks_were_planned(
    block_mib: int, sector: int, mib: int, differs: bool, runs: list[tuple[int, int]]
) -> None:
    size = mib * MIB + sector
    metadata = Metadata(
        size_bytes=size,
        block_bytes=block_mib * MIB,
        disk_id=DISK_ID,
        logical_sector_bytes=sector,
        physical_sector_bytes=4096,
        parent=(("relative_path", ".\\p.vhdx"),) if differs else None,
    )
    present = [Extent(at * MIB, min(length * MIB, size - at * MIB)) for at, length in runs if at * MIB < size]
    expected = align(present, metadata.block_bytes, size)
    layout = vhdx_layout.plan(metadata, align(present, sector, size), WRITE_ID)
    found, bat = read_structures(layout.head)
    assert found == metadata
    assert vhdx_layout.allocated(found, bat) == expected
    ends = [run.file_offset + run.length for run in layout.payload]
    assert layout.file_bytes == (ends[-1] if ends else len(layout.head))


def test_a_changed_byte_in_header_or_region_table_is_seen() -> None:
    layout = vhdx_layout.plan(Metadata(size_bytes=GIB, block_bytes=32 * MIB, disk_id=DISK_ID), [], WRITE_ID)
    header = bytearray(layout.head[64 * KIB : 68 * KIB])
    header[100] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        vhdx.VhdxHeader.unpack(bytes(header))
    regions = bytearray(layout.head[192 * KIB : 256 * KIB])
    regions[40] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        vhdx.unpack_regions(bytes(regions))


@pytest.mark.parametrize(
    ("size", "block"),
    [(0, 32 * MIB), (1000, 32 * MIB), (65 * TIB, 32 * MIB), (GIB, 3 * MIB), (GIB, 512 * MIB)],
)
def test_what_the_format_does_not_allow_is_refused(size: int, block: int) -> None:
    with pytest.raises(ValueError, match="VHDX"):
        vhdx_layout.plan(Metadata(size_bytes=size, block_bytes=block, disk_id=DISK_ID), [], WRITE_ID)


def test_a_partial_block_has_a_bitmap_of_its_sectors() -> None:
    metadata = Metadata(
        size_bytes=64 * MIB,
        block_bytes=2 * MIB,
        disk_id=DISK_ID,
        parent=(("absolute_win32_path", "C:\\p.vhdx"),),
    )
    layout = vhdx_layout.plan(metadata, [Extent(512, 1024), Extent(4 * MIB, 2 * MIB)], WRITE_ID)
    _, bat = read_structures(layout.head)
    entries = struct.unpack(f"<{metadata.bat_entries}Q", bat[: 8 * metadata.bat_entries])
    assert [entry & 7 for entry in entries[:3]] == [7, 0, 6]
    at = entries[metadata.bitmap_index(0)] & ~0xFFFFF
    bitmap = layout.head[at : at + MIB]
    assert bitmap[0] == 0b110
    assert bitmap[1:1024] == bytes(1023)
    assert bitmap[1024:1536] == b"\xff" * 512
    assert bitmap[1536:] == bytes(MIB - 1536)


@NEEDS_QEMU
@pytest.mark.parametrize(("block_mib", "size"), [(1, 9 * MIB + 512), (32, 70 * MIB), (2, 33 * MIB)])
def test_qemu_accepts_a_file_made_from_these_codecs_and_reads_the_same_bytes(
    tmp_path: Path, block_mib: int, size: int
) -> None:
    content = bytearray(size)
    content[5000:9000] = random.Random(1).randbytes(4000)
    content[-700:] = random.Random(2).randbytes(700)
    metadata = Metadata(size_bytes=size, block_bytes=block_mib * MIB, disk_id=DISK_ID)
    build(tmp_path / "disk.vhdx", bytes(content), metadata, [Extent(4608, 4608), Extent(size - 1024, 1024)])
    subprocess.run(
        ["qemu-img", "check", "-f", "vhdx", str(tmp_path / "disk.vhdx")], check=True, capture_output=True
    )
    subprocess.run(
        [
            "qemu-img",
            "convert",
            "-f",
            "vhdx",
            "-O",
            "raw",
            str(tmp_path / "disk.vhdx"),
            str(tmp_path / "disk.raw"),
        ],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "disk.raw").read_bytes() == bytes(content)


@NEEDS_QEMU
def test_a_file_made_by_qemu_is_read(tmp_path: Path) -> None:
    target = tmp_path / "q.vhdx"
    subprocess.run(
        ["qemu-img", "create", "-f", "vhdx", "-o", "block_size=8M", str(target), "100M"],
        check=True,
        capture_output=True,
    )
    metadata, bat = read_structures(target.read_bytes()[: 4 * MIB])
    said = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", str(target)], check=True, capture_output=True
        ).stdout
    )
    assert metadata.size_bytes == said["virtual-size"]
    assert metadata.block_bytes == 8 * MIB
    assert vhdx_layout.allocated(metadata, bat) == ()
