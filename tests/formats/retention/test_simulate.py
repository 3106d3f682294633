"""How many points of which age a schedule and rules will hold."""

from __future__ import annotations

from datetime import date, time

import pytest

from hvpsbridge.formats.retention import AgeRange, HeldAfter, Rules, Schedule, Span, Why, decide, simulate

from .made import LATER, nights

START = date(2026, 1, 1)


def test_a_year_of_nights() -> None:
    rules = Rules(keep_daily=7, keep_weekly=5, keep_monthly=12, keep_yearly=3, time_zone="Europe/Berlin")
    found = simulate(rules, Schedule(), 365, START)
    assert (found.days, found.made) == (365, 365)
    # 25 to 31 December; Sundays 6, 13 and 20 December (27 and 31 are days, too); ends of January to November.
    assert len(found.held) == 7 + 3 + 11
    assert found.ages == (
        AgeRange("up to 1 day", 2),
        AgeRange("up to 1 week", 5),
        AgeRange("up to 1 month", 4),
        AgeRange("up to 3 months", 1),
        AgeRange("up to 6 months", 3),
        AgeRange("up to 1 year", 6),
    )
    assert found.after[0].days == 30
    assert found.after[-1] == HeldAfter(365, 21)
    assert found.most >= 21
    assert [reason.why for reason in found.held[-1].reasons] == [
        Why.DAILY,
        Why.WEEKLY,
        Why.MONTHLY,
        Why.YEARLY,
        Why.NEWEST,
    ]


@pytest.mark.parametrize(
    "rules",
    [
        Rules(keep_last=5),
        Rules(keep_daily=7, keep_weekly=4, keep_monthly=12, keep_yearly=2),
        Rules(keep_within=Span(days=30), keep_monthly=-1),
        Rules(keep_hourly=24, keep_weekly=60, time_zone="America/New_York"),
    ],
)
def test_a_prune_each_night_leaves_what_one_at_the_end_leaves(rules: Rules) -> None:
    found = simulate(rules, Schedule((time(2), time(14))), 400, START)
    zone = rules.time_zone
    if zone == "UTC":
        points = sorted(
            (*nights("2026-01-01 02:00", 400), *nights("2026-01-01 14:00", 400)), key=lambda point: point.made
        )
        (vm,) = decide(rules, points, LATER)
        assert [decision.point.made for decision in found.held] == [point.made for point in vm.kept]
    assert found.made == 800
    assert max(each.points for each in found.after) <= found.most


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one backup"):
        simulate(Rules(keep_last=1), Schedule(()), 1, START)
    for days in (0, 100000):
        with pytest.raises(ValueError, match="between 1 and"):
            simulate(Rules(keep_last=1), Schedule(), days, START)
