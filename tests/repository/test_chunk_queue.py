"""Chunks that wait to be stored."""

from __future__ import annotations

import threading

import pytest

from hvpsbridge.repository.chunk_queue import ChunkQueue

TIMEOUT = 30.0


class Gate:
    """Work that waits until it may go on, and remembers what it did."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self._lock = threading.Lock()

    def work(self, items: list[int]) -> None:
        with self._lock:
            self.batches.append(items)
        self.begun.release()
        assert self.open.wait(TIMEOUT)
        if -1 in items:
            raise ValueError("cannot be done")

    @property
    def done(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def queue_of(gate: Gate, *, workers: int = 1, batch: int = 4, waiting: int = 100) -> ChunkQueue[int]:
    return ChunkQueue(gate.work, workers=workers, batch_bytes=batch, waiting_bytes=waiting)


def test_items_are_done_in_order_several_at_a_time() -> None:
    gate = Gate()
    queue = queue_of(gate)
    for item in range(10):
        queue.put(item, 1)
    gate.open.set()
    queue.wait()
    assert gate.done == list(range(10))
    assert max(map(len, gate.batches)) == 4
    queue.close()


def test_an_item_that_is_larger_than_a_batch_is_done_alone() -> None:
    gate = Gate()
    gate.open.set()
    queue = queue_of(gate, batch=2, waiting=3)
    for item in range(4):
        queue.put(item, 5)
    queue.wait()
    assert gate.batches == [[0], [1], [2], [3]]
    queue.close()


def test_who_puts_more_than_may_wait_waits() -> None:
    gate = Gate()
    queue = queue_of(gate, batch=1, waiting=3)
    for item in range(3):
        queue.put(item, 1)
    late = threading.Thread(target=queue.put, args=(3, 1))
    late.start()
    assert gate.begun.acquire(timeout=TIMEOUT)
    late.join(0.1)
    assert late.is_alive()
    gate.open.set()
    late.join(TIMEOUT)
    queue.wait()
    assert gate.done == [0, 1, 2, 3]
    queue.close()


def test_several_threads_work() -> None:
    gate = Gate()
    queue = queue_of(gate, workers=3, batch=1)
    for item in range(3):
        queue.put(item, 1)
    for _ in range(3):  # all at once, although none may go on
        assert gate.begun.acquire(timeout=TIMEOUT)
    gate.open.set()
    queue.wait()
    queue.close()


def test_a_failure_is_raised_to_all_and_nothing_more_is_done() -> None:
    gate = Gate()
    queue = queue_of(gate, batch=1, waiting=3)
    for item in (-1, 1, 2):
        queue.put(item, 1)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            queue.put(3, 1)  # no room before the failure
        except ValueError as err:
            raised.append(err)

    late = threading.Thread(target=wait)
    late.start()
    gate.open.set()
    with pytest.raises(ValueError, match="cannot be done"):
        queue.wait()
    late.join(TIMEOUT)
    assert len(raised) == 1
    with pytest.raises(ValueError, match="cannot be done"):
        queue.put(4, 1)
    queue.close()
    assert gate.done == [-1]


def test_a_failure_outside_counts_too() -> None:
    gate = Gate()
    queue = queue_of(gate)
    queue.fail(KeyError("outside"))
    queue.fail(ValueError("later"))
    with pytest.raises(KeyError, match="outside"):
        queue.put(1, 1)
    with pytest.raises(KeyError, match="outside"):
        queue.check()
    queue.close()


def test_what_waits_when_it_is_closed_is_dropped() -> None:
    gate = Gate()
    queue = queue_of(gate, batch=1)
    for item in range(3):
        queue.put(item, 1)
    assert gate.begun.acquire(timeout=TIMEOUT)
    closing = threading.Thread(target=queue.close)
    closing.start()
    while queue._waiting:
        pass
    gate.open.set()
    closing.join(TIMEOUT)
    queue.wait()
    assert gate.done == [0]
