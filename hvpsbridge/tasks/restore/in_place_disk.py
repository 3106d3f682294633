"""Writes what differs between a disk on a host and a point into the disk, through the virtual disk driver."""

from __future__ import annotations

import logging
import ntpath
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hvpsbridge.backoff import Backoff
from hvpsbridge.errors import DiskBusy, HostError, HostUnreachable, RestoreDiffers, SessionLost
from hvpsbridge.formats.extents import Extent, joined, total_bytes
from hvpsbridge.formats.in_place import InPlaceDisk
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.tasks.restore.host_compare import differing_chunks
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import KIB

logger = logging.getLogger(__name__)

# One write through the driver.
PIECE_BYTES = 512 * KIB
# Lost connections one after another without anything written in between.
_ATTEMPTS = 6
# Files of change tracking, beside that of the disk.
_TRACKING = (".rct", ".mrt")


@dataclass(frozen=True, slots=True)
class HostDisk:
    """The file of one disk of a VM that is off.

    Attributes:
        host: the host.
        names: its names.
    """

    host: HyperVHost
    names: InPlaceDisk

    def hide(self) -> None:
        """Give the disk, then its files of change tracking, other names: the VM cannot start without it.

        Files that have them already stay.
        """
        for extension in ("", *_TRACKING):
            self._move(self.names.path + extension, self.names.written + extension)

    def show(self) -> None:
        """Give the files of change tracking, and at last the disk, their names back."""
        for extension in (*_TRACKING, ""):
            self._move(self.names.written + extension, self.names.path + extension)

    def write(self, source: DiskSource) -> tuple[Extent, ...]:
        """Write the chunks that differ, and compare all of them again; what was written.

        Raises:
            RestoreDiffers: the host reads something else than was written.
            DiskDamaged: a chunk is not what was stored.
            HostDiskFull: the file cannot grow.
            HostError: the host failed, or could not be reached again.
        """
        try:
            differing = tuple(joined(self._differing(source)))
            if differing:
                self.host.close_readers(self.names.written)
                self._write(source, differing)
                self.host.restoring.close_file(self.names.written)
                for extent in self._differing(source):
                    raise RestoreDiffers(self.host.name, self.names.path, extent.offset)
            self.host.close_readers(self.names.written)
        except BaseException:
            # An attached disk could be neither renamed nor written by the next try.
            with suppress(HostError):
                self.host.close_readers(self.names.written)
                self.host.restoring.close_file(self.names.written)
            raise
        return differing

    def _move(self, path: str, destination: str) -> None:
        found = self.host.restoring.folder(ntpath.dirname(path), [path]).found
        if found:
            self.host.restoring.move_file(path, destination)

    def _differing(self, source: DiskSource) -> Iterator[Extent]:
        return differing_chunks(self.host, self.names.written, source)

    def _write(self, source: DiskSource, differing: tuple[Extent, ...]) -> None:
        meter = source.meter(total_bytes(differing))
        pieces = _pieces(differing)
        # Sent, and not known to be written.
        pending: deque[Extent] = deque()
        backoff = Backoff(1.0, 15.0, max_failures=_ATTEMPTS)
        writer: FileWriter | None = None
        while True:
            try:
                if writer is None:
                    self.host.restoring.renew()
                    writer = self.host.restoring.open_disk_writer(self.names.written)
                    for piece in tuple(pending):
                        writer.write(piece.offset, source.pread(piece.offset, piece.length))
                for piece in pieces:
                    source.cancel.check()
                    data = source.pread(piece.offset, piece.length)
                    pending.append(piece)
                    writer.write(piece.offset, data)
                    _acknowledge(pending, writer)
                    meter.moved(piece.length, 0)
                    backoff.reset()
                writer.flush()
                writer.close()
                return
            except (SessionLost, HostUnreachable, DiskBusy) as err:
                # Busy: the process of the lost shell still has the disk attached.
                if writer is not None:
                    _acknowledge(pending, writer)
                    writer.close()
                    writer = None
                logger.warning("%s; going on with %s", err, self.names.written)
                source.cancel.pause(backoff.failed(err))
            except BaseException:
                if writer is not None:
                    writer.close()
                raise


def _acknowledge(pending: deque[Extent], writer: FileWriter) -> None:
    for _ in writer.take_written():
        pending.popleft()


def _pieces(extents: tuple[Extent, ...]) -> Iterator[Extent]:
    for extent in extents:
        for offset in range(extent.offset, extent.end, PIECE_BYTES):
            yield Extent(offset, min(PIECE_BYTES, extent.end - offset))
