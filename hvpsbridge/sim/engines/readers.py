"""Attached disks of one host process: one handle per path, closed when idle, as in the C# reader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, RLock

from hvpsbridge.sim.engines.failure import failure, of_disk
from hvpsbridge.sim.model import DiskError, DiskHandle, Model

# As in the C# reader: the shell of a dead client may live for hours, but must not keep disks attached.
IDLE_SECONDS = 120.0


@dataclass(slots=True)
class _Reader:
    path: str
    handle: DiskHandle | None = None
    retired: bool = False
    touched: float = field(default_factory=time.monotonic)
    lock: RLock = field(default_factory=RLock)


class Disk:
    """A disk in use."""

    def __init__(self, model: Model, handle: DiskHandle) -> None:
        layer = model.disks.layer(handle.layer)
        self.size_bytes = layer.size_bytes
        self.sector_bytes = layer.logical_sector_bytes
        self.handle = handle
        self._model = model

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes, from whole sectors.

        Raises:
            Failure: ``Hvps.ReadFailed``.
        """
        sector = max(512, self.sector_bytes)
        start = offset // sector * sector
        end = min(self.size_bytes, -(-(offset + length) // sector) * sector)
        try:
            self._model.calls.function("ReadFile", self.handle.path)
            data = self._model.driver.read(self.handle, start, end - start)
        except DiskError as err:
            message = f"cannot read {length} bytes at {offset}"
            raise failure("Hvps.ReadFailed", message, err.code) from err
        if len(data) != end - start:
            raise failure("Hvps.ReadFailed", f"read {len(data)} of {end - start} bytes at {start}")
        return data if start == offset and len(data) == length else data[offset - start :][:length]


class Readers:
    """All readers of a process. Thread-safe.

    Args:
        model: the simulated world.
        owner: name of the process in the model.
        node: name of its host.
    """

    def __init__(self, model: Model, owner: str, node: str | None) -> None:
        self._model = model
        self._owner = owner
        self._node = node
        self._lock = Lock()
        self._readers: dict[str, _Reader] = {}

    @contextmanager
    def use(self, path: str) -> Iterator[Disk]:
        """The disk at ``path``, attached. It remains attached for the next request.

        Raises:
            Failure: it cannot be opened or attached, or its reader was closed.
        """
        with self._lock:
            reader = self._readers.setdefault(path.lower(), _Reader(path))
        with reader.lock:
            if reader.retired:
                raise failure("Hvps.DiskUnreadable", f"the reader of {path} was closed")
            if reader.handle is None:
                try:
                    reader.handle = self._attach(path)
                except DiskError as err:
                    self.close(path)
                    raise of_disk(err) from err
            reader.touched = time.monotonic()
            try:
                yield Disk(self._model, reader.handle)
            finally:
                reader.touched = time.monotonic()

    @contextmanager
    def info_only(self, path: str) -> Iterator[DiskHandle]:
        """A handle for information, closed afterwards.

        Raises:
            DiskError: it cannot be opened.
        """
        self._model.calls.function("OpenVirtualDisk", path)
        handle = self._model.driver.open(path, self._owner, self._node, info_only=True)
        try:
            yield handle
        finally:
            self._model.driver.close(handle)

    def _attach(self, path: str) -> DiskHandle:
        calls = self._model.calls
        calls.function("OpenVirtualDisk", path)
        handle = self._model.driver.open(path, self._owner, self._node)
        try:
            calls.function("GetVirtualDiskInformation:1", path)
            calls.function("AttachVirtualDisk", path)
            self._model.driver.attach(handle)
        except DiskError:
            self._model.driver.close(handle)
            raise
        return handle

    def close(self, path: str | None = None) -> tuple[str, ...]:
        """Close one reader, or all, after their current reads. Returns the paths that are still attached."""
        with self._lock:
            closing = [
                self._readers.pop(key) for key in list(self._readers) if path is None or key == path.lower()
            ]
        for reader in closing:
            self._release(reader, for_good=True)
        with self._lock:
            return tuple(sorted(reader.path for reader in self._readers.values() if reader.handle))

    def close_idle(self) -> None:
        """Detach idle disks; the next request attaches them again."""
        with self._lock:
            readers = list(self._readers.values())
        for reader in readers:
            if time.monotonic() - reader.touched > IDLE_SECONDS:
                self._release(reader, for_good=False)

    def _release(self, reader: _Reader, *, for_good: bool) -> None:
        with reader.lock:
            reader.retired = reader.retired or for_good
            if reader.handle is not None:
                with suppress(DiskError):
                    self._model.calls.function("DetachVirtualDisk", reader.path)
                    self._model.driver.detach(reader.handle)
                self._model.driver.close(reader.handle)
                reader.handle = None
