"""Image files of disks on this machine, one for each disk, in any format that :mod:`formats.views` has."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from hvpsbridge.errors import ConfigurationError, TargetExists
from hvpsbridge.formats.definition import generation_of
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.views.file import ReadableDisk, ViewFile
from hvpsbridge.formats.views.qcow2 import qcow2_view
from hvpsbridge.formats.views.raw import raw_view
from hvpsbridge.formats.views.vhd import fixed_vhd_view, vhd_view
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.formats.views.view import DiskShape, ImageView
from hvpsbridge.repository import Repository, repository_around
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.file_names import MappedName, disk_file_name
from hvpsbridge.tasks.restore.devices import BlockDevice, is_among_devices, is_device
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.sinks import DiskSink, RawFile, unfinished_files
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.text import folded
from hvpsbridge.units import MIB

# Zeros written to a device at a time, between two looks at signals.
ZERO_BYTES = 64 * MIB
# Tables computed and written at a time.
_TABLE_BYTES = 1 * MIB
# Written at a time: each call hands over the interpreter's lock.
_RUN_BYTES = 1 * MIB
_GENERATION_2 = 2


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format of image files.

    Attributes:
        suffix: of its files.
        view: makes the view of a disk from its shape and the extents of its data.
    """

    suffix: str
    view: Callable[[DiskShape, Iterable[Extent]], ImageView]


def _now() -> datetime:
    return datetime.now(UTC)


FORMATS: Mapping[str, ImageFormat] = {
    "raw": ImageFormat("raw", raw_view),
    "vhdx": ImageFormat("vhdx", lambda shape, extents: vhdx_view(shape, extents, uuid4())),
    "vhdx-fixed": ImageFormat("vhdx", lambda shape, extents: vhdx_view(shape, extents, uuid4(), fixed=True)),
    "vhd": ImageFormat("vhd", lambda shape, extents: vhd_view(shape, extents, _now())),
    "vhd-fixed": ImageFormat("vhd", lambda shape, extents: fixed_vhd_view(shape, extents, _now())),
    "qcow2": ImageFormat("qcow2", qcow2_view),
}


def view_of(source: DiskSource, name: str) -> ImageView:
    """The view of a disk in the format of that name.

    Raises:
        ConfigurationError: the format does not allow the disk.
        DiskDamaged: a part of the disk's tree cannot be read.
    """
    try:
        return FORMATS[name].view(source.shape(), source.extents())
    except ValueError as err:
        raise ConfigurationError(f"disk {source.disk.slot}", str(err)) from err


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Sparse image files on this machine.

    Attributes:
        path: a folder that gets a file per disk, named for its slot (``scsi-0-1.vhdx``); with ``is_file``,
            the file of the only disk, or a block device, which is written in place (raw only).
        repository: the one that is restored from, in which nothing may be written.
        format: a name in :data:`FORMATS`.
        overwrite: replace files that exist, or write into a device.
        mapped: names that had to be changed to become parts of the path.
    """

    path: Path
    repository: Repository
    format: str = "raw"
    overwrite: bool = False
    is_file: bool = False
    mapped: tuple[MappedName, ...] = ()

    def file(self, disk: ManifestDisk) -> Path:
        """The file of a disk."""
        if self.is_file:
            return self.path
        return self.path / disk_file_name(disk.slot, FORMATS[self.format].suffix)

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Refuse disks of which two would be one file, also where letter case does not count, and formats
        that cannot hold them.

        Raises:
            ConfigurationError: names the disk, or both.
        """
        slots: dict[str, str] = {}
        for disk in (source.disk for source in sources):
            path = str(self.file(disk))
            other = slots.get(folded(path))
            if other is not None:
                raise ConfigurationError(
                    path, f"disks {other!r} and {disk.slot!r} would be one file; restore one with --disk"
                )
            slots[folded(path)] = disk.slot
            if self.format != "raw" and is_device(self.path):
                raise ConfigurationError(str(self.path), "is a block device; write a raw image into it")
            self._check_format(point, disk)

    def _check_format(self, point: Point, disk: ManifestDisk) -> None:
        if self.format in ("vhd", "vhd-fixed") and generation_of(point.manifest.definition) == _GENERATION_2:
            raise ConfigurationError(
                f"disk {disk.slot}", "a VM of generation 2 cannot start from a VHD; use vhdx"
            )
        shape = DiskShape(size_bytes=disk.size_bytes, disk_id=uuid4(), sector_bytes=disk.sector_bytes)
        try:
            FORMATS[self.format].view(shape, ())
        except ValueError as err:
            raise ConfigurationError(f"disk {disk.slot}", str(err)) from err

    def unfinished(self) -> tuple[Path, ...]:
        """Hidden files of killed restores in the folder."""
        if is_device(self.path):
            return ()
        return unfinished_files(self.path.parent if self.is_file else self.path)

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the file of a disk; it appears when it is complete.

        Raises:
            TargetExists: something is there already.
            ConfigurationError: nothing may be written there.
            NoSpace: it does not fit.
            DiskDamaged: a chunk is not what was stored; the target keeps nothing.
        """
        started = time.monotonic()
        view = view_of(source, self.format)
        with self._sink(source, view) as sink:
            try:
                if sink.in_place:
                    for offset, length in holes(source.extents(), source.disk.size_bytes):
                        source.cancel.check()
                        sink.zero(offset, length)
                _write_tables(view, sink)
                meter = source.meter()
                runs = _Runs(sink)
                for offset, data in source.chunks():
                    _write_chunk(view, runs, offset, data)
                    meter.moved(len(data), 0)
                runs.flush()
                sink.finish()
            finally:
                if sink.spoiled:
                    source.on_spoiled(sink.spoiled)
        return source.restored(
            started,
            str(self.file(source.disk)),
            format=self.format,
            unfinished_bytes=sink.found_bytes,
            device=sink.device,
        )

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Nothing more to do."""
        return Finished()

    def _sink(self, source: DiskSource, view: ImageView) -> DiskSink:
        path = self.file(source.disk)
        if is_device(self.path):
            if not self.is_file:
                raise ConfigurationError(
                    str(self.path), "is a block device; restore one disk into it with --disk"
                )
            if not self.overwrite:
                raise TargetExists(str(self.path))
            return BlockDevice(self.path, source.disk.size_bytes)
        if is_among_devices(path):
            raise ConfigurationError(str(path), "is not a block device, but would lie among the devices")
        if self.repository.holds(path):
            raise ConfigurationError(str(path), "is inside the repository; restore to another folder")
        if (other := repository_around(path)) is not None:
            what = f"is inside the repository {other}; restore to another folder"
            raise ConfigurationError(str(path), what)
        needed = source.data_bytes + total_bytes(view.table_extents())
        return RawFile(path, view.size_bytes, needed, overwrite=self.overwrite)


