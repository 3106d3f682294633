"""Whether a proof fits into the age that its checkpoint may have. A proof that does not fit is left out."""

from __future__ import annotations

import time
from collections.abc import Callable

from hvpsbridge.units import duration_text, rate_text, size_text

# Part of the checkpoint's age that is kept for what follows the proof: the commit, and closing readers.
RESERVE = 0.05
# A rate that was measured for less is too low: the operation has to start.
MEASURED_SECONDS = 5.0


class ProofLeftOutError(Exception):
    """A proof does not fit; the text says why."""


class ProofTime:
    """The time that one proof may take.

    Args:
        owed_bytes: what is to be hashed.
        seconds_left: of the checkpoint's age.
        known_rate: bytes per second that this host hashes; 0 if unknown.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        owed_bytes: int,
        seconds_left: Callable[[], float],
        known_rate: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owed_bytes = owed_bytes
        self._seconds_left = seconds_left
        self._known_rate = known_rate
        self._clock = clock
        self._started = clock()
        self._hashed_bytes = 0

    def check(self) -> None:
        """Return if the proof fits as far as is known.

        Raises:
            ProofLeftOutError: it does not.
        """
        left = self._seconds_left()
        elapsed = self._clock() - self._started
        rate = self._known_rate
        if elapsed >= MEASURED_SECONDS and self._hashed_bytes:
            rate = self._hashed_bytes / elapsed
        owed = max(self._owed_bytes - self._hashed_bytes, 0)
        if left <= 0 or (rate and owed / rate > left):
            at = f" at {rate_text(int(rate), 1.0)}" if rate else ""
            raise ProofLeftOutError(
                f"hashing {size_text(self._owed_bytes)}{at} does not fit into the age of the checkpoint, "
                f"of which {duration_text(max(left, 0.0))} is left"
            )

    def hashed(self, count: int) -> None:
        """Count bytes that were hashed."""
        self._hashed_bytes += count
