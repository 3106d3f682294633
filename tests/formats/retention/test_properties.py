"""What is true of any points and any rules."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats.retention import (
    Decision,
    RetentionPoint,
    Rules,
    Span,
    State,
    Usable,
    Why,
    decide,
)

START = datetime(2026, 10, 20, tzinfo=UTC)
NOW = START + timedelta(days=80)
COUNTS = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati")

_points = st.lists(
    st.builds(
        RetentionPoint,
        vm_id=st.sampled_from([UUID(int=1), UUID(int=2)]),
        point_id=st.uuids(version=4),
        # Close together around the days on which clocks go back, and spread over a year and more.
        made=st.one_of(
            st.integers(0, 12 * 24 * 4).map(lambda quarter: START + timedelta(minutes=15 * quarter)),
            st.integers(-800, 100).map(lambda days: START + timedelta(days=days)),
        ),
        sequence=st.one_of(st.just(0), st.integers(1, 50)),
        tags=st.frozensets(st.sampled_from(["a", "b", "c"])),
        disks=st.frozensets(st.sampled_from(["x", "y"])),
        protected=st.sampled_from([False, False, False, True]),
        base=st.sampled_from([False, False, False, True]),
        usable=st.sampled_from([Usable.GOOD, Usable.GOOD, Usable.GOOD, *Usable]),
        consistency=st.sampled_from(["application", "application", "crash"]),
    ),
    max_size=40,
    unique_by=lambda point: point.point_id,
)
_spans = st.builds(
    Span,
    years=st.integers(0, 2),
    months=st.integers(0, 14),
    days=st.integers(0, 40),
    hours=st.integers(1, 50),
)


@st.composite
def _rules(draw: st.DrawFn) -> Rules:
    numbers = {name: draw(st.sampled_from([0, 0, 0, -1, 1, 2, 3, 7])) for name in COUNTS}
    tags = draw(st.lists(st.sampled_from(["a", "a,b", "c"]), max_size=2))
    within = draw(st.none() | _spans)
    if not any(numbers.values()) and within is None and not tags:
        numbers["keep_last"] = 1
    return Rules(**numbers, keep_tags=tuple(tags), keep_within=within, time_zone=draw(st.sampled_from(ZONES)))


def _decisions(rules: Rules, points: list[RetentionPoint], now: datetime = NOW) -> dict[UUID, Decision]:
    return {
        decision.point.point_id: decision for vm in decide(rules, points, now) for decision in vm.decisions
    }


def _kept(rules: Rules, points: list[RetentionPoint]) -> set[UUID]:
    return {point_id for point_id, decision in _decisions(rules, points).items() if decision.keep}


@settings(max_examples=150, deadline=None)
@given(_rules(), _points)
def test_each_point_has_one_decision_with_its_reasons_in_order(
    rules: Rules, points: list[RetentionPoint]
) -> None:
    found = _decisions(rules, points)
    assert found.keys() == {point.point_id for point in points}
    places = list(Why)
    for decision in found.values():
        order = [places.index(reason.why) for reason in decision.reasons]
        assert order == sorted(order)
        assert order
        assert decision.keep is (decision.reasons[0].why is not Why.NO_RULE)


@settings(max_examples=150, deadline=None)
@given(_rules(), _points)
def test_the_newest_good_point_of_each_vm_and_disk_stays(rules: Rules, points: list[RetentionPoint]) -> None:
    kept = _kept(rules, points)
    for vm_id in {point.vm_id for point in points}:
        for disk in ("", "x", "y"):
            for states in ({State.GOOD}, {State.GOOD, State.LESS_CONSISTENT}):
                among = [
                    point
                    for point in points
                    if point.vm_id == vm_id and point.made <= NOW and point.state in states
                    if not disk or disk in point.disks
                ]
                for key in (lambda p: p.made, lambda p: p.sequence):
                    if among:
                        newest = max(map(key, among))
                        assert any(point.point_id in kept for point in among if key(point) == newest)


@settings(max_examples=150, deadline=None)
@given(_rules(), _points)
def test_what_must_stay_stays(rules: Rules, points: list[RetentionPoint]) -> None:
    found = _decisions(rules, points)
    for point in points:
        must = (
            point.protected
            or point.base
            or point.made > NOW
            or point.state in (State.FENCED, State.INCOMPLETE)
            or any(tags <= point.tags for tags in rules.tag_lists)
        )
        assert found[point.point_id].keep or not must
        if point.state is State.DAMAGED and not found[point.point_id].keep:
            assert any(
                other.made > point.made and other.vm_id == point.vm_id
                for other in points
                if other.state in (State.GOOD, State.LESS_CONSISTENT) and found[other.point_id].keep
            )


@settings(max_examples=150, deadline=None)
@given(_rules(), _points, st.data())
def test_more_rules_keep_more(rules: Rules, points: list[RetentionPoint], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*COUNTS, "keep_within", "keep_tags"]))
    value = getattr(rules, name)
    more: object
    if name == "keep_within":
        longer = data.draw(_spans)
        more = (
            longer
            if value is None
            else Span(
                years=value.years + longer.years,
                months=value.months + longer.months,
                days=value.days + longer.days,
                hours=value.hours + longer.hours,
            )
        )
    elif name == "keep_tags":
        more = (*value, "b")
    else:
        more = -1 if value == -1 else data.draw(st.sampled_from([-1, value + 1, value + 5]))
    assert _kept(rules, points) <= _kept(dataclasses.replace(rules, **{name: more}), points)


@settings(max_examples=150, deadline=None)
@given(_rules(), _points)
def test_applied_again_nothing_more_is_removed(rules: Rules, points: list[RetentionPoint]) -> None:
    kept = _kept(rules, points)
    left = [point for point in points if point.point_id in kept]
    assert _kept(rules, left) == kept


@settings(max_examples=100, deadline=None)
@given(_rules(), _points, st.randoms())
def test_the_order_does_not_matter(rules: Rules, points: list[RetentionPoint], random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(rules, shuffled, NOW) == decide(rules, points, NOW)


@settings(max_examples=150, deadline=None)
@given(_rules(), _points)
def test_worse_points_change_nothing_for_good_ones(rules: Rules, points: list[RetentionPoint]) -> None:
    good = [point for point in points if point.state is State.GOOD]
    assert _kept(rules, good) == _kept(rules, points) & {point.point_id for point in good}
    usable = [point for point in points if point.state in (State.GOOD, State.LESS_CONSISTENT)]
    assert _kept(rules, usable) == _kept(rules, points) & {point.point_id for point in usable}


@settings(max_examples=100, deadline=None)
@given(_rules(), _points)
def test_a_later_clock_removes_no_more_of_what_was_not_in_the_future(
    rules: Rules, points: list[RetentionPoint]
) -> None:
    past = [point for point in points if point.made <= NOW]
    late = {
        decision.point.point_id
        for decision in _decisions(rules, past, NOW + timedelta(days=99999)).values()
        if decision.keep
    }
    assert late == _kept(rules, past)
