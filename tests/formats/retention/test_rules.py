"""Rules, spans, tags and time zones as they are written."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from hvpsbridge.errors import ExitCode, NoRetentionRule
from hvpsbridge.formats.retention import Rules, Span, parse_span
from hvpsbridge.formats.retention.rules import parse_tags, parse_zone

from .made import utc


@pytest.mark.parametrize(
    ("text", "span", "plain"),
    [
        ("30d", Span(days=30), "30d"),
        ("2w", Span(days=14), "14d"),
        ("1y6m", Span(years=1, months=6), "1y6m"),
        ("5m", Span(months=5), "5m"),
        (" 36h ", Span(hours=36), "36h"),
        ("1w1d", Span(days=8), "8d"),
        ("2h1y", Span(years=1, hours=2), "1y2h"),
    ],
)
def test_a_span_is_read_and_written(text: str, span: Span, plain: str) -> None:
    assert parse_span(text) == span
    assert str(span) == plain
    assert parse_span(plain) == span


@pytest.mark.parametrize(
    "text", ["", "30", "d", "30 d", "-1d", "1d2d", "1.5d", "30s", "1y6mm", "999999d", "٣d"]
)
def test_what_is_not_a_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="30d, 2w or 1y6m"):
        parse_span(text)


def test_a_span_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        parse_span("0d")


@pytest.mark.parametrize(
    ("span", "zone", "moment", "before"),
    [
        # Days that a month does not have run over into the next, as in restic.
        ("1m", "UTC", "2026-03-31 12:00", "2026-03-03 12:00"),
        ("1m", "UTC", "2028-03-31 12:00", "2028-03-02 12:00"),
        ("1y", "UTC", "2028-02-29 12:00", "2027-03-01 12:00"),
        ("4y", "UTC", "2028-02-29 12:00", "2024-02-29 12:00"),
        ("13m", "UTC", "2026-01-15", "2024-12-15"),
        ("1d", "UTC", "2026-03-01", "2026-02-28"),
        # A day has 23 hours when clocks go forward, and 25 when they go back; hours are hours.
        ("1d", "Europe/Berlin", "2026-03-29 10:00", "2026-03-28 11:00"),
        ("24h", "Europe/Berlin", "2026-03-29 10:00", "2026-03-28 10:00"),
        ("1d", "Europe/Berlin", "2026-10-25 10:00", "2026-10-24 09:00"),
        ("24h", "Europe/Berlin", "2026-10-25 10:00", "2026-10-24 10:00"),
        # 02:30 in both its meanings.
        ("5h", "Europe/Berlin", "2026-10-25 01:30", "2026-10-24 20:30"),
        ("5h", "Europe/Berlin", "2026-10-25 00:30", "2026-10-24 19:30"),
        ("99999y", "UTC", "2026-01-01", "0001-01-01"),
        ("2026y", "UTC", "2026-01-01", "0001-01-01"),
        ("99999d", "UTC", "0200-01-01", "0001-01-01"),
    ],
)
def test_a_span_reaches_back_by_the_calendar(span: str, zone: str, moment: str, before: str) -> None:
    zone_info = UTC if zone == "UTC" else ZoneInfo(zone)
    assert parse_span(span).before(utc(moment), zone_info) == utc(before)


def test_no_rule_is_refused() -> None:
    for none in ({}, {"keep_last": 0}, {"time_zone": "Europe/Berlin"}, {"keep_tags": ()}):
        with pytest.raises(NoRetentionRule, match="keep_last") as err:
            Rules(**none)  # type: ignore[arg-type]
        assert err.value.code is ExitCode.INVALID


def test_a_number_below_minus_one_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 or more"):
        Rules(keep_daily=-2)


def test_each_rule_alone_is_enough() -> None:
    assert Rules(keep_yearly=-1).keep_yearly == -1
    assert Rules(keep_within=Span(days=1)).zone is UTC
    assert Rules(keep_tags=("b, a",)).tag_lists == (frozenset({"a", "b"}),)


@pytest.mark.parametrize("text", ["", ",", "a,,b", " ", "a\nb"])
def test_what_is_not_a_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sql,audit"):
        parse_tags(text)


@pytest.mark.parametrize(
    "text", ["", "Berlin", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/Berlin\n", "\0", "x" * 5000]
)
def test_what_is_not_a_time_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Europe/Berlin or UTC"):
        parse_zone(text)


def test_a_time_zone_is_read() -> None:
    assert parse_zone("Europe/Berlin") == "Europe/Berlin"
    assert parse_zone("UTC") == "UTC"
