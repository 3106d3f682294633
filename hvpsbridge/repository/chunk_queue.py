"""Chunks that wait to be stored, and the threads that store them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ChunkQueue(Generic[T]):
    """Has items done by several threads, about in the order in which they were put. Thread-safe.

    A thread takes several that follow each other at a time, so that neighbours stay together.

    Args:
        work: does some items. What it raises is raised to all who put or wait from then on.
        workers: how many threads; they start when they are needed.
        batch_bytes: how much a thread takes at a time; at least one item.
        waiting_bytes: how much may wait or be in work; whoever puts more waits.
    """

    def __init__(
        self, work: Callable[[list[T]], None], *, workers: int, batch_bytes: int, waiting_bytes: int
    ) -> None:
        self._work = work
        self._workers = workers
        self._batch_bytes = batch_bytes
        self._room = waiting_bytes
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="store")
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._waiting: deque[tuple[T, int]] = deque()
        self._active = 0
        # Numbers of items, in the order of put: the next one to take, and the first of each batch in work.
        self._taken = 0
        self._in_work: set[int] = set()
        self._failure: BaseException | None = None

    def put(self, item: T, size_bytes: int) -> None:
        """Have an item done; waits while there is no room.

        Raises:
            BaseException: what stopped an earlier item.
        """
        with self._lock:
            while self._room < size_bytes and (self._waiting or self._in_work) and self._failure is None:
                self._progress.wait()
            self.check()
            self._room -= size_bytes
            self._waiting.append((item, size_bytes))
            starts = self._active < self._workers
            self._active += starts
        if starts:
            self._pool.submit(self._run)

    def wait(self) -> None:
        """Return when everything that was put before is done.

        Raises:
            BaseException: what stopped an item.
        """
        with self._lock:
            end = self._taken + len(self._waiting)
            self._progress.wait_for(lambda: self._failure is not None or self._done_before() >= end)
            self.check()

    def fail(self, failure: BaseException) -> None:
        """Let everything fail from now on, for a reason outside; the first reason counts."""
        with self._lock:
            self._failure = self._failure or failure
            self._progress.notify_all()

    def check(self) -> None:
        """Raise what stopped an item, if something did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Drop what waits, and end the threads."""
        with self._lock:
            self._taken += len(self._waiting)
            self._waiting.clear()
        self._pool.shutdown()

    def _done_before(self) -> int:
        """Number of the first item that is not done."""
        return min(self._in_work, default=self._taken)

    def _run(self) -> None:
        while batch := self._take():
            first, size_bytes, items = batch
            failure: BaseException | None = None
            try:
                if self._failure is None:
                    self._work(items)
            except BaseException as err:  # noqa: BLE001 (raised to those who put and wait)
                failure = err
            with self._lock:
                self._failure = self._failure or failure
                self._in_work.discard(first)
                self._room += size_bytes
                self._progress.notify_all()

    def _take(self) -> tuple[int, int, list[T]] | None:
        """Number of the first, size, and items of the next batch; None when nothing waits."""
        with self._lock:
            if not self._waiting:
                self._active -= 1
                return None
            first, total_bytes, items = self._taken, 0, list[T]()
            while self._waiting and (not items or total_bytes + self._waiting[0][1] <= self._batch_bytes):
                item, size_bytes = self._waiting.popleft()
                items.append(item)
                total_bytes += size_bytes
            self._taken += len(items)
            self._in_work.add(first)
            return first, total_bytes, items
