"""Which readers may read now: permits within limits per run, host and volume, in fair turns. Pure.

Rules, tested for any mixture of readers:

- The limits are never exceeded. No permit stays free while a reader waits that could use it.
- A free permit goes to the reader whose VM holds the fewest permits, then whose disk does, then who has
  waited longest; but no reader is passed over more than :data:`MAX_PASSES` times.
- A holder is due when a waiting reader could use its permit and its turn is over, or at once if its VM or
  disk holds more than its share. So no reader waits forever as long as due holders give up their permits.

Nothing here waits, and a holder never waits for a second permit, so there is no deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.tasks.policy import RunLimits

# Long enough that handing over, which costs the time of a reply or two, does not matter.
TURN_SECONDS = 5.0
# How often others may go first, so that fairness between VMs does not starve a disk.
MAX_PASSES = 8


@dataclass(frozen=True, slots=True)
class Claim:
    """What a reader reads. Volumes and disks are named as on their host."""

    host: str
    volume: str
    vm_id: UUID
    disk: str


@dataclass(slots=True)
class _Ticket:
    claim: Claim
    arrived: int = 0
    passes: int = 0
    granted: float | None = None


class Permits:
    """The state of all permits of a run. Not thread-safe.

    Args:
        limits: how many permits there are.
        turn_seconds: how long a turn lasts.
    """

    def __init__(self, limits: RunLimits, turn_seconds: float = TURN_SECONDS) -> None:
        self._limits = limits
        self._turn_seconds = turn_seconds
        self._waiting: dict[int, _Ticket] = {}
        self._holding: dict[int, _Ticket] = {}
        self._held: Counter[Hashable] = Counter()
        self._made = 0
        self._arrivals = 0

    def ticket(self) -> int:
        """A number that identifies a reader."""
        self._made += 1
        return self._made

    def ask(self, ticket: int, claim: Claim) -> None:
        """Queue for a permit."""
        assert ticket not in self._waiting
        assert ticket not in self._holding
        self._arrivals += 1
        self._waiting[ticket] = _Ticket(claim, self._arrivals)

    def holds(self, ticket: int) -> bool:
        """Whether the reader has a permit."""
        return ticket in self._holding

    def drop(self, ticket: int) -> None:
        """Give the permit back, or leave the queue."""
        self._waiting.pop(ticket, None)
        held = self._holding.pop(ticket, None)
        if held is not None:
            self._held.subtract(_keys(held.claim))

    def grant(self, now: float) -> tuple[int, ...]:
        """Hand out all free permits; the tickets that got one, in order."""
        granted: list[int] = []
        while able := [number for number, ticket in self._waiting.items() if self._room(ticket.claim)]:
            first = min(able, key=self._order)
            chosen = self._waiting.pop(first)
            for number in able:
                if number != first and self._shares(self._waiting[number].claim, chosen.claim):
                    self._waiting[number].passes += self._waiting[number].arrived < chosen.arrived
            chosen.granted = now
            self._holding[first] = chosen
            self._held.update(_keys(chosen.claim))
            granted.append(first)
        return tuple(granted)

    def due(self, ticket: int, now: float) -> bool:
        """Whether a holder should give its permit up for a waiting reader."""
        held = self._holding.get(ticket)
        if held is None or held.granted is None:
            return False
        over = now - held.granted >= self._turn_seconds
        mine = held.claim
        for waiting in self._waiting.values():
            other = waiting.claim
            if not self._room(other, without=mine):
                continue
            if over or self._unfair(mine, other):
                return True
        return False

    def _unfair(self, mine: Claim, other: Claim) -> bool:
        """Whether passing one permit on makes shares more equal, rather than unequal the other way around."""
        if mine.vm_id != other.vm_id:
            return self._held[mine.vm_id] > self._held[other.vm_id] + 1
        return self._held[_disk(mine)] > self._held[_disk(other)] + 1

    def _order(self, number: int) -> tuple[int, int, int, int]:
        ticket = self._waiting[number]
        if ticket.passes >= MAX_PASSES:
            return (-1, 0, 0, ticket.arrived)
        return (
            0,
            self._held[ticket.claim.vm_id],
            self._held[_disk(ticket.claim)],
            ticket.arrived,
        )

    def _room(self, claim: Claim, without: Claim | None = None) -> bool:
        """Whether the limits allow one more reader, not counting the holder ``without``."""
        freed = () if without is None else tuple(_keys(without))
        for key, limit in zip(_keys(claim), self._of(claim), strict=False):
            if limit is not None and self._held[key] - (key in freed) >= limit:
                return False
        return True

    def _of(self, claim: Claim) -> tuple[int | None, int | None, int | None]:
        return self._limits.readers, self._limits.readers_per_host, self._limits.readers_per_volume

    def _shares(self, left: Claim, right: Claim) -> bool:
        """Whether two readers compete under some limit."""
        return any(
            limit is not None and one == other
            for limit, one, other in zip(self._of(left), _keys(left), _keys(right), strict=False)
        )


def _keys(claim: Claim) -> Iterator[Hashable]:
    """What a permit counts against: the run, the host and the volume, then the VM and the disk."""
    yield "run"
    yield ("host", claim.host.casefold())
    yield ("volume", claim.host.casefold(), claim.volume.casefold())
    yield claim.vm_id
    yield _disk(claim)


def _disk(claim: Claim) -> Hashable:
    return ("disk", claim.vm_id, claim.disk)
