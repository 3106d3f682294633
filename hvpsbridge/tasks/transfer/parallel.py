"""Work on several disks side by side: the first failure stops the others and is the one that is told."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Sequence

# Disks of a VM at work at once. Each has a shell, which is a process on the host, whatever its pipelines.
SIDE_BY_SIDE = 8


class Halted(Exception):
    """Work that stops because other work beside it failed; that failure is the one that counts."""


def side_by_side(
    works: Sequence[Callable[[], None]], halt: Callable[[], None], most: int = SIDE_BY_SIDE
) -> None:
    """Do all of ``works``, up to ``most`` at once, and return when none of them runs any more.

    Args:
        works: begun in this order.
        halt: called when one fails; lets the others under way raise :class:`Halted` soon.
        most: threads.

    Raises:
        BaseException: what the first work to fail raised. Works not begun by then are not done.
    """
    if len(works) < 2:
        for work in works:
            work()
        return
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for work in works:
        waiting.put(work)
    failures: list[BaseException] = []

    def effort() -> None:
        while not failures:
            try:
                work = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work()
            except BaseException as err:  # noqa: BLE001 - carried to the thread that waits, which raises it
                failures.append(err)
                halt()

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(effort,), name=f"disk-{n}", daemon=True)
        for n in range(min(most, len(works)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise next((err for err in failures if not isinstance(err, Halted)), failures[0])
