"""Tables and lines about retention, made from its documents."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.report.documents.retention import RetentionSimulated
from hvpsbridge.report.views import Table
from hvpsbridge.tasks.retention.shown import PruneReport
from hvpsbridge.tasks.retention.text import (
    POINT_COLUMNS,
    age_text,
    local_text,
    note_lines,
    point_rows,
    why_text,
)
from hvpsbridge.text import counted


def retention_table(found: PruneReport, *, all_points: bool = True) -> Table:
    """A row for each recovery point; see ``tasks.retention.text.point_rows``."""
    rows = tuple(point_rows(found, all_points=all_points))
    return Table(f"recovery points, times of {found.time_zone}", POINT_COLUMNS, rows, frozenset({3}))


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
    yield from note_lines(found)
    removed, kept = found.removed - len(found.protected), found.kept + len(found.protected)
    verbs = ("to remove", "to keep") if check else ("removed", "kept")
    yield f"{counted(removed, 'point')} {verbs[0]}, {kept} {verbs[1]}, {counted(len(found.vms), 'VM')}"


def simulated_tables(found: RetentionSimulated) -> tuple[Table, ...]:
    """What is left at the end by age, each point that is left, and how the number grows."""
    return (
        Table(
            f"ages after {counted(found.days, 'day')}",
            ("age", "points"),
            tuple((each.age, str(each.points)) for each in found.ages),
            frozenset({1}),
        ),
        Table(
            f"points after {counted(found.days, 'day')}, times of {found.time_zone}",
            ("made", "age", "why"),
            tuple(
                (
                    local_text(point.created, found.time_zone),
                    age_text(point.age_seconds),
                    why_text(point.reasons),
                )
                for point in found.held
            ),
            frozenset({1}),
        ),
        Table(
            "growth",
            ("after", "points"),
            tuple((counted(each.days, "day"), str(each.points)) for each in found.after),
            frozenset({0, 1}),
        ),
    )


def simulated_line(found: RetentionSimulated) -> str:
    """The last line of a simulation."""
    return (
        f"{counted(found.made, 'point')} of one VM made at {', '.join(found.times)} in "
        f"{counted(found.days, 'day')}, {len(found.held)} left, at most {found.most} after a prune"
    )
