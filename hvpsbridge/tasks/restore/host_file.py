"""A disk file on a host: written in the order of the file, resumed after a lost connection, and compared.

NTFS fills with zeros what a write jumps over, so bytes that are zeros are not sent. While it is written the
file has another name: nothing takes it for a disk.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvpsbridge.backoff import Backoff
from hvpsbridge.errors import (
    DiskBusy,
    HostError,
    HostUnreachable,
    OperationFailed,
    RestoreDiffers,
    SessionLost,
    TargetExists,
)
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.formats.views.view import ImageView
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.tasks.restore.host_compare import differing_chunks
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import MIB

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)

# Before the extension, by which Windows knows what a file is.
PARTIAL = ".partial"
PIECE_BYTES = 1 * MIB
# Lost connections one after another without anything written in between.
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class HostDiskFile:
    """A disk file on a host.

    Attributes:
        host: the host.
        path: of the finished file.
    """

    host: HyperVHost
    path: str

    @property
    def partial(self) -> str:
        """Path while it is written."""
        stem, dot, extension = self.path.rpartition(".")
        return f"{stem}{PARTIAL}{dot}{extension}"

    def write(self, view: ImageView, source: DiskSource) -> None:
        """Write, compare and rename it. After an error nothing is left.

        Raises:
            TargetExists: something has the name.
            HostDiskFull: it does not fit.
            RestoreDiffers: the host reads something else than was written.
            DiskDamaged: a chunk is not what was stored.
            HostError: the host failed, or could not be reached again.
        """
        restoring = self.host.restoring
        with self._taking(self.partial):
            restoring.new_file(self.partial, view.size_bytes)
        try:
            self._fill(view, source)
            restoring.close_file(self.partial)
            self._compare(source)
            with self._taking(self.path):
                restoring.move_file(self.partial, self.path)
        except BaseException:
            with suppress(HostError):
                self.host.close_readers(self.partial)
                restoring.remove_files([self.partial])
            raise

    @contextmanager
    def _taking(self, path: str) -> Iterator[None]:
        """Say which name is taken."""
        try:
            yield
        except OperationFailed as err:
            if err.error_id == "Hvps.FileExists":
                raise TargetExists(f"{self.host.name}:{path}") from err
            raise

    def _fill(self, view: ImageView, source: DiskSource) -> None:
        file, meter = ViewFile(view, source), source.meter()
        pieces = _pieces(view, source)
        # Sent, and not known to be written.
        pending: deque[Extent] = deque()
        backoff = Backoff(1.0, 15.0, max_failures=_ATTEMPTS)
        writer: FileWriter | None = None
        while True:
            try:
                if writer is None:
                    self.host.restoring.renew()
                    writer = self.host.restoring.open_writer(self.partial)
                    for piece in tuple(pending):
                        writer.write(piece.offset, file.pread(piece.offset, piece.length))
                for piece in pieces:
                    source.cancel.check()
                    data = file.pread(piece.offset, piece.length)
                    pending.append(piece)
                    writer.write(piece.offset, data)
                    _acknowledge(pending, writer)
                    meter.moved(piece.length, 0)
                    backoff.reset()
                writer.flush()
                writer.close()
                return
            except (SessionLost, HostUnreachable, DiskBusy) as err:
                # Busy: the process of the lost shell still has the file open.
                if writer is not None:
                    _acknowledge(pending, writer)
                    writer.close()
                    writer = None
                logger.warning("%s; going on with %s", err, self.partial)
                source.cancel.pause(backoff.failed(err))
            except BaseException:
                if writer is not None:
                    writer.close()
                raise

    def _compare(self, source: DiskSource) -> None:
        """Compare all chunks of the disk, as the driver reads it, with the repository."""
        for extent in differing_chunks(self.host, self.partial, source):
            raise RestoreDiffers(self.host.name, self.path, extent.offset)
        self.host.close_readers(self.partial)


def _acknowledge(pending: deque[Extent], writer: FileWriter) -> None:
    for _ in writer.take_written():
        pending.popleft()


def _pieces(view: ImageView, source: DiskSource) -> Iterator[Extent]:
    """What is sent, in the order of the file."""
    for extent in view.extents(source.extents()):
        for offset in range(extent.offset, extent.end, PIECE_BYTES):
            yield Extent(offset, min(PIECE_BYTES, extent.end - offset))
