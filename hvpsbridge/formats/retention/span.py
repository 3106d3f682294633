"""Spans of the calendar, such as ``1y6m``: years and months differ in length."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from hvpsbridge.text import shortened

_FORM = re.compile(r"(?:[0-9]{1,5}[ymwdh])+")
_PART = re.compile(r"([0-9]+)([ymwdh])")
DAYS_A_WEEK = 7
EARLIEST = datetime.min.replace(tzinfo=UTC)
PATTERN = r"^([0-9]{1,5}[ymwdh])+$"
EXAMPLES = ("30d", "2w", "1y6m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span of the calendar."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __str__(self) -> str:
        """The text that :func:`parse_span` reads."""
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{number}{unit}" for number, unit in parts if number) or "0h"

    def before(self, moment: datetime, zone: tzinfo) -> datetime:
        """The time this long before ``moment``, UTC; ``EARLIEST`` if that is before the year 1.

        Years, months and days are those of the calendar in ``zone``, hours are 60 minutes. A day that the
        month does not have runs over into the next: a month before 31 March is 3 March, or 2 March in a leap
        year, as in restic.
        """
        try:
            if not (self.years or self.months or self.days):
                return moment.astimezone(UTC) - timedelta(hours=self.hours)
            local = moment.astimezone(zone)
            month = local.year * 12 + local.month - 1 - self.years * 12 - self.months
            year, month = month // 12, month % 12 + 1
            over = max(local.day - monthrange(year, month)[1], 0)
            there = local.replace(year=year, month=month, day=local.day - over, fold=0)
            there += timedelta(days=over - self.days)
            return there.astimezone(UTC) - timedelta(hours=self.hours)
        except (ValueError, OverflowError):
            return EARLIEST


def parse_span(text: str) -> Span:
    """A span such as ``30d``, ``2w``, ``1y6m`` or ``36h``; here ``m`` is months.

    Raises:
        ValueError: it has another form, names a unit twice, or is empty.
    """
    text = text.strip()
    parts = _PART.findall(text) if _FORM.fullmatch(text) else []
    numbers = {unit: int(number) for number, unit in parts}
    if not parts or len(numbers) < len(parts):
        raise ValueError(
            f"{shortened(text, 40)!r} is not a number of years (y), months (m), weeks (w), days (d) or hours "
            "(h), or several of them; use for example 30d, 2w or 1y6m"
        )
    if not any(numbers.values()):
        raise ValueError("must be longer than nothing, for example 30d")
    return Span(
        years=numbers.get("y", 0),
        months=numbers.get("m", 0),
        days=numbers.get("d", 0) + DAYS_A_WEEK * numbers.get("w", 0),
        hours=numbers.get("h", 0),
    )
