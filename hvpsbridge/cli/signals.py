"""Signals in commands that change nothing on a host: a signal becomes an exception.

Runs that change hosts use :mod:`hvpsbridge.tasks.cancel`, where the first signal stops and undoes, and the
second one gives up the undo.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hvpsbridge.errors import Interrupted
from hvpsbridge.tasks.cancel import handled_signals


@contextmanager
def interrupting() -> Iterator[None]:
    """Raise :class:`~hvpsbridge.errors.Interrupted` on a signal while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only.
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
