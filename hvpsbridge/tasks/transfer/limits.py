"""What all backups of a run share: permits, a rate limit, shells, and what is known about each host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hvpsbridge.receiver.throttling import NoRateLimit, RateLimiter
from hvpsbridge.tasks.host_records import HostRecords
from hvpsbridge.tasks.policy import RunLimits
from hvpsbridge.tasks.transfer.permits import TURN_SECONDS, Claim, Permits
from hvpsbridge.tasks.transfer.rates import MeasuredRates
from hvpsbridge.tasks.transfer.shell_slots import ShellSlots
from hvpsbridge.tasks.transfer.tuning import TuningBook

# How often a waiting reader checks whether it should stop.
WAKE_SECONDS = 0.5


class SharedPermits:
    """Permits for threads.

    Args:
        limits: how many readers may read at once.
        turn_seconds: how long a reader reads while others wait.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: RunLimits | None = None,
        turn_seconds: float = TURN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._permits = Permits(limits or RunLimits(), turn_seconds)
        self._clock = clock
        self._changed = threading.Condition()

    def permit(self, claim: Claim) -> SharedReadPermit:
        """A reader's permit, not requested yet."""
        with self._changed:
            return SharedReadPermit(self, self._permits.ticket(), claim)

    def acquire(self, ticket: int, claim: Claim, check: Callable[[], None]) -> None:
        """Wait for a permit; ``check`` may raise meanwhile, and then none is held."""
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

    def release(self, ticket: int) -> None:
        """Pass a permit on, if ``ticket`` holds one."""
        with self._changed:
            if self._permits.holds(ticket):
                self._permits.drop(ticket)
                self._grant()

    def due(self, ticket: int) -> bool:
        """Whether the holder should make way for another reader."""
        with self._changed:
            return self._permits.due(ticket, self._clock())

    def _grant(self) -> None:
        if self._permits.grant(self._clock()):
            self._changed.notify_all()


class SharedReadPermit:
    """One reader's :class:`~hvpsbridge.receiver.throttling.ReadPermit`."""

    def __init__(self, permits: SharedPermits, ticket: int, claim: Claim) -> None:
        self._permits = permits
        self._ticket = ticket
        self._claim = claim

    def enter(self, check: Callable[[], None]) -> None:
        """Wait for the permit; ``check`` may raise meanwhile, and then it is not held."""
        self._permits.acquire(self._ticket, self._claim, check)

    def leave(self) -> None:
        """Give the permit up, if it is held."""
        self._permits.release(self._ticket)

    def due(self) -> bool:
        """Whether to leave, and enter again later, so that another reader gets its turn."""
        return self._permits.due(self._ticket)


class Said:
    """What was said in this run. Thread-safe."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    def first(self, key: str) -> bool:
        """Whether this is the first time; from then on it is not."""
        with self._lock:
            new = key not in self._keys
            self._keys.add(key)
            return new


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What all reads of a run go through.

    Attributes:
        permits: which readers may read now.
        rate: limits the bytes received per second.
        tuning: how best to read each host.
        shells: limits the shells for disks on each host.
        records: what was proved and measured about hosts.
        rates: how fast hosts send.
        said: notes about hosts that were given already.
    """

    permits: SharedPermits = field(default_factory=SharedPermits)
    rate: RateLimiter = field(default_factory=NoRateLimit)
    tuning: TuningBook = field(default_factory=TuningBook)
    shells: ShellSlots = field(default_factory=ShellSlots)
    records: HostRecords = field(default_factory=HostRecords)
    rates: MeasuredRates = field(default_factory=MeasuredRates)
    said: Said = field(default_factory=Said)
