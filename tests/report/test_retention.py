"""What is shown of retention: documents, tables, lines."""

from __future__ import annotations

import json
from datetime import date, time, timedelta
from uuid import UUID

import jsonschema

from hvpsbridge.formats.retention import (
    RetentionPoint,
    Rules,
    Schedule,
    Span,
    Usable,
    decide,
    guard,
    simulate,
)
from hvpsbridge.report.documents import document_schema, document_text
from hvpsbridge.report.documents.retention import Retained, RetentionSimulated, simulated
from hvpsbridge.report.retention_views import (
    retention_lines,
    retention_table,
    simulated_line,
    simulated_tables,
)
from hvpsbridge.tasks.retention.shown import PruneReport, prune_report
from tests.formats.retention.made import utc

RULES = Rules(keep_daily=2, keep_weekly=2, keep_tags=("audit", "a,b"), time_zone="Europe/Berlin")
NOW = utc("2026-10-27 12:00")


def _points() -> list[RetentionPoint]:
    points = [
        RetentionPoint(
            vm_id=UUID(int=1),
            vm_name="web",
            point_id=UUID(int=day << 96),
            made=utc("2026-10-15 22:30") + timedelta(days=day),
            tags=frozenset({"audit", "x"}) if day == 1 else frozenset(),
            usable=Usable.DAMAGED if day == 2 else Usable.GOOD,
            protected=day == 3,
        )
        for day in range(1, 12)
    ]
    points.append(
        RetentionPoint(
            vm_id=UUID(int=2), vm_name="db", point_id=UUID(int=99 << 96), made=NOW + timedelta(hours=30)
        )
    )
    return points


def _retained() -> PruneReport:
    decisions = decide(RULES, _points(), NOW)
    return prune_report(RULES, decisions, guard(decisions, [], NOW), NOW)


def test_the_table_says_what_happens_to_each_point_and_why() -> None:
    table = retention_table(_retained())
    assert table.title == "recovery points, times of Europe/Berlin"
    assert table.columns == ("VM", "point", "made", "age", "state", "tags", "decision", "why")
    assert table.rows[0] == (
        "db",
        "00000063",
        "2026-10-28 19:00 +0100",
        "-30 h",
        "good",
        "",
        "keep",
        "in the future",
    )
    assert table.rows[1] == (
        "web",
        "00000001",
        "2026-10-17 00:30 +0200",
        "10 d",
        "good",
        "audit, x",
        "keep",
        "tag audit",
    )
    assert table.rows[2][4:] == ("damaged", "", "remove", "no rule keeps it")
    assert table.rows[3][6:] == ("keep", "protected")
    assert table.rows[4][6:] == ("remove", "no rule keeps it")
    assert table.rows[-1][2:] == (
        "2026-10-26 23:30 +0100",
        "13 h",
        "good",
        "",
        "keep",
        "daily 1/2 (2026-10-26), weekly 1/2 (2026-W44), newest of the VM",
    )


def test_the_lines_below_have_rules_what_is_out_of_line_and_the_number() -> None:
    assert list(retention_lines(_retained())) == [
        "rules: keep_daily: 2, keep_weekly: 2, keep_tags: [audit, 'a,b']; time zone Europe/Berlin",
        "out of line: 7 of 11 points of VM web (earlier prunes: none)",
        "a prune would refuse this unless the number is confirmed with --remove 7",
        "7 points to remove, 5 to keep, 2 VMs",
    ]


def test_the_document_follows_its_schema() -> None:
    document = json.loads(document_text(Retained(True, _retained())))
    jsonschema.validate(document, document_schema(Retained, title="check"))
    assert (document["kept"], document["removed"]) == (5, 7)
    assert document["vms"][1]["points"][0]["reasons"] == [{"reason": "keep_tags", "text": "tag audit"}]
    assert document["vms"][0]["points"][0]["age_seconds"] == -30 * 3600


def test_a_simulation_is_shown_by_age_point_and_growth() -> None:
    rules = Rules(keep_daily=7, keep_monthly=-1, keep_within=Span(days=2))
    schedule = Schedule((time(20), time(2)))
    found = simulated(rules, schedule, simulate(rules, schedule, 90, date(2026, 1, 1)))
    document = json.loads(document_text(found))
    jsonschema.validate(document, document_schema(RetentionSimulated, title="simulate"))
    assert document["rules"] == ["keep_daily: 7", "keep_monthly: -1", "keep_within: 2d"]
    ages, points, growth = simulated_tables(found)
    assert ages.rows == (
        ("up to 1 day", "3"),
        ("up to 1 week", "6"),
        ("up to 1 month", "1"),
        ("up to 3 months", "1"),
    )
    assert points.rows[0] == ("2026-01-31 20:00 +0000", "59 d", "monthly 3 (2026-01)")
    assert len(points.rows) == 11
    assert growth.rows[-1] == ("90 days", "11")
    assert simulated_line(found) == (
        "180 points of one VM made at 02:00, 20:00 in 90 days, 11 left, at most 11 after a prune"
    )
