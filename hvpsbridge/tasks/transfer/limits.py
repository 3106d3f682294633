"""What the readers of a run share: permits, a rate, and what was learned of hosts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hvpsbridge.receiver.throttling import NoRateLimit, RateLimiter
from hvpsbridge.tasks.transfer.permits import TURN_SECONDS, Claim, Permits, ReaderLimits
from hvpsbridge.tasks.transfer.shell_slots import ShellPlaces
from hvpsbridge.tasks.transfer.tuning import TuningBook

# How often a waiting reader looks whether it is still wanted.
WAKE_SECONDS = 0.5


class SharedPermits:
    """Permits as threads use them.

    Args:
        limits: how many readers may work at once.
        turn_seconds: how long one reads while others wait.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: ReaderLimits | None = None,
        turn_seconds: float = TURN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._permits = Permits(limits or ReaderLimits(), turn_seconds)
        self._clock = clock
        self._changed = threading.Condition()

    def gate(self, claim: Claim) -> SharedReadPermit:
        """A reader's permit, not asked for yet."""
        with self._changed:
            return SharedReadPermit(self, self._permits.ticket(), claim)

    def take(self, ticket: int, claim: Claim, check: Callable[[], None]) -> None:
        """Wait for a permit; ``check`` may raise meanwhile, and then nothing is held."""
        with self._changed:
            if self._permits.holds(ticket):
                return
            self._permits.ask(ticket, claim)
            try:
                self._grant()
                while not self._permits.holds(ticket):
                    check()
                    self._changed.wait(WAKE_SECONDS)
            except BaseException:
                self._permits.drop(ticket)
                self._grant()
                raise

    def give_back(self, ticket: int) -> None:
        """Give a permit up, for whoever comes next."""
        with self._changed:
            if self._permits.holds(ticket):
                self._permits.drop(ticket)
                self._grant()

    def due(self, ticket: int) -> bool:
        """Whether somebody else's turn has come."""
        with self._changed:
            return self._permits.due(ticket, self._clock())

    def _grant(self) -> None:
        if self._permits.grant(self._clock()):
            self._changed.notify_all()


class SharedReadPermit:
    """One reader's permit (a ``receiver.gates.ReadPermit``)."""

    def __init__(self, permits: SharedPermits, ticket: int, claim: Claim) -> None:
        self._permits = permits
        self._ticket = ticket
        self._claim = claim

    def enter(self, check: Callable[[], None]) -> None:
        """See :class:`~hvpsbridge.receiver.throttling.ReadPermit`."""
        self._permits.take(self._ticket, self._claim, check)

    def leave(self) -> None:
        """See :class:`~hvpsbridge.receiver.throttling.ReadPermit`."""
        self._permits.give_back(self._ticket)

    def due(self) -> bool:
        """See :class:`~hvpsbridge.receiver.throttling.ReadPermit`."""
        return self._permits.due(self._ticket)


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What all reading of a run goes through.

    Attributes:
        permits: who may read now.
        pace: how fast bytes may come.
        tuning: how hosts are best read.
        shells: how many shells for disks a host has at a time.
    """

    permits: SharedPermits = field(default_factory=SharedPermits)
    pace: RateLimiter = field(default_factory=NoRateLimit)
    tuning: TuningBook = field(default_factory=TuningBook)
    shells: ShellPlaces = field(default_factory=ShellPlaces)
