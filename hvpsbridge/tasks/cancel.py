"""Stopping on request. The first signal stops and undoes; the second gives up and reports what is left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from hvpsbridge.errors import Interrupted

# SIGHUP comes when the terminal is closed or an SSH session ends; the host must be left clean then, too.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handled_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop a run: :data:`SIGNALS`, but not SIGHUP if ``nohup`` ignores it."""
    return tuple(
        number
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    )


class Cancellation:
    """Whether to go on. Shared by all work of a run; set by a signal handler or any thread."""

    def __init__(self) -> None:
        self._signal_name: str | None = None
        self._requested = threading.Event()
        self._gave_up = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether the run must stop and undo."""
        return self._requested.is_set()

    @property
    def gave_up(self) -> bool:
        """Whether it must stop undoing, too."""
        return self._gave_up.is_set()

    @property
    def error(self) -> Interrupted:
        """The error that ends the work."""
        return Interrupted(self._signal_name or "SIGTERM")

    def request(self, signal_name: str) -> None:
        """Ask to stop; asking again gives up the undo."""
        if self._requested.is_set():
            self._gave_up.set()
        else:
            self._signal_name = signal_name
            self._requested.set()

    def check(self) -> None:
        """Return if the work may go on.

        Raises:
            Interrupted: a stop was requested.
        """
        if self._requested.is_set():
            raise self.error

    def pause(self, seconds: float) -> bool:
        """Wait; always returns true, like a wait that may go on.

        Raises:
            Interrupted: a stop was requested meanwhile.
        """
        if self._requested.wait(seconds):
            raise self.error
        return True

    def pause_undo(self, seconds: float) -> bool:
        """Wait during an undo; false as soon as it is given up."""
        return not self._gave_up.wait(seconds)


@contextlib.contextmanager
def catch_signals(cancellation: Cancellation, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turn signals into requests while the block runs. Main thread only.

    Args:
        cancellation: gets the requests.
        then: called at the end, and may handle signals from then on; otherwise they are as before.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        cancellation.request(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in handled_signals()}
    try:
        yield
    finally:
        then()
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
