"""Tables and lines about retention, made from its documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from hvpsbridge.formats.retention.points import SHORT_ID_DIGITS
from hvpsbridge.formats.retention.rules import zone_of
from hvpsbridge.report.documents.retention import RetentionSimulated
from hvpsbridge.report.views import Table
from hvpsbridge.tasks.retention.shown import PruneReport, ReasonShown

_DAY_SECONDS = 86400


def retention_table(found: PruneReport, *, all_points: bool = True) -> Table:
    """A row for each recovery point, by VM and oldest first, with its fate and why.

    Args:
        found: the decisions.
        all_points: whether to show the points that stay, too.
    """
    rows = tuple(
        (
            vm.vm or str(vm.vm_id),
            point.point_id.hex[:SHORT_ID_DIGITS],
            _local(point.created, found.time_zone),
            age_text(point.age_seconds),
            point.state.replace("_", " "),
            ", ".join(point.tags),
            "keep" if point.keep else "remove",
            _why(point.reasons),
        )
        for vm in found.vms
        for point in vm.points
        if all_points or not point.keep
    )
    columns = ("VM", "point", "made", "age", "state", "tags", "decision", "why")
    return Table(f"recovery points, times of {found.time_zone}", columns, rows, frozenset({3}))


def retention_lines(found: PruneReport, *, check: bool = True) -> Iterator[str]:
    """Below the table: the rules, what is out of line, and how many points stay.

    Args:
        found: the decisions.
        check: whether nothing was changed.
    """
    yield f"rules: {', '.join(found.rules)}; time zone {found.time_zone}"
    for text in found.out_of_line:
        yield f"out of line: {text}"
    if found.out_of_line and check:
        yield f"a prune would refuse this unless the number is confirmed with --remove {found.removed}"
    for text in found.unreadable:
        yield f"stays, and takes no place, since it cannot be read: {text}"
    protected = set(found.protected)
    for vm in found.vms:
        for point in vm.points:
            if point.point_id in protected:
                yield f"{vm.vm}@{point.point_id.hex[:SHORT_ID_DIGITS]} was protected meanwhile and stays"
    removed, kept = found.removed - len(protected), found.kept + len(protected)
    verbs = ("to remove", "to keep") if check else ("removed", "kept")
    yield f"{_points(removed)} {verbs[0]}, {kept} {verbs[1]}, {_number(len(found.vms), 'VM')}"


def simulated_tables(found: RetentionSimulated) -> tuple[Table, ...]:
    """What is left at the end by age, each point that is left, and how the number grows."""
    return (
        Table(
            f"ages after {_number(found.days, 'day')}",
            ("age", "points"),
            tuple((each.age, str(each.points)) for each in found.ages),
            frozenset({1}),
        ),
        Table(
            f"points after {_number(found.days, 'day')}, times of {found.time_zone}",
            ("made", "age", "why"),
            tuple(
                (
                    _local(point.created, found.time_zone),
                    age_text(point.age_seconds),
                    _why(point.reasons),
                )
                for point in found.held
            ),
            frozenset({1}),
        ),
        Table(
            "growth",
            ("after", "points"),
            tuple((_number(each.days, "day"), str(each.points)) for each in found.after),
            frozenset({0, 1}),
        ),
    )


def simulated_line(found: RetentionSimulated) -> str:
    """The last line of a simulation."""
    return (
        f"{_points(found.made)} of one VM made at {', '.join(found.times)} in {_number(found.days, 'day')}, "
        f"{len(found.held)} left, at most {found.most} after a prune"
    )


def age_text(seconds: float) -> str:
    """An age for people: hours up to two days, then days."""
    sign = "-" if seconds < 0 else ""
    hours = int(abs(seconds) // 3600)
    return f"{sign}{hours} h" if hours < 48 else f"{sign}{int(abs(seconds) // _DAY_SECONDS)} d"


def _why(reasons: Sequence[ReasonShown]) -> str:
    return ", ".join(reason.text for reason in reasons)


def _local(moment: datetime, zone: str) -> str:
    """A time in the zone of the rules, with its offset: an hour is there twice when clocks go back."""
    return f"{moment.astimezone(zone_of(zone)):%Y-%m-%d %H:%M %z}"


def _points(number: int) -> str:
    return _number(number, "point")


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
