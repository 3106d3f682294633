"""Tables that map Windows files and disks to extents of sparse files, for ``CreateFileW`` and reads.

A frozen virtual disk is a disk when it is attached, and a VHDX when it is opened as a file. The VHDX is made
here: headers, regions and block allocation table from the layer's extents, with the payload in the layer's
backing file. Configuration files are served in the same way.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid5

from hvpsbridge.formats import vhdx_layout
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.vhdx_metadata import Metadata
from hvpsbridge.sim.model import DiskError, DiskHandle, HyperVError, Model, VhdFormat, VMState, Win32
from hvpsbridge.sim.model.files import normal_path
from hvpsbridge.sim.model.state import VhdType
from hvpsbridge.sim.model.stored import Layer

# File number of a segment whose reading fails (virtdisk.c: BAD_FILE).
BAD_FILE = 0xFFFFFFFF
_TABLE = struct.Struct("<QIIII")
_SEGMENT = struct.Struct("<QQQII")


@dataclass(slots=True)
class Table:
    """Where the bytes of a file or disk are.

    Attributes:
        size_bytes: size of the file or disk.
        sector_bytes: reads must be multiples of it; 0 for a file.
        files: sparse files.
        segments: (offset, length, offset in the file, number of the file), ascending; gaps are zeros.
        scratch: a file made for this table; :meth:`close` deletes it.
    """

    size_bytes: int
    sector_bytes: int = 0
    files: list[Path] = field(default_factory=list)
    segments: list[tuple[int, int, int, int]] = field(default_factory=list)
    scratch: Path | None = None

    def add(self, path: Path) -> int:
        """Add a sparse file. Returns its number."""
        self.files.append(path)
        return len(self.files) - 1

    def pack(self) -> bytes:
        """The table in the format of virtdisk.c."""
        names = [str(path).encode() for path in self.files]
        return b"".join(
            (
                _TABLE.pack(self.size_bytes, self.sector_bytes, len(names), len(self.segments), 0),
                *(struct.pack("<I", len(name)) + name for name in names),
                *(_SEGMENT.pack(at, length, source, file, 0) for at, length, source, file in self.segments),
            )
        )

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of a file, fewer at its end. For engines that do not use the library."""
        length = max(0, min(length, self.size_bytes - offset))
        data = bytearray(length)
        for at, segment_length, source, file in self.segments:
            start, end = max(at, offset), min(at + segment_length, offset + length)
            if start < end:
                with self.files[file].open("rb") as backing:
                    backing.seek(source + start - at)
                    data[start - offset : end - offset] = backing.read(end - start)
        return bytes(data)

    def close(self) -> None:
        """Delete the scratch file."""
        if self.scratch is not None:
            self.scratch.unlink(missing_ok=True)


def disk_table(model: Model, handle: DiskHandle) -> Table:
    """The table of an attached disk.

    Raises:
        DiskError: it is not attached.
    """
    top = model.disks.layer(handle.layer)
    table = Table(top.size_bytes, top.logical_sector_bytes)
    numbers: dict[int, int] = {}
    for piece in model.driver.table(handle):
        if piece.layer not in numbers:
            numbers[piece.layer] = table.add(model.driver.backing(piece.layer))
        extent = piece.extent
        table.segments.append((extent.offset, extent.length, extent.offset, numbers[piece.layer]))
    for layer in model.disks.chain(handle.layer):
        for extent in layer.unreadable:
            table.segments = _cut(table.segments, extent)
            table.segments.append((extent.offset, extent.length, 0, BAD_FILE))
    table.segments.sort()
    return table


