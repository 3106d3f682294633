"""The target ``-``: one disk to standard output, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hvpsbridge.errors import ConfigurationError, NoSpace, is_full
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.restore.images import view_of
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import MIB

_PIECE_BYTES = 1 * MIB


class StreamTarget:
    """Writes the image of one disk to a stream, from its first byte to its last.

    Args:
        stream: not closed here.
    """

    mapped: tuple[MappedName, ...] = ()

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Refuse more than one disk.

        Raises:
            ConfigurationError: there are several.
        """
        if len(sources) != 1:
            raise ConfigurationError(
                "--to -", f"point {point.short_id} has {len(sources)} disks; choose one with --disk"
            )

    def unfinished(self) -> tuple[Path, ...]:
        """Nothing."""
        return ()

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the disk.

        Raises:
            ConfigurationError: nobody reads the stream any more.
            DiskDamaged: a chunk is not what was stored. What is before it has been written.
            Interrupted: the restore was cancelled.
        """
        started = time.monotonic()
        file = ViewFile(view_of(source, "raw"), source)
        meter = Meter(source.on_progress, source.disk.slot, "restore", file.size_bytes)
        try:
            for offset in range(0, file.size_bytes, _PIECE_BYTES):
                source.cancel.check()
                piece = file.pread(offset, min(_PIECE_BYTES, file.size_bytes - offset))
                self._stream.write(piece)
                meter.moved(len(piece), 0)
            self._stream.flush()
        except OSError as err:
            text = err.strerror or str(err)
            if is_full(err):
                raise NoSpace("standard output", "write", source.disk.slot, text) from err
            raise ConfigurationError("standard output", text) from err
        return source.restored(started, "-")

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Nothing more to do."""
        return Finished()
