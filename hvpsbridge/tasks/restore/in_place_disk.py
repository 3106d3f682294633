"""Writes what differs between a disk on a host and a point into the disk, through the virtual disk driver."""

from __future__ import annotations

import ntpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hvpsbridge.errors import ConfigurationError, HostError, OperationFailed, RestoreDiffers
from hvpsbridge.formats.extents import Extent, joined, total_bytes
from hvpsbridge.formats.in_place import InPlaceDisk
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.restore.host_compare import differing_chunks
from hvpsbridge.tasks.restore.host_send import HostSend
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import KIB

# One write through the driver.
PIECE_BYTES = 512 * KIB
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
        self._move(self.names.path, self.names.written, ("", *_TRACKING))

    def show(self) -> None:
        """Give the files of change tracking, and at last the disk, their names back."""
        self._move(self.names.written, self.names.path, (*_TRACKING, ""))

    def write(self, source: DiskSource) -> tuple[Extent, ...]:
        """Write the chunks that differ, and compare all of them again; what was written.

        A disk that is smaller than in the point is enlarged. Where the point is damaged, the disk keeps what
        it has.

        Raises:
            ConfigurationError: the disk is larger than in the point.
            RestoreDiffers: the host reads something else than was written.
            DiskDamaged: a chunk is not what was stored.
            HostDiskFull: the file cannot grow.
            HostError: the host failed, or could not be reached again.
        """
        source.keeps_damaged = True
        self._enlarge(source)
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
        return tuple(part for extent in differing for part in source.to_write(extent))

    def _enlarge(self, source: DiskSource) -> None:
        try:
            self.host.restoring.enlarge_disk(self.names.written, source.size_bytes)
        except OperationFailed as err:
            if err.error_id != "Hvps.BadRequest":
                raise
            # Only a restore that was killed can have begun with another point.
            raise ConfigurationError(
                f"restore onto {self.host.name}",
                f"disk {self.names.slot} is larger than in this point; use `hvps host undo`, or finish the "
                "restore with the point that it began with",
            ) from err

    def _move(self, path: str, destination: str, extensions: Sequence[str]) -> None:
        names = {path + extension: destination + extension for extension in extensions}
        found = self.host.restoring.folder(ntpath.dirname(path), names).found
        for name in names:
            if name in found:
                self.host.restoring.move_file(name, names[name])

    def _differing(self, source: DiskSource) -> Iterator[Extent]:
        return differing_chunks(self.host, self.names.written, source)

    def _write(self, source: DiskSource, differing: tuple[Extent, ...]) -> None:
        HostSend(
            host=self.host,
            path=self.names.written,
            open_writer=self.host.restoring.open_disk_writer,
            piece_bytes=PIECE_BYTES,
            cancel=source.cancel,
            meter=source.meter(total_bytes(differing)),
            to_write=source.to_write,
        ).send(source, differing)
