"""On what terms a pump works: who takes what it brings, who may stop it, who tunes it, what it bears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.errors import HvpsError, ProtocolViolation
from hvpsbridge.formats.wire import Block
from hvpsbridge.receiver.settings import ReadSettings


class BlockSink(Protocol):
    """Takes verified blocks; called from several threads at once, for different windows."""

    def deliver(self, block: Block) -> None:
        """Take ``block``. Its pieces may be kept; nobody else uses their buffer."""
        ...


class Watcher(Protocol):
    """Looks on while a pump works. May be called from any of its threads."""

    def check(self) -> None:
        """Raise to stop the pump: cancelled, out of space, too old."""
        ...

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """``raw_bytes`` more of what was owed are stored, ``wire_bytes`` more came over the wire."""
        ...


class Tuner(Protocol):
    """Decides how to read by what trials bring; used by one pump."""

    @property
    def settings(self) -> ReadSettings:
        """How to read when there is nothing (more) to try."""
        ...

    @property
    def trial_seconds(self) -> float:
        """How long a trial reads, from its first block on."""
        ...

    def trial(self) -> ReadSettings | None:
        """What to try next; None when it is decided."""
        ...

    def measured(self, data_bytes: int, seconds: float) -> None:
        """The trial brought so many bytes that are not zero, in so long, and came to its end."""
        ...


@dataclass(frozen=True, slots=True)
class PumpStatistics:
    """What a pump moved: bytes asked for, bytes on the wire, and how often a source was replaced."""

    raw_bytes: int
    wire_bytes: int
    resumed: int


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long a pump puts up with a host that does not deliver.

    Attributes:
        resume_seconds: longest time without a single new block before the pump gives up.
        stall_seconds: silence after which a source is given up for a new one; below the 120 s after
            which the host's watchdog closes the disk.
        first_pause_seconds: wait before the first new source; doubles up to ``longest_pause_seconds``.
        longest_pause_seconds: see above.
        violations: unusable blocks in a row, without a good one between them, that end the pump.
    """

    resume_seconds: float = 600.0
    stall_seconds: float = 90.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    violations: int = 4


class Backoff:
    """Failures in a row, and whether to bear one more."""

    def __init__(self, retry_limits: RetryLimits, clock: Callable[[], float]) -> None:
        self._patience = retry_limits
        self._clock = clock
        self._since: float | None = None
        self._pause_seconds = retry_limits.first_pause_seconds
        self._violations = 0

    @property
    def met(self) -> bool:
        """Whether a failure has been met since the last good block."""
        return self._since is not None

    def meet(self, failure: HvpsError) -> float:
        """Seconds to pause before the next try.

        Raises:
            HvpsError: ``failure``, when retry_limits is at its end.
        """
        now = self._clock()
        if self._since is None:
            self._since = now
        if isinstance(failure, ProtocolViolation):
            self._violations += 1
        if self._violations >= self._patience.violations or now - self._since > self._patience.resume_seconds:
            raise failure
        pause = self._pause_seconds
        self._pause_seconds = min(pause * 2, self._patience.longest_pause_seconds)
        return pause

    def over(self) -> None:
        """A good block came."""
        if self._since is not None:
            self._since = None
            self._violations = 0
            self._pause_seconds = self._patience.first_pause_seconds
