"""A look ahead: how many points of which age a schedule of backups and rules will hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from hvpsbridge.formats.retention.decide import decide
from hvpsbridge.formats.retention.points import Decision, RetentionPoint
from hvpsbridge.formats.retention.rules import Rules

_VM = UUID(int=0)
MAX_DAYS = 3660
# Upper ends of the ranges of ages, in days, and what they are called; None has no end.
AGES: tuple[tuple[int | None, str], ...] = (
    (1, "up to 1 day"),
    (7, "up to 1 week"),
    (31, "up to 1 month"),
    (92, "up to 3 months"),
    (183, "up to 6 months"),
    (366, "up to 1 year"),
    (None, "older"),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of the backups of each day, in the time zone of the rules. None of them fails."""

    times: tuple[time, ...] = (time(2),)


@dataclass(frozen=True, slots=True)
class AgeRange:
    """Recovery points of similar age.

    Attributes:
        age: the range.
        points: how many there are.
    """

    age: str
    points: int


@dataclass(frozen=True, slots=True)
class HeldAfter:
    """How many recovery points of a VM there are after some days."""

    days: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is held at the end of a simulation, for one VM.

    Attributes:
        days: how long it was.
        made: points that were made.
        held: decisions about the points that are left, oldest first.
        most: the largest number that was held after any prune.
        after: how many were held after each 30 days, and at the end.
        ages: by age, youngest first, without empty ranges.
    """

    days: int
    made: int
    held: tuple[Decision, ...]
    most: int
    after: tuple[HeldAfter, ...]
    ages: tuple[AgeRange, ...]


def simulate(rules: Rules, schedule: Schedule, days: int, start: date) -> Forecast:
    """What is left after some days of backups of a VM, with a prune after each day.

    Raises:
        ValueError: the schedule is empty, or ``days`` is not between 1 and ``MAX_DAYS``.
    """
    if not schedule.times:
        raise ValueError("a schedule needs at least one backup a day")
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"simulate between 1 and {MAX_DAYS} days")
    held: Sequence[RetentionPoint] = ()
    decisions: tuple[Decision, ...] = ()
    made = most = 0
    after = []
    now = datetime.now(UTC)
    for day in range(1, days + 1):
        new = []
        for at in sorted(schedule.times):
            made += 1
            now = datetime.combine(start + timedelta(days=day - 1), at, rules.zone).astimezone(UTC)
            new.append(
                RetentionPoint(
                    vm_id=_VM, point_id=UUID(int=made), made=now, sequence=made, disks=frozenset({"disk"})
                )
            )
        (vm,) = decide(rules, (*held, *new), max(point.made for point in new))
        held = vm.kept
        decisions = tuple(decision for decision in vm.decisions if decision.keep)
        most = max(most, len(held))
        if day % 30 == 0 or day == days:
            after.append(HeldAfter(day, len(held)))
    return Forecast(
        days=days,
        made=made,
        held=decisions,
        most=most,
        after=tuple(after),
        ages=_ages(held, now),
    )


def _ages(held: Sequence[RetentionPoint], now: datetime) -> tuple[AgeRange, ...]:
    ages = [now - point.made for point in held]
    found, lower = [], timedelta(days=-1)
    for days, name in AGES:
        upper = timedelta.max if days is None else timedelta(days=days)
        number = sum(lower < age <= upper for age in ages)
        if number:
            found.append(AgeRange(name, number))
        lower = upper
    return tuple(found)
