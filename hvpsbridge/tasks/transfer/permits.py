"""Who may read now: permits within limits for a run, a host and a volume, in fair turns. Pure.

Rules, held by tests for any mixture of readers:

- The limits are never passed, and a permit is free only while nobody whom it would help waits.
- Of those whom a free permit would help, the one goes first whose VM reads with fewer permits, then whose
  disk does, then who has waited longest; but nobody is passed over more than :data:`MOST_PASSES` times.
- A holder is due when its turn is over, or at once when its VM or disk holds unfairly many, and its permit
  would help somebody who waits. So nobody waits for ever as long as holders who are due give up.

Nothing here waits; whoever holds a permit waits for no other one, so there is nothing to deadlock on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from uuid import UUID

# A holder reads so long before it gives way: the bubble of giving way is a reply or two.
TURN_SECONDS = 5.0
# How often others may go first, so that fairness between VMs starves no disk.
MOST_PASSES = 8


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """How many readers may work at once; None is no limit.

    Attributes:
        run: of all in the run.
        host: of one host.
        volume: of one volume of a host, by the path of the frozen disk.
    """

    run: int | None = None
    host: int | None = None
    volume: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a reader reads. Volumes and disks are their host's."""

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
        limits: how many there may be.
        turn_seconds: how long a turn is.
    """

    def __init__(self, limits: ReaderLimits, turn_seconds: float = TURN_SECONDS) -> None:
        self._limits = limits
        self._turn_seconds = turn_seconds
        self._waiting: dict[int, _Ticket] = {}
        self._holding: dict[int, _Ticket] = {}
        self._held: Counter[Hashable] = Counter()
        self._made = 0
        self._arrivals = 0

    def ticket(self) -> int:
        """A number for a reader, which may ask time and again."""
        self._made += 1
        return self._made

    def ask(self, ticket: int, claim: Claim) -> None:
        """Queue up; once for each permit."""
        assert ticket not in self._waiting
        assert ticket not in self._holding
        self._arrivals += 1
        self._waiting[ticket] = _Ticket(claim, self._arrivals)

    def holds(self, ticket: int) -> bool:
        """Whether it has a permit."""
        return ticket in self._holding

    def drop(self, ticket: int) -> None:
        """Give the permit back, or wait no longer."""
        self._waiting.pop(ticket, None)
        held = self._holding.pop(ticket, None)
        if held is not None:
            self._held.subtract(_keys(held.claim))

    def grant(self, now: float) -> tuple[int, ...]:
        """Give out every permit that can be had; to whom, in order."""
        granted: list[int] = []
        while helped := [number for number, ticket in self._waiting.items() if self._room(ticket.claim)]:
            first = min(helped, key=self._order)
            chosen = self._waiting.pop(first)
            for number in helped:
                if number != first and self._shares(self._waiting[number].claim, chosen.claim):
                    self._waiting[number].passes += self._waiting[number].arrived < chosen.arrived
            chosen.granted = now
            self._holding[first] = chosen
            self._held.update(_keys(chosen.claim))
            granted.append(first)
        return tuple(granted)

    def due(self, ticket: int, now: float) -> bool:
        """Whether a holder is to give its permit up for somebody else."""
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
        """Whether passing one permit on makes shares more equal, and not just unequal the other way."""
        if mine.vm_id != other.vm_id:
            return self._held[mine.vm_id] > self._held[other.vm_id] + 1
        return self._held[_disk(mine)] > self._held[_disk(other)] + 1

    def _order(self, number: int) -> tuple[int, int, int, int]:
        ticket = self._waiting[number]
        if ticket.passes >= MOST_PASSES:
            return (-1, 0, 0, ticket.arrived)
        return (
            0,
            self._held[ticket.claim.vm_id],
            self._held[_disk(ticket.claim)],
            ticket.arrived,
        )

    def _room(self, claim: Claim, without: Claim | None = None) -> bool:
        """Whether the limits let one more read, were one holder ``without`` gone."""
        freed = () if without is None else tuple(_keys(without))
        for key, limit in zip(_keys(claim), self._of(claim), strict=False):
            if limit is not None and self._held[key] - (key in freed) >= limit:
                return False
        return True

    def _of(self, claim: Claim) -> tuple[int | None, int | None, int | None]:
        return self._limits.run, self._limits.host, self._limits.volume

    def _shares(self, left: Claim, right: Claim) -> bool:
        """Whether two compete for some limit."""
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
