"""Golden cases of the counting. Times are UTC unless a zone is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from hvpsbridge.formats.retention import RetentionPoint, Rules, Span, State, Usable, Why, decide

from .made import VM, decided, kept, nights, point, utc, whys

# -- periods ----------------------------------------------------------------------------------------


def test_the_newest_point_of_each_period_stays_and_rules_overlap() -> None:
    rules = Rules(keep_last=1, keep_daily=2, keep_weekly=2, keep_monthly=2)
    points = nights("2026-03-01 02:00", 20)  # a Sunday, to Friday 20 March
    assert kept(rules, points) == [
        "2026-03-15 02:00",  # Sunday of the week before
        "2026-03-19 02:00",
        "2026-03-20 02:00",
    ]
    found = whys(rules, points)
    assert found["2026-03-20 02:00"] == [Why.LAST, Why.DAILY, Why.WEEKLY, Why.MONTHLY, Why.NEWEST]
    assert found["2026-03-15 02:00"] == [Why.WEEKLY]
    assert found["2026-03-14 02:00"] == [Why.NO_RULE]


def test_a_reason_says_which_place_of_how_many_and_which_period() -> None:
    rules = Rules(keep_last=2, keep_hourly=2, keep_daily=2, keep_weekly=2, keep_monthly=2, keep_yearly=-1)
    newest = decided(rules, nights("2026-03-01 02:00", 20)).decisions[-1]
    assert [reason.text for reason in newest.reasons] == [
        "last 1/2",
        "hourly 1/2 (2026-03-20 02h)",
        "daily 1/2 (2026-03-20)",
        "weekly 1/2 (2026-W12)",
        "monthly 1/2 (2026-03)",
        "yearly 1 (2026)",
        "newest of the VM",
    ]


def test_empty_periods_do_not_count() -> None:
    points = [point(at) for at in ("2020-01-01", "2023-06-05", "2026-03-01", "2026-03-30", "2026-03-31")]
    assert kept(Rules(keep_daily=4), points) == ["2023-06-05", "2026-03-01", "2026-03-30", "2026-03-31"]
    assert kept(Rules(keep_yearly=3), points) == ["2020-01-01", "2023-06-05", "2026-03-31"]


def test_weeks_are_those_of_iso_8601_across_the_end_of_a_year() -> None:
    # 2026 has 53 weeks: Monday 28 December to Sunday 3 January.
    points = nights("2026-12-26", 11)
    assert kept(Rules(keep_weekly=3), points) == ["2026-12-27", "2027-01-03", "2027-01-05"]
    assert kept(Rules(keep_yearly=2), points) == ["2026-12-31", "2027-01-05"]
    # The last days of 2024 are in week 1 of 2025.
    points = nights("2024-12-28", 5)
    assert kept(Rules(keep_weekly=2), points) == ["2024-12-29", "2025-01-01"]
    found = decided(Rules(keep_weekly=2), points).decisions[-1].reasons
    assert found[0].text == "weekly 1/2 (2025-W01)"


def test_leap_days() -> None:
    points = nights("2028-02-27", 5)
    assert kept(Rules(keep_monthly=2), points) == ["2028-02-29", "2028-03-02"]
    assert kept(Rules(keep_daily=3), points) == ["2028-02-29", "2028-03-01", "2028-03-02"]
    # 29 February a year before is 1 March.
    points = [point(at) for at in ("2027-02-28 12:00", "2027-03-01", "2027-03-01 00:01", "2028-02-29")]
    assert kept(Rules(keep_within=Span(years=1)), points) == ["2027-03-01 00:01", "2028-02-29"]


def test_two_points_in_an_hour_take_one_place() -> None:
    points = [
        point(at) for at in ("2026-03-01 01:10", "2026-03-01 01:50", "2026-03-01 02:00", "2026-03-01 02:59")
    ]
    assert kept(Rules(keep_hourly=2), points) == ["2026-03-01 01:50", "2026-03-01 02:59"]
    assert kept(Rules(keep_last=3), points) == ["2026-03-01 01:50", "2026-03-01 02:00", "2026-03-01 02:59"]


def test_points_of_the_same_moment_are_told_apart_by_sequence() -> None:
    points = [point("2026-03-01", point_id=UUID(int=9 - number), sequence=number) for number in (1, 2, 3)]
    (last,) = decided(Rules(keep_last=1), points).kept
    assert last.sequence == 3


def test_minus_one_keeps_all_periods() -> None:
    points = nights("2026-01-01", 400)
    assert len(kept(Rules(keep_monthly=-1), points)) == 14
    assert len(kept(Rules(keep_last=-1), points)) == 400


# -- time zones -------------------------------------------------------------------------------------


def test_days_begin_in_the_time_zone() -> None:
    points = [point(at) for at in ("2026-07-01 21:30", "2026-07-01 22:30", "2026-07-02 21:59")]
    assert kept(Rules(keep_daily=2), points) == ["2026-07-01 22:30", "2026-07-02 21:59"]
    berlin = Rules(keep_daily=2, time_zone="Europe/Berlin")
    assert kept(berlin, points) == ["2026-07-01 21:30", "2026-07-02 21:59"]


def _every_half_hour(first: str, count: int) -> list[RetentionPoint]:
    return [point(utc(first) + timedelta(minutes=30 * number)) for number in range(count)]


def test_clocks_go_forward() -> None:
    # At 01:00 UTC it becomes 03:00 in Berlin: there is no hour 2.
    points = _every_half_hour("2026-03-29 00:00", 4)
    rules = Rules(keep_hourly=2, time_zone="Europe/Berlin")
    assert kept(rules, points) == ["2026-03-29 00:30", "2026-03-29 01:30"]
    texts = [each.reasons[0].text for each in decided(rules, points).decisions if each.keep]
    assert texts == ["hourly 2/2 (2026-03-29 01h)", "hourly 1/2 (2026-03-29 03h)"]


def test_clocks_go_back() -> None:
    # At 01:00 UTC it becomes 02:00 in Berlin again: hour 2 has 120 minutes and one place, as in restic.
    points = _every_half_hour("2026-10-24 23:30", 6)
    rules = Rules(keep_hourly=3, time_zone="Europe/Berlin")
    assert kept(rules, points) == ["2026-10-24 23:30", "2026-10-25 01:30", "2026-10-25 02:00"]


def test_a_day_of_25_hours_is_one_day() -> None:
    points = _every_half_hour("2026-10-24 21:30", 53)
    berlin = Rules(keep_daily=3, time_zone="Europe/Berlin")
    assert kept(berlin, points) == ["2026-10-24 21:30", "2026-10-25 22:30", "2026-10-25 23:30"]


@pytest.mark.parametrize(
    ("zone", "rule", "points", "stay"),
    [
        # Half an hour back, at 15:00 UTC.
        (
            "Australia/Lord_Howe",
            {"keep_hourly": 2},
            ["2026-04-04 14:15", "2026-04-04 14:45", "2026-04-04 15:15", "2026-04-04 15:30"],
            ["2026-04-04 15:15", "2026-04-04 15:30"],
        ),
        # 30 December 2011 did not happen.
        (
            "Pacific/Apia",
            {"keep_daily": 2},
            ["2011-12-29 12:00", "2011-12-30 09:59", "2011-12-30 10:00"],
            ["2011-12-30 09:59", "2011-12-30 10:00"],
        ),
        # Midnight does not exist on this day.
        (
            "America/Sao_Paulo",
            {"keep_daily": 2},
            ["2018-11-04 02:30", "2018-11-04 02:59", "2018-11-04 03:00"],
            ["2018-11-04 02:59", "2018-11-04 03:00"],
        ),
        # One minute past midnight it became a minute past eleven of the day before: each day has one place.
        (
            "America/St_Johns",
            {"keep_daily": 2},
            ["2010-11-07 02:00", "2010-11-07 02:30:30", "2010-11-07 02:45", "2010-11-07 04:00"],
            ["2010-11-07 02:45", "2010-11-07 04:00"],
        ),
    ],
)
def test_odd_days_of_other_zones(zone: str, rule: dict[str, int], points: list[str], stay: list[str]) -> None:
    rules = Rules(**rule, time_zone=zone)  # type: ignore[arg-type]
    assert kept(rules, [point(at) for at in points]) == stay


def test_the_first_and_last_days_of_all_can_be_counted() -> None:
    points = [
        point(datetime.min.replace(tzinfo=UTC)),
        point(datetime.max.replace(tzinfo=UTC)),
    ]
    now = datetime.max.replace(tzinfo=UTC)
    for zone in ("America/New_York", "Asia/Tokyo"):
        assert len(kept(Rules(keep_hourly=2, keep_within=Span(years=9), time_zone=zone), points, now)) == 2


# -- within, tags -----------------------------------------------------------------------------------


def test_within_counts_from_the_newest_point_and_not_from_now() -> None:
    points = nights("2026-03-01", 10)
    rules = Rules(keep_within=Span(days=2))
    assert kept(rules, points, utc("2099-01-01")) == ["2026-03-09", "2026-03-10"]
    # Exactly two days old is not within two days.
    assert kept(Rules(keep_within=Span(days=2, hours=1)), points)[0] == "2026-03-08"


def test_tags_are_kept_and_not_counted() -> None:
    points = nights("2026-03-01", 5)
    points[0] = point("2026-03-01", tags=frozenset({"audit", "sql"}))
    points[1] = point("2026-03-02", tags=frozenset({"sql"}))
    assert kept(Rules(keep_tags=("audit",)), points) == ["2026-03-01", "2026-03-05"]
    assert kept(Rules(keep_tags=("sql,audit",)), points) == ["2026-03-01", "2026-03-05"]
    assert kept(Rules(keep_tags=("audit", "sql")), points) == ["2026-03-01", "2026-03-02", "2026-03-05"]
    assert kept(Rules(keep_last=2, keep_tags=("audit",)), points) == [
        "2026-03-01",
        "2026-03-04",
        "2026-03-05",
    ]


# -- clocks -----------------------------------------------------------------------------------------


def test_future_points_stay_and_neither_count_nor_move_the_span() -> None:
    points = [*nights("2026-03-01", 10), point("2040-01-01")]
    now = utc("2026-03-10 12:00")
    assert kept(Rules(keep_within=Span(days=2)), points, now) == ["2026-03-09", "2026-03-10", "2040-01-01"]
    assert kept(Rules(keep_last=1), points, now) == ["2026-03-10", "2040-01-01"]
    assert kept(Rules(keep_yearly=1), points, now) == ["2026-03-10", "2040-01-01"]
    assert whys(Rules(keep_last=1), points, now)["2040-01-01"] == [Why.FUTURE]


def test_a_clock_behind_the_points_removes_nothing_that_it_cannot_date() -> None:
    points = nights("2026-03-01", 10)
    assert kept(Rules(keep_last=1), points, utc("2026-03-03")) == [
        f"2026-03-{day:02}" for day in range(3, 11)
    ]
    assert len(kept(Rules(keep_last=1), points, utc("2020-01-01"))) == 10


def test_the_newest_point_stays_although_its_clock_was_wrong() -> None:
    # The battery of the machine was empty.
    points = [point(f"2026-03-0{day}", sequence=day) for day in range(1, 6)]
    points.append(point("2000-01-01", sequence=6))
    assert kept(Rules(keep_last=2), points) == ["2000-01-01", "2026-03-04", "2026-03-05"]
    # The next point is dated well again, and it is an old one like others.
    points.append(point("2026-03-07", sequence=7))
    assert kept(Rules(keep_last=2), points) == ["2026-03-05", "2026-03-07"]


# -- what stays whatever is counted -----------------------------------------------------------------


def test_protected_points_and_bases_stay_and_take_their_places() -> None:
    points = nights("2026-03-01", 5)
    points[0] = point("2026-03-01", protected=True)
    points[1] = point("2026-03-02", base=True)
    points[4] = point("2026-03-05", protected=True)
    assert kept(Rules(keep_last=2), points) == ["2026-03-01", "2026-03-02", "2026-03-04", "2026-03-05"]
    found = whys(Rules(keep_last=2), points)
    assert found["2026-03-01"] == [Why.PROTECTED]
    assert found["2026-03-02"] == [Why.BASE]
    assert found["2026-03-05"] == [Why.LAST, Why.PROTECTED, Why.NEWEST]


def test_the_newest_point_of_each_disk_stays() -> None:
    both, one = frozenset({"scsi 0:0", "scsi 0:1"}), frozenset({"scsi 0:0"})
    points = [*nights("2026-03-01", 3, disks=both), *nights("2026-03-04", 3, disks=one)]
    vm = decided(Rules(keep_last=1), points)
    assert [each.made.day for each in vm.kept] == [3, 6]
    assert [reason.text for reason in vm.decisions[2].reasons] == ["newest of disk scsi 0:1"]


def test_a_point_that_is_the_newest_of_two_disks_says_so_twice() -> None:
    points = [point("2026-03-01", disks=frozenset({"b", "a"})), point("2026-03-02")]
    (first, _) = decided(Rules(keep_last=1), points).decisions
    assert [reason.text for reason in first.reasons] == ["newest of disk a", "newest of disk b"]


# -- points that are not good -----------------------------------------------------------------------


def _crash(at: str) -> RetentionPoint:
    return point(at, consistency="crash")


def _damaged(at: str) -> RetentionPoint:
    return point(at, usable=Usable.DAMAGED)


@pytest.mark.parametrize(
    ("asked", "reached", "state"),
    [
        ("application_or_crash", "application", State.GOOD),
        ("application_or_crash", "crash", State.LESS_CONSISTENT),
        ("application_or_crash", "unknown", State.LESS_CONSISTENT),
        ("application", "application", State.GOOD),
        ("application", "crash", State.LESS_CONSISTENT),
        ("crash", "crash", State.GOOD),
        ("crash", "application", State.GOOD),
    ],
)
def test_consistency_counts_by_what_was_asked_for(asked: str, reached: str, state: State) -> None:
    assert point("2026-03-01", consistency_asked=asked, consistency=reached).state is state


def test_damage_comes_before_consistency() -> None:
    assert point("2026-03-01", consistency="crash", usable=Usable.DAMAGED).state is State.DAMAGED


@pytest.mark.parametrize("worse", [_crash, _damaged])
def test_a_worse_point_takes_no_place_and_stays_as_long_as_a_good_one_would(worse: type) -> None:
    points = [*nights("2026-03-01", 4), worse("2026-03-05")]
    assert kept(Rules(keep_last=2), points) == ["2026-03-03", "2026-03-04", "2026-03-05"]
    # In the same day, the newer one.
    points = [*nights("2026-03-01", 4), worse("2026-03-04 12:00")]
    assert kept(Rules(keep_daily=2), points) == ["2026-03-03", "2026-03-04", "2026-03-04 12:00"]
    # Two good nights later its place among all is taken.
    points = [*nights("2026-03-01", 4), worse("2026-03-05"), *nights("2026-03-06", 2)]
    assert kept(Rules(keep_daily=2), points) == ["2026-03-06", "2026-03-07"]


def test_worse_points_do_not_pile_up() -> None:
    points = [*nights("2026-03-01", 4), *(_crash(f"2026-03-{day:02}") for day in range(5, 29))]
    assert kept(Rules(keep_daily=2), points) == ["2026-03-03", "2026-03-04", "2026-03-27", "2026-03-28"]
    points += [_damaged("2026-03-29")]
    assert kept(Rules(keep_daily=2), points)[-3:] == ["2026-03-27", "2026-03-28", "2026-03-29"]


def test_the_span_of_good_points_begins_at_a_good_one() -> None:
    points = [*nights("2026-03-01", 4), *(_crash(f"2026-04-{day:02}") for day in range(1, 29))]
    rules = Rules(keep_within=Span(days=2))
    assert kept(rules, points) == ["2026-03-03", "2026-03-04", "2026-04-27", "2026-04-28"]


def test_a_vm_whose_points_are_all_crash_consistent_is_counted_as_any_other() -> None:
    points = [_crash(f"2026-03-{day:02}") for day in range(1, 29)]
    assert kept(Rules(keep_daily=3), points) == ["2026-03-26", "2026-03-27", "2026-03-28"]


def test_the_newest_good_point_stays_below_damaged_ones() -> None:
    points = [
        point("2026-03-01"),
        _crash("2026-03-02"),
        *(_damaged(f"2026-03-{day:02}") for day in (3, 4, 5)),
    ]
    found = whys(Rules(keep_tags=("none",)), points)
    assert found["2026-03-01"] == [Why.NEWEST]
    assert found["2026-03-02"] == [Why.NEWEST]
    assert found["2026-03-05"] == [Why.NEWEST]
    # Damaged, and nothing newer shows the same time or later.
    assert found["2026-03-03"] == found["2026-03-04"] == [Why.NOT_COVERED]


def test_a_damaged_point_goes_once_a_newer_one_can_be_used() -> None:
    points = [_damaged("2026-03-01"), point("2026-03-02")]
    assert kept(Rules(keep_tags=("none",)), points) == ["2026-03-02"]
    points = [_damaged("2026-03-01"), _crash("2026-03-02")]
    assert kept(Rules(keep_tags=("none",)), points) == ["2026-03-02"]


@pytest.mark.parametrize(
    ("usable", "why"), [(Usable.FENCED, Why.FENCED), (Usable.INCOMPLETE, Why.INCOMPLETE)]
)
def test_what_is_not_a_point_is_left_alone_and_not_counted(usable: Usable, why: Why) -> None:
    points = [*nights("2026-03-01", 3), *nights("2026-03-04", 3, usable=usable)]
    found = whys(Rules(keep_last=1), points)
    assert found["2026-03-03"] == [Why.LAST, Why.NEWEST]
    assert found["2026-03-02"] == [Why.NO_RULE]
    assert found["2026-03-05"] == found["2026-03-06"] == [why]


# -- VMs --------------------------------------------------------------------------------------------


def test_vms_are_counted_apart_by_id_and_have_their_newest_name() -> None:
    other = UUID(int=2)
    points = [
        *nights("2026-03-01", 3, vm_name="old"),
        point("2026-03-04", vm_name="web"),
        point("2026-03-01", vm_id=other, vm_name="db", point_id=UUID(int=7)),
    ]
    found = decide(Rules(keep_last=1), points, utc("2026-04-01"))
    assert [(vm.vm_name, vm.vm_id, len(vm.kept), len(vm.removed)) for vm in found] == [
        ("db", other, 1, 0),
        ("web", VM, 1, 3),
    ]


def test_no_points_no_decisions() -> None:
    assert decide(Rules(keep_last=1), [], utc("2026-03-01")) == ()


def test_times_of_a_zone_are_told_apart_when_its_clock_reads_the_same_twice() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    points = [
        point(first.replace(fold=1), point_id=UUID(int=1)),
        point(first.replace(minute=45), point_id=UUID(int=2)),
    ]
    (last,) = decided(Rules(keep_last=1), points).kept
    assert last.point_id == UUID(int=1)
    assert last.made.tzinfo is UTC


def test_a_time_without_its_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        RetentionPoint(vm_id=VM, point_id=VM, made=datetime(2026, 3, 1))  # noqa: DTZ001
