"""A file that was written on a host, as the virtual disk that it holds. libvhdi judges and reads it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from hvpsbridge.formats import vhdx_layout
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.vhdx import BAT_REGION, METADATA_REGION, unpack_regions
from hvpsbridge.formats.vhdx_metadata import Metadata
from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.state import VhdFormat, VhdType
from hvpsbridge.sim.model.stored import HostFile, Layer
from hvpsbridge.units import KIB, MIB

try:
    import pyvhdi
except ImportError:  # only restores onto a simulated host need it
    pyvhdi = None

_REGIONS_OFFSET = 192 * KIB
_REGIONS_BYTES = 64 * KIB
# Pieces that are left out of the disk's file if they are zeros.
_PIECE_BYTES = 64 * KIB


def layer_of(core: Core, file: HostFile, backing: Path) -> Layer:
    """A new layer with the content of a VHDX file.

    Raises:
        DiskError: Windows would not open it.
    """
    if pyvhdi is None:
        raise DiskError(Win32.NOT_SUPPORTED, file.path)
    try:
        metadata, extents = _tables(backing)
        opened = pyvhdi.file()
        opened.open(str(backing))
    except (OSError, ValueError, KeyError, struct.error, EOFError) as err:
        raise DiskError(Win32.FILE_CORRUPT, file.path) from err
    try:
        if opened.get_media_size() != metadata.size_bytes:
            raise DiskError(Win32.FILE_CORRUPT, file.path)
        layer = Layer(
            number=core.world.next(),
            path=file.path,
            size_bytes=metadata.size_bytes,
            disk_id=metadata.disk_id,
            logical_sector_bytes=metadata.logical_sector_bytes,
            physical_sector_bytes=metadata.physical_sector_bytes,
            block_bytes=metadata.block_bytes,
            format=VhdFormat.VHDX,
            kind=VhdType.Fixed if metadata.fixed else VhdType.Dynamic,
            folder_rights=True,
        )
        core.files.new_base(layer, None)
        for extent in extents:
            length = min(extent.end, layer.size_bytes) - extent.offset
            for at in range(extent.offset, extent.offset + length, MIB):
                count = min(MIB, extent.offset + length - at)
                _write(core, layer, at, opened.read_buffer_at_offset(count, at))
            layer.present.add(extent.offset, extent.offset + length)
    except OSError as err:
        raise DiskError(Win32.FILE_CORRUPT, file.path) from err
    finally:
        opened.close()
    return layer


def _write(core: Core, layer: Layer, offset: int, data: bytes) -> None:
    for at in range(0, len(data), _PIECE_BYTES):
        piece = data[at : at + _PIECE_BYTES]
        if piece.count(0) != len(piece):
            core.files.write(layer, offset + at, piece)


def _tables(backing: Path) -> tuple[Metadata, tuple[Extent, ...]]:
    """Metadata of a VHDX, and its blocks."""
    descriptor = os.open(backing, os.O_RDONLY | os.O_CLOEXEC)
    try:
        regions = {
            region.guid: region
            for region in unpack_regions(sparse.read(descriptor, _REGIONS_BYTES, _REGIONS_OFFSET))
        }
        where = regions[METADATA_REGION]
        metadata = Metadata.unpack(sparse.read(descriptor, where.length, where.offset))
        where = regions[BAT_REGION]
        bat = sparse.read(descriptor, where.length, where.offset)
        return metadata, vhdx_layout.allocated(metadata, bat)
    finally:
        os.close(descriptor)