def file_table(model: Model, path: str, scratch: Path, *, node: str | None = None) -> Table:
    """The table of the Windows file at ``path``.

    Args:
        scratch: folder for a scratch file.

    Raises:
        DiskError: the file does not exist, or others hold it.
    """
    for vm in model.vms.all(node):
        for owner in (None, *(point.checkpoint_id for point in model.checkpoints.all(vm.vm_id, hidden=True))):
            try:
                files = model.vms.configuration(vm.vm_id, owner)
            except HyperVError:
                continue  # the checkpoint has been removed meanwhile
            for file in files:
                if normal_path(file.path) == normal_path(path):
                    return _from_bytes(file.content, scratch)
    layer = model.disks.at(path)
    model.driver.check_sharing(path)
    for vm in model.vms.all():
        live = {drive.layer for drive in model.disks.drives(vm.vm_id)}
        if layer.number in live and vm.state not in (VMState.Off, VMState.Saved):
            raise DiskError(Win32.SHARING_VIOLATION, path)
    if layer.format is VhdFormat.VHDX:
        return _vhdx(model, layer, scratch)
    # A VHD: its data and an empty footer. Nothing parses that format.
    table = Table(layer.size_bytes + 512)
    _add_all(table, model.driver.backing(layer.number), layer.present)
    return table


def _from_bytes(content: bytes, scratch: Path) -> Table:
    path = _write(content, scratch)
    return Table(len(content), 0, [path], [(0, len(content), 0, 0)], path)


def _vhdx(model: Model, layer: Layer, scratch: Path) -> Table:
    parent = None
    if layer.parent is not None:
        above = model.disks.layer(layer.parent)
        parent = (
            ("parent_linkage", f"{{{_write_guid(above)}}}"),
            ("absolute_win32_path", above.path),
            ("relative_path", ".\\" + above.path.rpartition("\\")[2]),
        )
    metadata = Metadata(
        size_bytes=layer.size_bytes,
        block_bytes=layer.block_bytes,
        disk_id=layer.disk_id,
        logical_sector_bytes=layer.logical_sector_bytes,
        physical_sector_bytes=layer.physical_sector_bytes,
        fixed=layer.kind is VhdType.Fixed,
        parent=parent,
    )
    whole = [Extent(0, layer.size_bytes)] if layer.kind is VhdType.Fixed else layer.present
    log_guid = _write_guid(layer) if model.knobs.frozen_log else UUID(int=0)
    layout = vhdx_layout.plan(metadata, whole, _write_guid(layer), log_guid=log_guid)
    head = _write(layout.head, scratch)
    table = Table(layout.file_bytes, 0, [head], [(0, len(layout.head), 0, 0)], head)
    backing = table.add(model.driver.backing(layer.number))
    for run in layout.payload:
        length = min(run.length, layer.size_bytes - run.disk_offset)
        table.segments.append((run.file_offset, length, run.disk_offset, backing))
    return table


def _write_guid(layer: Layer) -> UUID:
    """FileWriteGuid. It changes with every id of change tracking and every merge."""
    return uuid5(layer.disk_id, f"{layer.number}|{len(layer.epochs)}|{layer.present.total_bytes}")


def _write(content: bytes, scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as file:
        # Tables of large disks are mostly zeros: leave holes.
        for at in range(0, len(content), 65536):
            piece = content[at : at + 65536]
            if piece.count(0) != len(piece):
                file.seek(at)
                file.write(piece)
        file.truncate(len(content))
        return Path(file.name)


def _add_all(table: Table, path: Path, extents: Iterable[Extent]) -> None:
    number = table.add(path)
    for extent in extents:
        table.segments.append((extent.offset, extent.length, extent.offset, number))


def _cut(segments: list[tuple[int, int, int, int]], hole: Extent) -> list[tuple[int, int, int, int]]:
    kept = []
    for at, length, source, file in segments:
        if at + length <= hole.offset or at >= hole.end:
            kept.append((at, length, source, file))
            continue
        if at < hole.offset:
            kept.append((at, hole.offset - at, source, file))
        if at + length > hole.end:
            kept.append((hole.end, at + length - hole.end, source + hole.end - at, file))
    return kept
