"""What the workers of one pump share: a reason to stop, a clock, and counters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hvpsbridge.receiver.protocols import PumpStatistics, Watcher
from hvpsbridge.receiver.throttling import RateLimiter

# Longest wait for blocks; also how late a stop is noticed while none come.
POLL_SECONDS = 1.0


class PumpState:
    """The shared state of a pump's workers. Thread-safe.

    Args:
        watcher: asked whether to go on, and told what came.
        rate_limiter: limits the rate of all reading.
        clock: monotonic seconds.
        sleep: waits.
    """

    def __init__(
        self,
        watcher: Watcher,
        rate_limiter: RateLimiter,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.rate_limiter = rate_limiter
        self.clock = clock
        self._watcher = watcher
        self._sleep = sleep
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._raw_bytes = 0
        self._wire_bytes = 0
        self._resumed = 0
        self._trial: Trial | None = None

    @property
    def statistics(self) -> PumpStatistics:
        """Totals so far."""
        return PumpStatistics(self._raw_bytes, self._wire_bytes, self._resumed)

    @property
    def failure(self) -> BaseException | None:
        """The error of the first worker that failed."""
        return self._failure

    def fail(self, err: BaseException) -> None:
        """Record that a worker failed, so that the others stop."""
        with self._lock:
            if self._failure is None:
                self._failure = err
        self._stop.set()

    def check(self) -> None:
        """Raise if a worker must stop: the watcher says so, or another worker failed."""
        self._watcher.check()
        if self._stop.is_set():
            raise _Stopped

    def pause(self, seconds: float) -> None:
        """Wait, and :meth:`check` meanwhile."""
        until = self.clock() + seconds
        while (left := until - self.clock()) > 0:
            self.check()
            self._sleep(min(left, POLL_SECONDS))

    @contextmanager
    def trying(self, wanted_seconds: float) -> Iterator[Trial]:
        """Measure what comes during the block as one trial. No worker may run when it begins or ends."""
        self._trial = trial = Trial(wanted_seconds, self.clock)
        try:
            yield trial
        finally:
            self._trial = None

    @property
    def over(self) -> bool:
        """Whether the current trial has lasted long enough."""
        return self._trial is not None and self._trial.over

    def report(self, raw_bytes: int, wire_bytes: int, data_bytes: int) -> None:
        """Add bytes that were delivered, came over the wire, and were not zero. Never raises."""
        with self._lock:
            self._raw_bytes += raw_bytes
            self._wire_bytes += wire_bytes
            if self._trial is not None and raw_bytes:
                self._trial.count(data_bytes)
        self.rate_limiter.consume(wire_bytes)
        self._watcher.moved(raw_bytes, wire_bytes)

    def count_resumed(self) -> None:
        """Count a source that was lost and will be replaced."""
        with self._lock:
            self._resumed += 1


class Trial:
    """Measures one trial: bytes after its first report, until its time is over."""

    def __init__(self, wanted_seconds: float, clock: Callable[[], float]) -> None:
        self._wanted_seconds = wanted_seconds
        self._clock = clock
        self._since: float | None = None
        self.data_bytes = 0
        self.seconds = 0.0

    @property
    def over(self) -> bool:
        """Whether something came after its time was over."""
        return self.seconds >= self._wanted_seconds

    def count(self, data_bytes: int) -> None:
        """Add bytes that came."""
        if self._since is None:
            self._since = self._clock()
        elif not self.over:
            self.data_bytes += data_bytes
            self.seconds = self._clock() - self._since


class _Stopped(Exception):
    """Another worker of this pump failed; that worker's error is raised."""
