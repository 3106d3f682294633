"""Documents about retention: what a prune would remove, and what a schedule will hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from hvpsbridge.formats.retention import AgeRange, Forecast, HeldAfter, Rules, Schedule
from hvpsbridge.report.documents.document import Document
from hvpsbridge.report.values import INLINE
from hvpsbridge.tasks.retention.shown import PruneReport, ReasonShown, reasons_shown, rule_texts


@dataclass(frozen=True, slots=True)
class Retained(Document):
    """What retention decides, and a prune does.

    Attributes:
        check: whether nothing was changed.
    """

    check: bool
    report: PruneReport = field(metadata=INLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPoint:
    """A recovery point at the end of a simulation."""

    created: datetime
    age_seconds: float
    reasons: tuple[ReasonShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSimulated(Document):
    """How many recovery points of a VM a schedule and rules will hold.

    Attributes:
        rules: the rules that are set, as in a playbook.
        time_zone: where days, weeks and so on begin.
        times: of the backups of each day.
        days: how long it was simulated.
        made: how many points were made.
        most: the largest number of points after any prune.
        held: points at the end, oldest first.
        ages: their ages, youngest first.
        after: how the number grows.
    """

    rules: tuple[str, ...]
    time_zone: str
    times: tuple[str, ...]
    days: int
    made: int
    most: int
    held: tuple[HeldPoint, ...]
    ages: tuple[AgeRange, ...]
    after: tuple[HeldAfter, ...]


def simulated(rules: Rules, schedule: Schedule, forecast: Forecast) -> RetentionSimulated:
    """The document of a simulation."""
    newest = forecast.held[-1].point.made
    return RetentionSimulated(
        rules=tuple(rule_texts(rules)),
        time_zone=rules.time_zone,
        times=tuple(f"{at:%H:%M}" for at in sorted(schedule.times)),
        days=forecast.days,
        made=forecast.made,
        most=forecast.most,
        held=tuple(
            HeldPoint(
                created=decision.point.made,
                age_seconds=(newest - decision.point.made).total_seconds(),
                reasons=reasons_shown(decision.reasons),
            )
            for decision in forecast.held
        ),
        ages=forecast.ages,
        after=forecast.after,
    )
