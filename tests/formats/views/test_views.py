"""Views of every format: judged by qemu-img and libvhdi, and any part of a file is as in the whole."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.formats.views.qcow2 import qcow2_view
from hvpsbridge.formats.views.raw import raw_view
from hvpsbridge.formats.views.vhd import fixed_vhd_view, vhd_view
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.formats.views.view import DiskShape, ImageView
from hvpsbridge.units import GIB, KIB, MIB, TIB
from tests.qemu_images import QEMU, assert_same_disk

from .disks import MemoryDisk, write_raw, write_sparse

DISK_ID = UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
WRITE_ID = UUID("11111111-2222-3333-4444-555555555555")
CREATED = datetime(2026, 11, 27, tzinfo=UTC)

Maker = Callable[[DiskShape, Iterable[Extent]], ImageView]
MAKERS: dict[str, Maker] = {
    "raw": raw_view,
    "vhdx": lambda shape, extents: vhdx_view(shape, extents, WRITE_ID),
    "vhdx-fixed": lambda shape, extents: vhdx_view(shape, extents, WRITE_ID, fixed=True),
    "vhd": lambda shape, extents: vhd_view(shape, extents, CREATED),
    "vhd-fixed": lambda shape, extents: fixed_vhd_view(shape, extents, CREATED),
    "qcow2": qcow2_view,
}
DISKS = {
    "empty": (64 * MIB, ()),
    "full": (3 * MIB, ((0, 3 * MIB),)),
    "odd": (77 * MIB + 512 * 3, ((0, 5), (4 * MIB - 1, 2 * MIB + 1), (70 * MIB, 7 * MIB + 512 * 3))),
    "tiny": (512, ((0, 512),)),
    "large": (40 * GIB, ((5 * GIB, 3 * MIB), (33 * GIB + 7, 100), (40 * GIB - 512, 512))),
}


def disk_of(name: str) -> MemoryDisk:
    size, extents = DISKS[name]
    return MemoryDisk(size, [Extent(*pair) for pair in extents])


def shape_of(disk: MemoryDisk, **more: int) -> DiskShape:
    return DiskShape(size_bytes=disk.size_bytes, disk_id=DISK_ID, **more)


@pytest.mark.parametrize("name", DISKS)
@pytest.mark.parametrize("kind", MAKERS)
def test_qemu_img_finds_the_disk_in_the_file(kind: str, name: str, tmp_path: Path) -> None:
    disk = disk_of(name)
    made, expected = tmp_path / "made", tmp_path / "expected"
    write_sparse(ViewFile(MAKERS[kind](shape_of(disk), disk.extents()), disk), made)
    write_raw(disk, expected)
    if kind in ("qcow2", "vhdx", "vhdx-fixed"):
        subprocess.run(["qemu-img", "check", "-q", "-f", QEMU[kind], made], check=True, timeout=60)
    assert_same_disk(made, kind, expected)
    info = subprocess.run(
        ["qemu-img", "info", "-f", QEMU[kind], "--output=json", made], capture_output=True, timeout=60
    )
    assert json.loads(info.stdout)["virtual-size"] == disk.size_bytes


@pytest.mark.parametrize("sectors", [(512, 512), (512, 4096), (4096, 4096)])
@pytest.mark.parametrize("kind", ["vhdx", "vhdx-fixed", "vhd", "vhd-fixed"])
def test_libvhdi_reads_every_byte(kind: str, sectors: tuple[int, int]) -> None:
    if kind in ("vhd", "vhd-fixed") and sectors[0] == 4096:
        with pytest.raises(ValueError, match="512"):
            MAKERS[kind](shape_of(disk_of("full"), sector_bytes=4096), ())
        return
    size = 75 * MIB + 4096
    disk = MemoryDisk(size, [Extent(3, 4 * MIB), Extent(37 * MIB, 9), Extent(size - 5000, 5000)])
    shape = shape_of(disk, sector_bytes=sectors[0], physical_sector_bytes=sectors[1], block_bytes=MIB)
    opened = pyvhdi.file()
    opened.open_file_object(ViewFile(MAKERS[kind](shape, disk.extents()), disk))
    assert opened.get_media_size() == size
    assert opened.get_bytes_per_sector() == sectors[0]
    # Of a VHDX libvhdi shows DataWriteGuid.
    assert UUID(opened.get_identifier()) == (WRITE_ID if kind.startswith("vhdx") else DISK_ID)
    for at in range(0, size, MIB):
        count = min(MIB, size - at)
        assert opened.read_buffer_at_offset(count, at) == disk.pread(at, count), at


@pytest.mark.parametrize("block", [MIB, 32 * MIB, 256 * MIB])
def test_libvhdi_reads_a_vhdx_of_64_tib(block: int) -> None:
    size = 64 * TIB
    spots = [0, 5 * TIB + 3 * MIB, 31 * TIB + 1, size - MIB]
    disk = MemoryDisk(size, [Extent(spot, MIB) for spot in spots])
    view = MAKERS["vhdx"](shape_of(disk, block_bytes=block, sector_bytes=4096), disk.extents())
    opened = pyvhdi.file()
    opened.open_file_object(ViewFile(view, disk))
    assert opened.get_media_size() == size
    for spot in spots:
        assert opened.read_buffer_at_offset(MIB, spot) == disk.pread(spot, MIB)
    assert opened.read_buffer_at_offset(MIB, 40 * TIB) == bytes(MIB)


@st.composite
def disks(draw: st.DrawFn) -> MemoryDisk:
    size = draw(st.integers(1, 40_000)) * 4096
    extents = draw(st.lists(st.builds(Extent, st.integers(0, size), st.integers(1, 9 * MIB)), max_size=6))
    return MemoryDisk(size, normalise(extents, size))


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from(sorted(MAKERS)), disk=disks(), data=st.data())
def test_any_part_is_as_in_the_whole(kind: str, disk: MemoryDisk, data: st.DataObject) -> None:
    view = MAKERS[kind](shape_of(disk, block_bytes=MIB), disk.extents())
    file = ViewFile(view, disk)
    whole = file.pread(0, file.size_bytes)
    outside = bytearray(whole)
    for extent in file.extents():
        outside[extent.offset : extent.end] = bytes(extent.length)
    assert not any(outside), "data beyond the extents"
    for _ in range(8):
        start = data.draw(st.integers(0, file.size_bytes - 1))
        length = data.draw(st.integers(1, min(2 * MIB, file.size_bytes - start)))
        assert file.pread(start, length) == whole[start : start + length]
    for extent in disk.extents():
        placed = list(view.payload.of_disk(extent.offset, extent.length))
        assert b"".join(
            whole[run.file_offset : run.file_offset + run.length] for run in placed
        ) == disk.pread(extent.offset, extent.length)
    file.seek(-100, io.SEEK_END)
    assert file.read() == whole[-100:]


@pytest.mark.parametrize("kind", ["vhd", "vhd-fixed"])
def test_a_vhd_has_its_limits(kind: str) -> None:
    largest = 2040 * GIB
    view = MAKERS[kind](DiskShape(size_bytes=largest, disk_id=DISK_ID), ())
    assert view.size_bytes > 0
    with pytest.raises(ValueError, match="2040 GiB"):
        MAKERS[kind](DiskShape(size_bytes=largest + 512, disk_id=DISK_ID), ())


def test_the_tables_of_a_large_disk_are_computed_where_they_are_read() -> None:
    # One block in two of 20 TiB: nothing may grow with the disk but a few numbers for each run.
    extents = (Extent(at, 256 * KIB) for at in range(0, 20 * TIB, 64 * MIB))
    view = MAKERS["vhdx"](DiskShape(size_bytes=20 * TIB, disk_id=DISK_ID), extents)
    assert len(view.payload) == 20 * TIB // (64 * MIB)
    assert view.table_bytes(0, 8) == b"vhdxfile"
