"""``hvps`` that sends itself a signal at a step, in a process of its own.

The command line is the real one; only the observer that shows progress is wrapped. Signals may be given
as ``SIGTERM+SIGTERM``, which sends the second one a moment after the first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hvpsbridge.cli import console, main
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.observer import Moment, Observer
from hvpsbridge.tasks.steps import Step

SECOND_AFTER_SECONDS = 0.2


class _Signalling:
    """Passes all calls on, and sends the signals when the step is first reached."""

    def __init__(self, inner: Observer, signals: list[signal.Signals], step: Step, moment: str) -> None:
        self._inner = inner
        self._signals = signals
        self._at = (step, moment)
        self._sent = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        self._inner.step(vm, step, moment)
        if (step, moment) == self._at and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self._signals[0])
            for number in self._signals[1:]:
                threading.Timer(SECOND_AFTER_SECONDS, os.kill, (os.getpid(), number)).start()


def run(names: str, step: str, moment: str, arguments: list[str]) -> int:
    """Run a command line that gets the signals of ``names`` at a moment of a step; its exit code."""
    signals = [signal.Signals[name] for name in names.split("+")]
    inner = console.observer

    @contextmanager
    def observer(*, quiet: bool = False) -> Iterator[Observer]:
        with inner(quiet=quiet) as seen:
            yield _Signalling(seen, signals, Step[step], moment)  # type: ignore[misc] - it passes the rest on

    console.observer = observer
    return int(main.main(arguments))
