"""Whether the work of this thread may go on, asked wherever hvps waits for a host.

What stops the work (a signal, the age of a checkpoint, the deadline of an undo) is known to tasks; the waits
are in the host layer. The check is a context variable, so that it also reaches the threads that the work
starts, and an undo, on the same connection, has a check of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# How late a pause notices that it must end.
LOOK_SECONDS = 0.5


def _nothing() -> None:
    """The check of work that nothing stops."""


_check: ContextVar[Callable[[], None]] = ContextVar("check", default=_nothing)


def check() -> None:
    """Return if the work may go on; raises what :func:`checked_by` was given."""
    _check.get()()


@contextmanager
def checked_by(may_go_on: Callable[[], None]) -> Iterator[None]:
    """Ask ``may_go_on``, and nothing else, while the block runs; it raises to stop the work."""
    before = _check.set(may_go_on)
    try:
        yield
    finally:
        _check.reset(before)


@contextmanager
def to_the_end() -> Iterator[None]:
    """Nothing stops the block: it removes what must not stay."""
    with checked_by(_nothing):
        yield


def pause(seconds: float) -> None:
    """Wait, and :func:`check` meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(left, LOOK_SECONDS))
    check()
