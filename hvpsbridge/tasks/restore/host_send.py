"""Sends bytes to a file or a disk on a host, and goes on after a lost connection where the host ended."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvpsbridge.backoff import Backoff
from hvpsbridge.errors import DiskBusy, HostUnreachable, SessionLost
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.readable import Readable
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)

# Lost connections one after another without anything written in between.
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSend:
    """Where bytes go.

    Attributes:
        host: the host.
        path: of the file.
        open_writer: opens a writer of the file of that path.
        piece_bytes: how much is sent at a time.
        cancel: to be checked before each piece.
        meter: counts what was sent.
        to_write: parts of a piece that are sent, asked after it was read.
    """

    host: HyperVHost
    path: str
    open_writer: Callable[[str], FileWriter]
    piece_bytes: int
    cancel: Cancellation
    meter: Meter
    to_write: Callable[[Extent], Iterable[Extent]] = lambda piece: (piece,)

    def send(self, data: Readable, extents: Iterable[Extent]) -> None:
        """Send these extents of the data, in order, to the same offsets.

        Raises:
            DiskDamaged: a chunk is not what was stored.
            Interrupted: the restore was cancelled.
            HostDiskFull: it does not fit.
            HostError: the host failed, or could not be reached again.
        """
        pieces = (
            Extent(offset, min(self.piece_bytes, extent.end - offset))
            for extent in extents
            for offset in range(extent.offset, extent.end, self.piece_bytes)
        )
        # Sent, and not known to be written.
        pending: deque[Extent] = deque()
        backoff = Backoff(1.0, 15.0, max_failures=_ATTEMPTS)
        writer: FileWriter | None = None
        while True:
            try:
                if writer is None:
                    self.host.restoring.renew()
                    writer = self.open_writer(self.path)
                    for piece in tuple(pending):
                        writer.write(piece.offset, data.pread(piece.offset, piece.length))
                for piece in pieces:
                    self.cancel.check()
                    content = data.pread(piece.offset, piece.length)
                    for part in self.to_write(piece):
                        start = part.offset - piece.offset
                        pending.append(part)
                        writer.write(part.offset, content[start : start + part.length])
                    _acknowledge(pending, writer)
                    self.meter.moved(piece.length, 0)
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
                logger.warning("%s; going on with %s", err, self.path)
                self.cancel.pause(backoff.failed(err))
            except BaseException:
                if writer is not None:
                    writer.close()
                raise


def _acknowledge(pending: deque[Extent], writer: FileWriter) -> None:
    for _ in writer.take_written():
        pending.popleft()
