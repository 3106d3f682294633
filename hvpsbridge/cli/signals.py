"""Signals in commands that change nothing on a host: a signal becomes an exception.

Runs that change hosts use :mod:`hvpsbridge.tasks.cancel`, where the first signal stops and undoes, and the
second one gives up the undo. A signal after that, while the report is printed, must not cost the report.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hvpsbridge.errors import Interrupted
from hvpsbridge.tasks.cancel import SIGNALS, handled_signals

# How long a report may take to be printed once a signal has come; nobody may be reading it.
REPORT_SECONDS = 10.0
# Started by signals of this command.
_timers: list[threading.Timer] = []


def report_first() -> None:
    """From now on a signal ends the process only after :data:`REPORT_SECONDS`.

    The handlers stay until the block of :func:`restoring_signals` ends. Main thread only.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not _timers:
            timer = threading.Timer(REPORT_SECONDS, os._exit, (128 + number,))
            timer.daemon = True
            _timers.append(timer)
            timer.start()

    for number in handled_signals():
        signal.signal(number, handle)


@contextmanager
def restoring_signals() -> Iterator[None]:
    """Put the handlers of signals back when the block ends: it is a whole command, with its report."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not signal.getsignal(number):
                signal.signal(number, handler)
        while _timers:
            _timers.pop().cancel()


@contextmanager
def interrupting() -> Iterator[None]:
    """Raise :class:`~hvpsbridge.errors.Interrupted` on the first signal while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only.
        return

    def handle(number: int, frame: FrameType | None) -> None:
        report_first()
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
