"""Time of the simulated host. Everything that takes time in the model reads it here."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch; never goes back."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The machine's own time, off by ``skew_seconds``, which may be changed at any time."""

    def __init__(self, skew_seconds: float = 0.0) -> None:
        self.skew_seconds = skew_seconds

    def now(self) -> float:
        return time.time() + self.skew_seconds


class ManualClock:
    """Time that stands still until told; for tests of rules about time."""

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now += seconds


def utc(seconds: float) -> datetime:
    """Aware UTC time of a clock's reading."""
    return datetime.fromtimestamp(seconds, UTC)
