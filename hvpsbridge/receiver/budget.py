"""One byte budget for the process: what may be asked of hosts and not yet be stored."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hvpsbridge.units import MIB

# Of the 256 MiB a process may use, what requested blocks may hold; the rest is the interpreter, the
# decoding of replies and the repository's packs.
DEFAULT_BUDGET_BYTES = 64 * MIB
# How often a waiter looks whether it is still wanted.
WAKE_SECONDS = 0.5


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
