"""What limits a pump: permits to read, a rate, and a budget of bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from hvpsbridge.units import MIB

# The share of requested blocks in the 256 MiB that a process may use. The rest is for the interpreter,
# decoding of replies, and packs.
DEFAULT_BUDGET_BYTES = 64 * MIB
# How much of a budget a share may have, as a multiple of what is free: three quarters of it, when alone.
SHARE = 3
# How often a waiting thread checks whether to stop.
WAKE_SECONDS = 0.5


class ReadPermit(Protocol):
    """The permit of one pipeline to read. For one thread."""

    def enter(self, check: Callable[[], None]) -> None:
        """Wait for the permit, if it is not held already. ``check`` is called meanwhile and may raise."""
        ...

    def leave(self) -> None:
        """Give up the permit, if it is held. Never raises."""
        ...

    def due(self) -> bool:
        """Whether another reader's turn has come: finish what is requested, leave, and enter again."""
        ...


class UnlimitedReads(ReadPermit):
    """A permit that is always given."""

    def enter(self, check: Callable[[], None]) -> None:
        pass

    def leave(self) -> None:
        pass

    def due(self) -> bool:
        return False


class RateLimiter(Protocol):
    """Limits the rate of all pumps that share it. Thread-safe."""

    @property
    def burst_bytes(self) -> int | None:
        """How much one pump should have requested at most; None for no limit."""
        ...

    def delay(self) -> float:
        """Seconds to wait before more may be requested."""
        ...

    def consume(self, count_bytes: int) -> None:
        """Count bytes that came over the wire."""
        ...


class NoRateLimit(RateLimiter):
    """No limit."""

    burst_bytes = None

    def delay(self) -> float:
        return 0.0

    def consume(self, count_bytes: int) -> None:
        pass


class TokenBucket(RateLimiter):
    """Limits the average rate.

    What was requested cannot be held back. So tokens are taken when bytes arrive, below zero if necessary,
    and nothing is requested while the level is negative. Within any ``t`` seconds at most ``rate * (t + 1)``
    bytes come, plus what was requested before the level became negative: about one second's worth per disk.

    Args:
        rate_bytes: bytes per second, more than 0.
        clock: monotonic seconds.
    """

    # How long a burst may last after a quiet time.
    BURST_SECONDS = 1.0

    def __init__(self, rate_bytes: float, clock: Callable[[], float] = time.monotonic) -> None:
        if rate_bytes <= 0:
            raise ValueError(f"a rate must be more than 0 bytes a second, not {rate_bytes}")
        self._rate_bytes = rate_bytes
        self._clock = clock
        self._max_level = rate_bytes * self.BURST_SECONDS
        self._level = self._max_level
        self._filled = clock()
        self._lock = threading.Lock()

    @property
    def burst_bytes(self) -> int:
        return int(self._max_level)

    def delay(self) -> float:
        with self._lock:
            self._fill()
            # A fraction of a byte does not count: the clock might not show such a short wait.
            return -self._level / self._rate_bytes if self._level <= -1 else 0.0

    def consume(self, count_bytes: int) -> None:
        with self._lock:
            self._fill()
            self._level -= count_bytes

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._level + (now - self._filled) * self._rate_bytes, self._max_level)
        self._filled = now


class ByteBudget:
    """A semaphore of bytes, shared by all pumps of a process.

    A request that is larger than the whole budget is granted when nothing else is taken, so that it does not
    wait forever.

    Args:
        total_bytes: that may be taken.
        share_of: another budget, of which this one is a share. It takes from that one, and at most
            :data:`SHARE` times what is free there, so that a host which does not deliver, or slowly, leaves
            some for others.
    """

    def __init__(
        self, total_bytes: int = DEFAULT_BUDGET_BYTES, *, share_of: ByteBudget | None = None
    ) -> None:
        self._total_bytes: int = total_bytes if share_of is None else share_of._total_bytes
        self._taken_bytes = 0
        self._whole = share_of
        self._condition: threading.Condition = (
            threading.Condition() if share_of is None else share_of._condition
        )

    @property
    def taken_bytes(self) -> int:
        """Bytes taken at the moment."""
        return self._taken_bytes

    def try_take(self, count_bytes: int) -> bool:
        """Take ``count_bytes`` if they are free; whether they were."""
        with self._condition:
            return self._take(count_bytes)

    def take(self, count_bytes: int, check: Callable[[], None]) -> None:
        """Wait until ``count_bytes`` are free and take them; ``check`` is called meanwhile and may raise."""
        with self._condition:
            while not self._take(count_bytes):
                check()
                self._condition.wait(WAKE_SECONDS)

    def give_back(self, count_bytes: int) -> None:
        """Return bytes that were taken."""
        with self._condition:
            self._taken_bytes -= count_bytes
            if self._whole is not None:
                self._whole._taken_bytes -= count_bytes
            self._condition.notify_all()

    def _take(self, count_bytes: int) -> bool:
        whole = self._whole
        if whole is not None:
            free = whole._total_bytes - whole._taken_bytes
            if self._taken_bytes and self._taken_bytes + count_bytes > SHARE * free:
                return False
            if not whole._take(count_bytes):
                return False
        elif self._taken_bytes and self._taken_bytes + count_bytes > self._total_bytes:
            return False
        self._taken_bytes += count_bytes
        return True
