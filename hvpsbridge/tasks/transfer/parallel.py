"""Runs work on several disks in parallel; the first failure stops the rest."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Sequence

# Disks of one VM in parallel. Each has a shell, and so a process on the host, however many pipelines it has.
MAX_PARALLEL_DISKS = 8


class Halted(Exception):
    """Work stopped because other work failed; that failure is the one to report."""


def run_parallel(
    works: Sequence[Callable[[], None]], halt: Callable[[], None], max_threads: int = MAX_PARALLEL_DISKS
) -> None:
    """Run all of ``works`` in threads and return when all of them have ended.

    Args:
        works: started in this order.
        halt: called when one fails; makes the others raise :class:`Halted` soon.
        max_threads: how many run at once.

    Raises:
        BaseException: what the first work to fail raised. Work that was not started by then is skipped.
    """
    if len(works) < 2:
        for work in works:
            work()
        return
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for work in works:
        waiting.put(work)
    failures: list[BaseException] = []

    def run_waiting() -> None:
        while not failures:
            try:
                work = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work()
            except BaseException as err:  # noqa: BLE001 - raised again below, in the thread that waits
                failures.append(err)
                halt()

    threads = [
        threading.Thread(
            target=contextvars.copy_context().run, args=(run_waiting,), name=f"disk-{n}", daemon=True
        )
        for n in range(min(max_threads, len(works)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise next((err for err in failures if not isinstance(err, Halted)), failures[0])
