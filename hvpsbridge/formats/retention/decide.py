"""The counting: which points the rules keep, and which stay whatever the rules say.

Points of a VM are counted three times: the good ones alone, then with the less consistent ones, then with
the damaged ones, too. A point stays if the count for its state keeps it. So a worse point never takes the
place of a better one, and stays no longer than a good one would in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

from hvpsbridge.formats.retention.points import (
    Decision,
    Reason,
    RetentionPoint,
    State,
    VmDecisions,
    Why,
)
from hvpsbridge.formats.retention.rules import ALL, Rules


def decide(rules: Rules, points: Iterable[RetentionPoint], now: datetime) -> tuple[VmDecisions, ...]:
    """A decision about each point, by VM: sorted by name and id of the VM, then oldest first.

    The order of ``points`` does not matter.

    Args:
        rules: what to keep.
        points: all points of each VM; a count of a part of them would remove too much or too little.
        now: points after it are in the future.
    """
    now = now.astimezone(UTC)
    by_vm: dict[UUID, list[RetentionPoint]] = defaultdict(list)
    for point in points:
        by_vm[point.vm_id].append(point)
    found = [_decide_vm(rules, vm_id, mine, now) for vm_id, mine in by_vm.items()]
    return tuple(sorted(found, key=lambda vm: (vm.vm_name, vm.vm_id.hex)))


def _decide_vm(rules: Rules, vm_id: UUID, points: list[RetentionPoint], now: datetime) -> VmDecisions:
    newest_first = sorted(points, key=_by_time, reverse=True)
    reasons: dict[UUID, list[Reason]] = {point.point_id: [] for point in points}
    counted = [point for point in newest_first if point.made <= now and point.state in _WORSE]
    for state, includes in _WORSE.items():
        among = [point for point in counted if point.state in includes]
        for point, reason in _counted(rules, among):
            if point.state is state:
                reasons[point.point_id].append(reason)
    newest = _newest(counted)
    for point in points:
        reasons[point.point_id] += _always(rules, point, newest.get(point.point_id, ()), now)
    covering = next((point for point in counted if point.state is not State.DAMAGED), None)
    decisions = []
    for point in reversed(newest_first):
        found = sorted(reasons[point.point_id], key=lambda reason: _PLACE[reason.why])
        if not found and point.state is State.DAMAGED and (covering is None or covering.made <= point.made):
            found = [Reason(Why.NOT_COVERED, "damaged, but the VM has no newer usable point")]
        keep = bool(found)
        decisions.append(Decision(point, keep, tuple(found) or (Reason(Why.NO_RULE, "no rule keeps it"),)))
    return VmDecisions(vm_id, newest_first[0].vm_name, tuple(decisions))


_PLACE = {why: place for place, why in enumerate(Why)}
# The states that are counted, each with those among which its points are counted.
_WORSE: Mapping[State, frozenset[State]] = {
    State.GOOD: frozenset({State.GOOD}),
    State.LESS_CONSISTENT: frozenset({State.GOOD, State.LESS_CONSISTENT}),
    State.DAMAGED: frozenset({State.GOOD, State.LESS_CONSISTENT, State.DAMAGED}),
}


def _by_time(point: RetentionPoint) -> tuple[Any, ...]:
    return (point.made, point.sequence, point.point_id.hex)


def _by_sequence(point: RetentionPoint) -> tuple[Any, ...]:
    return (point.sequence, point.made, point.point_id.hex)


# -- rules -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counting:
    """A rule that counts.

    Attributes:
        name: in the text of a reason.
        period: names the period of a local time; None if each point is one of its own.
    """

    why: Why
    name: str
    period: Callable[[datetime], str] | None


def _week(local: datetime) -> str:
    year, week, _ = local.isocalendar()
    return f"{year:04}-W{week:02}"


_COUNTING = (
    _Counting(Why.LAST, "last", None),
    _Counting(Why.HOURLY, "hourly", lambda local: f"{local.date()} {local.hour:02}h"),
    _Counting(Why.DAILY, "daily", lambda local: str(local.date())),
    _Counting(Why.WEEKLY, "weekly", _week),
    _Counting(Why.MONTHLY, "monthly", lambda local: f"{local.year:04}-{local.month:02}"),
    _Counting(Why.YEARLY, "yearly", lambda local: f"{local.year:04}"),
)


def _counted(rules: Rules, newest_first: Sequence[RetentionPoint]) -> Iterator[tuple[RetentionPoint, Reason]]:
    """What the rules with numbers and the span keep of these points."""
    zone = rules.zone
    local = [_local(point.made, zone) for point in newest_first]
    for counting in _COUNTING:
        limit: int = getattr(rules, counting.why.value)
        seen: set[str] = set()
        for number, (point, moment) in enumerate(zip(newest_first, local, strict=True)):
            period = str(number) if counting.period is None else counting.period(moment)
            if len(seen) == limit:
                break
            if period not in seen:
                seen.add(period)
                count = f"{len(seen)}" if limit == ALL else f"{len(seen)}/{limit}"
                where = "" if counting.period is None else f" ({period})"
                yield point, Reason(counting.why, f"{counting.name} {count}{where}")
    if rules.keep_within is not None and newest_first:
        begin = rules.keep_within.before(newest_first[0].made, zone)
        for point in newest_first:
            if point.made > begin:
                yield point, Reason(Why.WITHIN, f"within {rules.keep_within}")


def _local(moment: datetime, zone: tzinfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment  # on the first or last day that a datetime can have


# -- what stays whatever is counted ------------------------------------------------------------------


def _always(rules: Rules, point: RetentionPoint, newest: Iterable[str], now: datetime) -> Iterator[Reason]:
    for tags in rules.tag_lists:
        if tags <= point.tags:
            yield Reason(Why.TAGS, f"tag {','.join(sorted(tags))}")
    if point.protected:
        yield Reason(Why.PROTECTED, "protected")
    for what in newest:
        yield Reason(Why.NEWEST, what)
    if point.base:
        yield Reason(Why.BASE, "the next increment counts from it")
    if point.made > now:
        yield Reason(Why.FUTURE, "in the future")
    if point.state is State.FENCED:
        yield Reason(Why.FENCED, "fenced, left to collect")
    if point.state is State.INCOMPLETE:
        yield Reason(Why.INCOMPLETE, "unfinished, left to its run or collect")


def _newest(counted: Sequence[RetentionPoint]) -> Mapping[UUID, Sequence[str]]:
    """By id, of what a point is the newest: of its VM and of disks, of all points and of good ones.

    The newest by time and the newest by sequence are not the same after a clock was set back; both stay.
    """
    found = _newest_of(counted, "of the VM")
    of_the_vm = frozenset(found)
    for disk in sorted({disk for point in counted for disk in point.disks}):
        having = [point for point in counted if disk in point.disks]
        for point_id, texts in _newest_of(having, f"of disk {disk}").items():
            if point_id not in of_the_vm:  # which says enough
                found.setdefault(point_id, []).extend(texts)
    return found


def _newest_of(points: Sequence[RetentionPoint], what: str) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {}
    for state, which in _NEWEST.items():
        among = [point for point in points if point.state in _WORSE[state]]
        for key in (_by_time, _by_sequence) if among else ():
            found.setdefault(max(among, key=key).point_id, [f"{which} {what}"])
    return found


# The first that fits is the reason.
_NEWEST = {State.DAMAGED: "newest", State.LESS_CONSISTENT: "newest usable", State.GOOD: "newest good"}
