"""A disk file on a host: written in the order of the file, resumed after a lost connection, and compared.

NTFS fills with zeros what a write jumps over, so bytes that are zeros are not sent. While it is written the
file has another name: nothing takes it for a disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvpsbridge.errors import (
    HostError,
    OperationFailed,
    RestoreDiffers,
    TargetExists,
)
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.formats.views.view import ImageView
from hvpsbridge.tasks.restore.host_compare import differing_chunks
from hvpsbridge.tasks.restore.host_send import HostSend
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import MIB

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

# Before the extension, by which Windows knows what a file is.
PARTIAL = ".partial"
PIECE_BYTES = 1 * MIB


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
        HostSend(
            host=self.host,
            path=self.partial,
            open_writer=self.host.restoring.open_writer,
            piece_bytes=PIECE_BYTES,
            cancel=source.cancel,
            meter=source.meter(),
        ).send(ViewFile(view, source), view.extents(source.extents()))

    def _compare(self, source: DiskSource) -> None:
        """Compare all chunks of the disk, as the driver reads it, with the repository."""
        for extent in differing_chunks(self.host, self.partial, source):
            raise RestoreDiffers(self.host.name, self.path, extent.offset)
        self.host.close_readers(self.partial)