def write_qcow2(path: Path, disk: ReadableDisk) -> None:
    """Write a disk that can be read anywhere into a new qcow2 file of its own.

    Raises:
        TargetExists: something has the name.
        NoSpace: it does not fit.
        Damaged: some of the disk cannot be read.
    """
    shape = DiskShape(size_bytes=disk.size_bytes, disk_id=uuid4())
    extents = tuple(disk.extents())
    view = qcow2_view(shape, extents)
    file = ViewFile(view, disk)
    with RawFile(path, view.size_bytes, total_bytes(extents) + total_bytes(view.table_extents())) as sink:
        for extent in view.extents(extents):
            for offset in range(extent.offset, extent.end, _TABLE_BYTES):
                sink.write(offset, file.pread(offset, min(_TABLE_BYTES, extent.end - offset)))
        sink.finish()


def holes(extents: Iterable[Extent], size_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what the extents leave of a disk, in pieces of at most :data:`ZERO_BYTES`."""
    position = 0
    for extent in itertools.chain(extents, [Extent(size_bytes, 0)]):
        while position < extent.offset:
            length = min(extent.offset - position, ZERO_BYTES)
            yield position, length
            position += length
        position = extent.end


def _write_tables(view: ImageView, sink: DiskSink) -> None:
    for extent in view.table_extents():
        for offset in range(extent.offset, extent.end, _TABLE_BYTES):
            content = view.table_bytes(offset, min(_TABLE_BYTES, extent.end - offset))
            if any(content):
                sink.write(offset, content)


class _Runs:
    """Joins what follows each other in a file, so that it is written at a time. Nothing is copied."""

    def __init__(self, sink: DiskSink) -> None:
        self._sink = sink
        self._pieces: list[bytes | memoryview] = []
        self._offset = self._end = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at ``offset``, now or later."""
        if offset != self._end or self._end - self._offset >= _RUN_BYTES:
            self.flush()
            self._offset = self._end = offset
        self._pieces.append(data)
        self._end += len(data)

    def flush(self) -> None:
        """Write what was not."""
        if self._pieces:
            self._sink.write(self._offset, *self._pieces)
            self._pieces = []


def _write_chunk(view: ImageView, runs: _Runs, offset: int, data: bytes) -> None:
    content = memoryview(data)
    for run in view.payload.of_disk(offset, len(data)):
        start = run.disk_offset - offset
        runs.write(run.file_offset, content[start : start + run.length])
