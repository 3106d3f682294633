"""Stores that fail on purpose, to prove what a repository survives.

:class:`FaultyStore` wraps another store and fails, delays, cuts or loses the nth call. :class:`VolatileStore`
forgets, at a power loss, whatever was not behind a barrier.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from hvpsbridge.errors import StoreError
from hvpsbridge.repository.stores.base import MAX_OBJECT_BYTES, ObjectInfo, Store, check_name
from hvpsbridge.repository.stores.retry import Unreachable
from hvpsbridge.repository.stores.spool import SpoolSink
from tests.repository.memory_store import MemoryStore

T = TypeVar("T")


class Fault(StrEnum):
    """How a call fails."""

    FAIL = "fail"
    """The call does nothing and reports an error."""
    LOSE_ANSWER = "lose_answer"
    """The call is done, but reports an error."""
    TRUNCATE = "truncate"
    """A read returns fewer bytes; a write leaves half an object and reports an error."""
    DELAY = "delay"
    """The call is done late."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault at the nth call (from 1) of one kind: put, get, size, list, delete, barrier; any for "*"."""

    call: str
    number: int
    fault: Fault


class FaultyStore(Store):
    """Another store, with planned faults.

    Attributes:
        calls: how many calls of each kind there were; "*" counts all.
    """

    remote = False

    def __init__(self, store: MemoryStore, *planned: Planned, delay_seconds: float = 0.01) -> None:
        self._store = store
        self._planned = {(each.call, each.number): each.fault for each in planned}
        self._delay_seconds = delay_seconds
        self._lock = threading.Lock()
        self.calls: dict[str, int] = {"*": 0}
        self.url = store.url

    @property
    def durable(self) -> bool:
        """As the other store."""
        return self._store.durable

    def _call(self, kind: str, name: str, work: Callable[[], T], half: Callable[[], T] | None = None) -> T:
        with self._lock:
            fault = None
            for counted in (kind, "*"):
                self.calls[counted] = self.calls.get(counted, 0) + 1
                fault = fault or self._planned.get((counted, self.calls[counted]))
        if fault is Fault.FAIL:
            raise Unreachable(self.url, kind, name, "planned fault")
        if fault is Fault.DELAY:
            time.sleep(self._delay_seconds)
        if fault is Fault.TRUNCATE and half is not None:
            return half()
        result = work()
        if fault is Fault.LOSE_ANSWER:
            raise Unreachable(self.url, kind, name, "planned fault: the answer was lost")
        return result

    def put(self, name: str, data: bytes) -> None:

        def half() -> None:
            self._store.put(name, data[: len(data) // 2])
            raise Unreachable(self.url, "put", name, "planned fault: half of it arrived")

        self._call("put", name, lambda: self._store.put(name, data), half)

    def sink(self, name: str) -> SpoolSink:
        return SpoolSink(self.url, check_name(name), self.put)

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:

        def half() -> bytes:
            data = self._store.get(name, max_bytes)
            return data[: len(data) // 2]

        return self._call("get", name, lambda: self._store.get(name, max_bytes), half)

    def get_range(self, name: str, offset: int, length: int) -> bytes:

        def half() -> bytes:
            raise StoreError(self.url, "get", name, "planned fault: it ends early")

        return self._call("get", name, lambda: self._store.get_range(name, offset, length), half)

    def size(self, name: str) -> int:
        return self._call("size", name, lambda: self._store.size(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._call("list", prefix, lambda: list(self._store.list(prefix)))

    def delete(self, name: str) -> None:
        self._call("delete", name, lambda: self._store.delete(name))

    def commit_barrier(self) -> None:
        self._call("barrier", "", self._store.commit_barrier)

    def close(self) -> None:
        """Nothing to close."""


class VolatileStore(MemoryStore):
    """A store with a write cache until the next barrier; :meth:`lose_power` drops any part of the cache.

    What survives is drawn for each object on its own, since disks write in any order: a later object may
    be there and an earlier one not.
    """

    def __init__(self, dice: random.Random) -> None:
        super().__init__("volatile:")
        self._dice = dice
        self._safe: dict[str, bytes] = {}

    def commit_barrier(self) -> None:
        """Everything until now survives."""
        with self._lock:
            self._safe = dict(self.objects)

    def lose_power(self) -> MemoryStore:
        """The store as it is after the power loss."""
        after = MemoryStore(self.url)
        with self._lock:
            for name in self._safe.keys() | self.objects.keys():
                states = [state[name] for state in (self._safe, self.objects) if name in state]
                unchanged = name in self._safe and name in self.objects
                if unchanged or self._dice.random() < 0.5:
                    after.objects[name] = states[-1]
        return after
