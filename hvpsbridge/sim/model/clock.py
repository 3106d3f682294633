"""Time of the simulated host."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Gives seconds since the epoch; never goes back."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The system clock plus ``skew_seconds``, which may be changed at any time."""

    def __init__(self, skew_seconds: float = 0.0) -> None:
        self.skew_seconds = skew_seconds

    def now(self) -> float:
        return time.time() + self.skew_seconds


class ManualClock:
    """A clock that only moves when told to, for tests."""

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now += seconds


def utc(seconds: float) -> datetime:
    """A time of the clock as an aware datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
