"""What retention knows about recovery points, and what it decides about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.results import Consistency


class Usable(StrEnum):
    """Whether a point can be restored whole."""

    GOOD = "good"
    DAMAGED = "damaged"
    FENCED = "fenced"
    INCOMPLETE = "incomplete"


class State(StrEnum):
    """What a point counts as."""

    GOOD = "good"
    LESS_CONSISTENT = "less_consistent"
    DAMAGED = "damaged"
    FENCED = "fenced"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPoint:
    """What retention must know about a recovery point.

    Attributes:
        made: when its checkpoint was taken; kept in UTC.
        sequence: its number in the lineage of its VM; 0 if unknown.
        disks: a name for each of its disks; a disk has the same name in every point.
        consistency: what was reached, a value of ``contract.results.Consistency``.
        consistency_asked: what the backup asked for, a value of ``ConsistencyPolicy``.
        base: the next increment of a disk counts from this point.
    """

    vm_id: UUID
    point_id: UUID
    made: datetime
    vm_name: str = ""
    sequence: int = 0
    tags: frozenset[str] = frozenset()
    disks: frozenset[str] = frozenset()
    protected: bool = False
    base: bool = False
    usable: Usable = Usable.GOOD
    consistency: str = Consistency.APPLICATION.value
    consistency_asked: str = "application_or_crash"

    def __post_init__(self) -> None:
        if self.made.utcoffset() is None:
            raise ValueError("the time of a point needs its offset from UTC")
        # Python compares times of one zone by their clocks, which read the same twice when they go back.
        object.__setattr__(self, "made", self.made.astimezone(UTC))

    @property
    def state(self) -> State:
        """What it counts as."""
        if self.usable is not Usable.GOOD:
            return State(self.usable.value)
        as_asked = (
            self.consistency_asked == Consistency.CRASH.value
            or self.consistency == Consistency.APPLICATION.value
        )
        return State.GOOD if as_asked else State.LESS_CONSISTENT


class Why(StrEnum):
    """Why a point stays or is removed, in the order in which reasons are given."""

    LAST = "keep_last"
    HOURLY = "keep_hourly"
    DAILY = "keep_daily"
    WEEKLY = "keep_weekly"
    MONTHLY = "keep_monthly"
    YEARLY = "keep_yearly"
    WITHIN = "keep_within"
    TAGS = "keep_tags"
    PROTECTED = "protected"
    NEWEST = "newest"
    BASE = "base"
    FUTURE = "future"
    FENCED = "fenced"
    INCOMPLETE = "incomplete"
    NOT_COVERED = "not_covered"
    NO_RULE = "no_rule"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a decision.

    Attributes:
        text: for people, such as ``daily 3/7 (2026-03-01)``.
    """

    why: Why
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a point.

    Attributes:
        reasons: all of them, in the order of :class:`Why`; never empty.
    """

    point: RetentionPoint
    keep: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class VmDecisions:
    """Decisions about all points of a VM, oldest point first.

    Attributes:
        vm_name: the name in its newest point.
    """

    vm_id: UUID
    vm_name: str
    decisions: tuple[Decision, ...]

    @property
    def kept(self) -> tuple[RetentionPoint, ...]:
        """Points that stay, oldest first."""
        return tuple(self._points(keep=True))

    @property
    def removed(self) -> tuple[RetentionPoint, ...]:
        """Points that are removed, oldest first."""
        return tuple(self._points(keep=False))

    def _points(self, *, keep: bool) -> Iterator[RetentionPoint]:
        return (decision.point for decision in self.decisions if decision.keep is keep)
