"""The virtual disk driver: handles, attaching, reading, change queries."""

from __future__ import annotations

from pathlib import Path

from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.files import Piece
from hvpsbridge.sim.model.handles import DiskHandle
from hvpsbridge.sim.model.state import VhdFormat
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.sim.model.tracking import Answer

# Faults of reads.
READ_FAULTS = ("read_error", "read_short", "read_corrupt", "ReadFile")


class Driver:
    """What virtdisk.dll answers."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def open(self, path: str, owner: str, node: str | None = None, *, info_only: bool = False) -> DiskHandle:
        """Open a virtual disk file. Reading it needs :meth:`attach`.

        Raises:
            DiskError: there is no such file.
        """
        with self._timeline.now():
            return self._core.handles.open(path, owner, node, info_only=info_only)

    def attach(self, handle: DiskHandle) -> None:
        """Attach read-only. A file can be attached once.

        Raises:
            DiskError: it is attached already, in use by a running VM, or gone.
        """
        with self._timeline.now():
            self._core.handles.attach(handle)

    def detach(self, handle: DiskHandle) -> None:
        """Detach; the handle remains open."""
        with self._timeline.now():
            self._core.handles.detach(handle)

    def close(self, handle: DiskHandle) -> None:
        """Close a handle."""
        with self._timeline.now():
            self._core.handles.close(handle)

    def close_owner(self, owner: str) -> None:
        """Close the handles of a process that has ended."""
        with self._timeline.now():
            self._core.handles.close_owner(owner)

    def attached(self) -> tuple[DiskHandle, ...]:
        """Handles that have a disk attached."""
        with self._timeline.now():
            return self._core.handles.attached()

    def is_attached(self, handle: DiskHandle) -> bool:
        """Whether the handle still has its disk; a migration or the death of the host takes it away."""
        with self._timeline.now():
            return handle.attached and handle.layer in self._core.world.layers

    def must_ask(self) -> bool:
        """Whether a reader that reads by a table must ask the model before each read."""
        core = self._core
        with core.lock:
            armed = core.faults.armed()
            return core.handles.broken or core.knobs.short_reads > 0 or any(f in armed for f in READ_FAULTS)

    def read_falls_short(self) -> bool:
        """Whether knob ``short_reads`` shortens this read."""
        with self._timeline.now():
            return self._core.chance.random() < self._core.knobs.short_reads

    def table(self, handle: DiskHandle) -> list[Piece]:
        """Which backing file holds which extents of an attached disk; the rest is zeros.

        Raises:
            DiskError: it is not attached.
        """
        with self._timeline.now():
            return self._core.files.resolve(self._attached_layer(handle))

    def backing(self, number: int) -> Path:
        """Sparse raw file with a layer's bytes at their offsets in the disk."""
        with self._timeline.now():
            return self._core.files.backing(self._core.world.layers[number])

    def read(self, handle: DiskHandle, offset: int, length: int) -> bytes:
        """Read an attached disk.

        Raises:
            DiskError: it is not attached, the range is not whole sectors or ends past the disk, or a device
                error.
        """
        with self._timeline.now():
            core = self._core
            layer = self._attached_layer(handle)
            sector = layer.logical_sector_bytes
            if offset % sector or length % sector:
                raise DiskError(Win32.INVALID_PARAMETER, layer.path)
            if offset + length > layer.size_bytes:
                raise DiskError(Win32.SECTOR_NOT_FOUND, layer.path)
            bad = any(
                True
                for member in core.files.chain(layer)
                for _ in member.unreadable.within(offset, offset + length)
            )
            if bad or core.faults.fires("read_error"):
                raise DiskError(Win32.IO_DEVICE, layer.path)
            data = core.files.read(layer, offset, length)
            if core.faults.fires("read_corrupt"):
                data = data[:-1] + bytes([data[-1] ^ 1])
            short = core.faults.fires("read_short") or core.chance.random() < core.knobs.short_reads
            return data[:-sector] if short else data

    def allocated(self, path: str) -> tuple[Extent, ...]:
        """Blocks that the file itself holds, as its block allocation table says.

        Raises:
            DiskError: there is no such file.
        """
        with self._timeline.now():
            layer = self._core.files.by_path(path)
            return tuple(layer.present.aligned(layer.block_bytes, layer.size_bytes))

    def flush(self, handle: DiskHandle) -> None:
        """``FlushFileBuffers`` of a disk that is attached to be written.

        Raises:
            DiskError: this host does not flush such handles.
        """
        with self._core.lock:
            if self._core.knobs.attached_flush_refusal:
                raise DiskError(self._core.knobs.attached_flush_refusal, handle.path)

    def tracking_state(self, path: str) -> tuple[bool, bool, str | None]:
        """Change tracking of a file: whether it is enabled, ``NewerChanges``, ``MostRecentId``.

        Raises:
            DiskError: there is no such file.
        """
        with self._timeline.now():
            core = self._core
            chain = core.files.chain(core.files.by_path(path))
            enabled = chain[0].tracking_enabled and not chain[0].tracking_lost
            recent = core.tracking.most_recent(chain) if enabled else None
            return enabled, enabled and core.tracking.newer_changes(chain), recent

    def query_changes(self, path: str, rct_id: str, offset: int, length: int, room: int = 4096) -> Answer:
        """``QueryChangesVirtualDisk``: one page of what was written after ``rct_id`` was taken.

        Raises:
            DiskError: there is no such file, or tracking cannot answer.
        """
        with self._timeline.now():
            core = self._core
            chain = core.files.chain(core.files.by_path(path))
            if core.faults.fires("query_fails"):
                raise DiskError(Win32.VHD_TRACKING_MISSING, path)
            if core.faults.fires("query_no_progress"):
                return Answer(0, ())
            if core.faults.fires("query_empty"):
                return Answer(length, ())
            lie = core.faults.fires("query_lies")
            return core.tracking.answer(chain, rct_id, offset, length, room, lie=lie)

    def asked_state(self, handle: DiskHandle) -> tuple[bool, bool, str | None]:
        """Version 15 of ``GetVirtualDiskInformation`` on a handle: as :meth:`tracking_state`.

        Raises:
            DiskError: the handle was taken away, or this host refuses the question.
        """
        with self._timeline.now():
            knobs = self._core.knobs
            vhd = self._core.files.by_path(handle.path).format is not VhdFormat.VHDX
            self._check_asked(handle, knobs.state_refusal, knobs.vhd_state_refusal if vhd else 0)
            return self.tracking_state(handle.path)

    def asked_changes(
        self, handle: DiskHandle, rct_id: str, offset: int, length: int, room: int = 4096
    ) -> Answer:
        """``QueryChangesVirtualDisk`` on a handle: as :meth:`query_changes`.

        Raises:
            DiskError: the handle was taken away, this host refuses the question, or tracking cannot answer.
        """
        with self._timeline.now():
            self._check_asked(handle, self._core.knobs.query_refusal)
            return self.query_changes(handle.path, rct_id, offset, length, room)

    def check_sharing(self, path: str) -> None:
        """Return if the file of a virtual disk may be opened for reading.

        Raises:
            DiskError: others hold it.
        """
        with self._core.lock:
            if self._core.knobs.files_held:
                raise DiskError(Win32.SHARING_VIOLATION, path)

    # -- inside -----------------------------------------------------------------------------------------

    def _check_asked(self, handle: DiskHandle, *refusals: int) -> None:
        """Raise if a handle does not answer about tracking."""
        knobs = self._core.knobs
        if not self._core.handles.is_open(handle):
            raise DiskError(Win32.INVALID_HANDLE, handle.path)
        own = knobs.info_only_refusal if handle.info_only else knobs.attached_refusal
        for code in (own, *refusals):
            if code:
                raise DiskError(code, handle.path)

    def _attached_layer(self, handle: DiskHandle) -> Layer:
        layer = self._core.world.layers.get(handle.layer)
        if not handle.attached or layer is None:
            raise DiskError(Win32.INVALID_HANDLE, handle.path)
        return layer
