"""How long to wait before another try, and when to stop trying."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Backoff:
    """Pauses that double from one failure to the next, until a limit is reached. Not thread-safe.

    Args:
        first_pause_seconds: pause after the first failure.
        longest_pause_seconds: upper bound of a pause.
        max_failures: give up at this failure; None for no limit.
        give_up_seconds: give up at a failure that comes later than this after the first one; None for no
            limit.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        first_pause_seconds: float,
        longest_pause_seconds: float,
        *,
        max_failures: int | None = None,
        give_up_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_pause_seconds = longest_pause_seconds
        self._max_failures = max_failures
        self._give_up_seconds = give_up_seconds
        self._clock = clock
        self._failing_since: float | None = None
        self._failures = 0
        self._pause_seconds = self._shortest_pause_seconds = min(first_pause_seconds, longest_pause_seconds)

    @property
    def failing(self) -> bool:
        """Whether there was a failure since the start or the last :meth:`reset`."""
        return self._failing_since is not None

    @property
    def failures(self) -> int:
        """Failures since the start or the last :meth:`reset`, without those that do not count."""
        return self._failures

    def failed(self, error: BaseException, *, counts: bool = True) -> float:
        """Record a failure.

        Args:
            error: what went wrong.
            counts: whether it counts towards ``max_failures``.

        Returns:
            Seconds to pause before the next try.

        Raises:
            BaseException: ``error``, when a limit is reached.
        """
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        self._failures += counts
        if self._max_failures is not None and self._failures >= self._max_failures:
            raise error
        if self._give_up_seconds is not None and now - self._failing_since > self._give_up_seconds:
            raise error
        pause_seconds = self._pause_seconds
        self._pause_seconds = min(pause_seconds * 2, self._longest_pause_seconds)
        return pause_seconds

    def reset(self) -> None:
        """Record a success: the next failure is the first one again."""
        self._failing_since = None
        self._failures = 0
        self._pause_seconds = self._shortest_pause_seconds


def retry(
    call: Callable[[], T],
    errors: type[Exception] | tuple[type[Exception], ...],
    backoff: Backoff,
    *,
    pause: Callable[[float], object] = time.sleep,
    on_retry: Callable[[Exception, float], object] = lambda _error, _seconds: None,
) -> T:
    """The result of ``call``, called again after each of ``errors`` until ``backoff`` gives up.

    Args:
        call: does the work once.
        errors: classes of errors to try again after; any other error is raised at once.
        backoff: pauses and limits.
        pause: waits for so many seconds; may raise or return False to stop.
        on_retry: called before each pause with the error and the seconds.

    Raises:
        Exception: the last error of ``call``, when ``backoff`` gives up or ``pause`` returns False.
    """
    while True:
        try:
            return call()
        except errors as err:
            seconds = backoff.failed(err)
            on_retry(err, seconds)
            if pause(seconds) is False:
                raise
