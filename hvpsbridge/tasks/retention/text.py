"""Decisions about recovery points as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from hvpsbridge.formats.retention.rules import zone_of
from hvpsbridge.repository.points import SHORT_ID_DIGITS
from hvpsbridge.tasks.retention.shown import PruneReport, ReasonShown

_DAY_SECONDS = 86400
# Headings of ``point_rows``.
POINT_COLUMNS = ("VM", "point", "made", "age", "state", "tags", "decision", "why")


def point_rows(found: PruneReport, *, all_points: bool = True) -> Iterator[tuple[str, ...]]:
    """A row for each recovery point, by VM and oldest first, with its fate and why.

    Args:
        found: the decisions.
        all_points: whether to show the points that stay, too.
    """
    for vm in found.vms:
        for point in vm.points:
            if all_points or not point.keep:
                yield (
                    vm.vm or str(vm.vm_id),
                    point.point_id.hex[:SHORT_ID_DIGITS],
                    local_text(point.created, found.time_zone),
                    age_text(point.age_seconds),
                    point.state.replace("_", " "),
                    ", ".join(point.tags),
                    "keep" if point.keep else "remove",
                    why_text(point.reasons),
                )


def note_lines(found: PruneReport) -> Iterator[str]:
    """What the rows do not say: what cannot be read, and what was protected meanwhile."""
    for text in found.unreadable:
        yield f"cannot be read, so it stays and takes no place: {text}"
    for vm in found.vms:
        for point in vm.points:
            if point.point_id in found.protected:
                yield f"{vm.vm}@{point.point_id.hex[:SHORT_ID_DIGITS]} was protected meanwhile and stays"


def age_text(seconds: float) -> str:
    """An age for people: hours up to two days, then days."""
    sign = "-" if seconds < 0 else ""
    hours = int(abs(seconds) // 3600)
    return f"{sign}{hours} h" if hours < 48 else f"{sign}{int(abs(seconds) // _DAY_SECONDS)} d"


def why_text(reasons: Sequence[ReasonShown]) -> str:
    """All reasons of a decision."""
    return ", ".join(reason.text for reason in reasons)


def local_text(moment: datetime, zone: str) -> str:
    """A time in the zone of the rules, with its offset, since an hour repeats when clocks go back."""
    return f"{moment.astimezone(zone_of(zone)):%Y-%m-%d %H:%M %z}"
