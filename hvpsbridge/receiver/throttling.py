"""What may hold a pump back: permits to read, and a rate for all reading of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from hvpsbridge.units import MIB

# Of the 256 MiB a process may use, what requested blocks may hold; the rest is the interpreter, the
# decoding of replies and the repository's packs.
DEFAULT_BUDGET_BYTES = 64 * MIB
# How often a waiter looks whether it is still wanted.
WAKE_SECONDS = 0.5


class ReadPermit(Protocol):
    """One pipeline's permit to read; used by one thread."""

    def enter(self, check: Callable[[], None]) -> None:
        """Wait until reading may begin; nothing when it may already. ``check`` may raise meanwhile."""
        ...

    def leave(self) -> None:
        """Give the permit up; nothing without one. Never raises."""
        ...

    def due(self) -> bool:
        """Whether somebody else is to read now: finish what was asked for, leave, and enter again."""
        ...


class UnlimitedReads:
    """A permit that is always given."""

    def enter(self, check: Callable[[], None]) -> None:
        """See :class:`ReadPermit`."""

    def leave(self) -> None:
        """See :class:`ReadPermit`."""

    def due(self) -> bool:
        """See :class:`ReadPermit`."""
        return False


class RateLimiter(Protocol):
    """How fast bytes may come, over all pumps that share it. Thread-safe."""

    @property
    def burst_bytes(self) -> int | None:
        """What one pump should have under way at most; None is no bound."""
        ...

    def delay(self) -> float:
        """Seconds to wait before more may be asked for; 0 when it may be now."""
        ...

    def consume(self, count_bytes: int) -> None:
        """So many bytes came over the wire."""
        ...


class NoRateLimit:
    """No limit."""

    burst_bytes = None

    def delay(self) -> float:
        """See :class:`RateLimiter`."""
        return 0.0

    def consume(self, count_bytes: int) -> None:
        """See :class:`RateLimiter`."""


class TokenBucket:
    """A rate in bytes a second, kept on average.

    What a host sends cannot be held back once it was asked for, so bytes are paid for when they are
    there, on credit if need be, and nothing is asked for while there is debt. Within any time ``t`` at
    most ``rate * (t + 1)`` bytes come, and what was under way when the debt began: about a second's worth
    for each disk that is read.

    Args:
        rate_bytes: a second, more than 0.
        clock: monotonic seconds.
    """

    # Savings of a quiet time are good for so long a burst.
    BURST_SECONDS = 1.0

    def __init__(self, rate_bytes: float, clock: Callable[[], float] = time.monotonic) -> None:
        if rate_bytes <= 0:
            raise ValueError(f"a rate must be more than 0 bytes a second, not {rate_bytes}")
        self._rate_bytes = rate_bytes
        self.burst_bytes: int | None = int(rate_bytes * self.BURST_SECONDS)
        self._clock = clock
        self._most = rate_bytes * self.BURST_SECONDS
        self._level = self._most
        self._filled = clock()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """See :class:`RateLimiter`."""
        with self._lock:
            self._fill()
            # Part of a byte is no debt: a wait for it might be too short for a clock to show.
            return -self._level / self._rate_bytes if self._level <= -1 else 0.0

    def consume(self, count_bytes: int) -> None:
        """See :class:`RateLimiter`."""
        with self._lock:
            self._fill()
            self._level -= count_bytes

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._level + (now - self._filled) * self._rate_bytes, self._most)
        self._filled = now


class ByteBudget:
    """A semaphore of bytes, shared by all pumps of a process.

    A request larger than the whole budget is granted when nothing else is taken, so that it cannot wait
    for ever.
    """

    def __init__(self, total_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._total_bytes = total_bytes
        self._taken_bytes = 0
        self._condition = threading.Condition()

    @property
    def taken_bytes(self) -> int:
        """Bytes out at this moment."""
        return self._taken_bytes

    def try_take(self, count_bytes: int) -> bool:
        """Take ``count_bytes`` when they are free now; whether they were."""
        with self._condition:
            return self._take(count_bytes)

    def take(self, count_bytes: int, check: Callable[[], None]) -> None:
        """Take ``count_bytes``, waiting until they are free; ``check`` is called meanwhile and may raise."""
        with self._condition:
            while not self._take(count_bytes):
                check()
                self._condition.wait(WAKE_SECONDS)

    def give_back(self, count_bytes: int) -> None:
        """Return bytes that were taken."""
        with self._condition:
            self._taken_bytes -= count_bytes
            self._condition.notify_all()

    def _take(self, count_bytes: int) -> bool:
        if self._taken_bytes and self._taken_bytes + count_bytes > self._total_bytes:
            return False
        self._taken_bytes += count_bytes
        return True
