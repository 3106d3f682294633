"""Objects in a dictionary: the shortest implementation of the contract, for tests and benchmarks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from hvpsbridge.errors import ObjectExists, ObjectMissing, StoreError
from hvpsbridge.repository.stores.base import MAX_OBJECT_BYTES, ObjectInfo, Sink, Store, check_name


class MemoryStore(Store):
    """A store that exists as long as the Python object."""

    durable = True
    remote = False

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def objects_under(self, folder: str) -> Iterator[str]:
        """Names of the objects in a folder, sorted."""
        return (name for name in sorted(self.objects) if name.startswith(folder + "/"))

    def put(self, name: str, data: bytes) -> None:
        check_name(name)
        with self._lock:
            if name in self.objects:
                raise ObjectExists(self.url, "create", name, "the name is taken")
            self.objects[name] = bytes(data)

    def sink(self, name: str) -> MemorySink:
        return MemorySink(self, check_name(name))

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        with self._lock:
            try:
                data = self.objects[name]
            except KeyError as err:
                raise ObjectMissing(self.url, "read", name, "no such object") from err
        self.check_size(name, len(data), max_bytes)
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        data = self.get(name)[offset : offset + length]
        if len(data) != length:
            raise StoreError(self.url, "read", name, f"it ends {length - len(data)} bytes early")
        return data

    def size(self, name: str) -> int:
        return len(self.get(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [
                ObjectInfo(name, len(data))
                for name, data in sorted(self.objects.items())
                if name.startswith(prefix + "/")
            ]
        yield from found

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)

    def commit_barrier(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing; the objects stay."""


class MemorySink(Sink):
    """A new object of a :class:`MemoryStore`."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._store = store
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._data += data

    def publish(self) -> None:
        self._store.put(self._name, bytes(self._data))

    def abandon(self) -> None:
        self._data.clear()
