"""Rules of retention, in restic's words (docs/retention.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from hvpsbridge.errors import NoRetentionRule
from hvpsbridge.formats.retention.span import EXAMPLES, PATTERN, Span, parse_span
from hvpsbridge.options import Option, TextForm, options_of
from hvpsbridge.text import has_controls, shortened

ALL = -1


def parse_tags(text: str) -> str:
    """Tags with commas between them, without spaces around each.

    Raises:
        ValueError: one is empty, or has control characters.
    """
    tags = [tag.strip() for tag in text.split(",")]
    if not all(tags) or has_controls(text):
        raise ValueError("must be a tag, or several with commas between them, for example audit or sql,audit")
    return ",".join(tags)


def parse_zone(text: str) -> str:
    """The name of a time zone that this machine knows.

    Raises:
        ValueError: it does not know this name.
    """
    zone_of(text)
    return text


def zone_of(name: str) -> tzinfo:
    """The time zone of that name.

    Raises:
        ValueError: this machine does not know it.
    """
    if name == "UTC":
        return UTC  # needs no time zone data
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as err:
        raise ValueError(
            f"this machine does not know the time zone {shortened(name, 60)!r}; "
            "use for example Europe/Berlin or UTC, or install the package tzdata"
        ) from err


SPAN = TextForm(read=parse_span, name="span, as `1y6m`", pattern=PATTERN, examples=EXAMPLES, metavar="SPAN")
TAGS = TextForm(read=parse_tags, name="text", examples=("audit", "sql,audit"), metavar="TAG[,TAG...]")
ZONE = TextForm(read=parse_zone, name="text", examples=("Europe/Berlin", "UTC"), metavar="ZONE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of retention. A point that any of them keeps stays.

    Raises:
        NoRetentionRule: none is set.
    """

    keep_last: Annotated[int, Option("how many newest points to keep; -1 for all", at_least=ALL)] = 0
    keep_hourly: Annotated[
        int, Option("of how many hours to keep the newest point; -1 for all", at_least=ALL)
    ] = 0
    keep_daily: Annotated[
        int, Option("of how many days to keep the newest point; -1 for all", at_least=ALL)
    ] = 0
    keep_weekly: Annotated[
        int,
        Option("of how many weeks, Monday to Sunday, to keep the newest point; -1 for all", at_least=ALL),
    ] = 0
    keep_monthly: Annotated[
        int, Option("of how many months to keep the newest point; -1 for all", at_least=ALL)
    ] = 0
    keep_yearly: Annotated[
        int, Option("of how many years to keep the newest point; -1 for all", at_least=ALL)
    ] = 0
    keep_within: Annotated[
        Span | None,
        Option(
            "keep points made within this time before the newest, in years, months, days and hours", form=SPAN
        ),
    ] = None
    keep_tags: Annotated[
        tuple[str, ...],
        Option("keep points with this tag; several with commas between them must all be there", form=TAGS),
    ] = ()
    time_zone: Annotated[
        str,
        Option("time zone in which hours, days, weeks, months and years begin; UTC without it", form=ZONE),
    ] = "UTC"

    def __post_init__(self) -> None:
        counts = (
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        )
        if min(counts) < ALL:
            raise ValueError("a number of points must be -1 or more")
        if not any(counts) and self.keep_within is None and not self.keep_tags:
            raise NoRetentionRule

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return zone_of(self.time_zone)

    @property
    def tag_lists(self) -> tuple[frozenset[str], ...]:
        """Tags, of which all in one set must be there."""
        return tuple(frozenset(parse_tags(tags).split(",")) for tags in self.keep_tags)


# Names of the rules, in their order.
RULES = tuple(name for name in options_of(Rules) if name.startswith("keep_"))
