"""Whether a number of removals is out of line with earlier prunes."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.errors import ExitCode, PruneOutOfLine
from hvpsbridge.formats.retention import (
    GuardVerdict,
    PastPrune,
    Rules,
    Usable,
    VmDecisions,
    decide,
    guard,
    past_prunes,
    refuse_out_of_line,
)

from .made import nights, utc

NOW = utc("2026-06-01")


def _vms(number: int, points: int, keep: int, last: str = "2026-05-31") -> tuple[VmDecisions, ...]:
    """Decisions about VMs with a point a night up to ``last``, of which ``keep`` stay."""
    first = str(utc(last) - timedelta(days=points - 1))[:10]
    found = [
        point
        for vm in range(number)
        for point in nights(first, points, vm_id=UUID(int=vm + 1), vm_name=f"vm{vm + 1}")
    ]
    return decide(Rules(keep_last=keep), found, NOW)


def _nightly(per_vm: int = 1, vms: int = 50, last: datetime = NOW - timedelta(days=1)) -> list[PastPrune]:
    counts = {UUID(int=vm + 1): per_vm for vm in range(vms)}
    return [PastPrune(last - timedelta(days=day), counts) for day in range(20)]


def test_the_first_prune_of_a_new_repository_is_in_line() -> None:
    assert guard(_vms(50, 8, 7), [], NOW) == GuardVerdict(50, ())
    assert guard((), [], NOW).in_line


def test_the_first_prune_of_a_year_of_points_is_not() -> None:
    verdict = guard(_vms(2, 365, 30), [], NOW)
    assert verdict.removed == 670
    assert [finding.text for finding in verdict.findings] == [
        "670 of 730 points (earlier prunes: none)",
        "335 of 365 points of VM vm1 (earlier prunes: none)",
        "335 of 365 points of VM vm2 (earlier prunes: none)",
    ]


def test_a_prune_like_those_before_is_in_line() -> None:
    assert guard(_vms(50, 31, 30), _nightly(), NOW).in_line
    assert guard(_vms(50, 33, 30), _nightly(), NOW).in_line


def test_a_rule_that_lost_a_digit_is_out_of_line() -> None:
    verdict = guard(_vms(50, 31, 3), _nightly(), NOW)
    assert verdict.findings[0].text == "1400 of 1550 points (earlier prunes: at most 50)"
    assert verdict.findings[1].text == "28 of 31 points of VM vm1 (earlier prunes: at most 1)"
    assert len(verdict.findings) == 51


def test_one_vm_that_would_lose_most_of_its_points_is_out_of_line() -> None:
    few = _vms(50, 31, 30)
    lost = _vms(1, 31, 5)[0]
    verdict = guard((lost, *few[1:]), _nightly(), NOW)
    assert [finding.vm_id for finding in verdict.findings] == [UUID(int=1)]


def test_after_weeks_without_a_prune_as_many_points_may_go_as_were_made() -> None:
    history = _nightly(last=NOW - timedelta(days=21, hours=1))
    assert guard(_vms(50, 51, 30), history, NOW).in_line
    # More than half of each VM, but no more than was made since.
    assert guard(_vms(50, 28, 7), history, NOW).in_line
    assert not guard(_vms(50, 51, 20), history, NOW).in_line


def test_a_weekly_prune_down_to_one_point_is_confirmed_once() -> None:
    weekly = _vms(3, 8, 1)
    assert not guard(weekly, [], NOW).in_line
    assert guard(
        weekly, [PastPrune(NOW - timedelta(days=7), {UUID(int=vm): 7 for vm in (1, 2, 3)})], NOW
    ).in_line


def test_only_the_last_ten_prunes_count_and_none_in_the_future() -> None:
    large = {UUID(int=1): 300}
    old = [PastPrune(NOW - timedelta(days=100), large), *_nightly(vms=1)]
    assert not guard(_vms(1, 60, 30), old, NOW).in_line
    assert guard(_vms(1, 60, 30), [*_nightly(vms=1), PastPrune(NOW - timedelta(hours=1), large)], NOW).in_line
    assert not guard(
        _vms(1, 60, 30), [*_nightly(vms=1), PastPrune(NOW + timedelta(hours=1), large)], NOW
    ).in_line


def test_few_points_are_never_out_of_line() -> None:
    assert guard(_vms(1, 3, 1), [], NOW).in_line
    assert not guard(_vms(1, 4, 1), [], NOW).in_line


def test_what_is_not_a_point_does_not_make_a_vm_look_larger() -> None:
    found = [*nights("2026-03-01", 6), *nights("2026-04-01", 6, usable=Usable.FENCED)]
    verdict = guard(decide(Rules(keep_last=1), found, NOW), [], NOW)
    assert [finding.text[:20] for finding in verdict.findings] == ["5 of 6 points of VM "]


def test_the_exact_number_lets_it_go_on() -> None:
    verdict = guard(_vms(5, 31, 3), _nightly(vms=5), NOW)
    refuse_out_of_line(verdict, 140)
    refuse_out_of_line(guard(_vms(5, 31, 30), _nightly(), NOW), None)
    for wrong in (None, 0, 139, 141):
        with pytest.raises(PruneOutOfLine) as err:
            refuse_out_of_line(verdict, wrong)
        assert err.value.code is ExitCode.POLICY
        assert "run it with --remove 140" in str(err.value)
        assert "140 of 155 points (earlier prunes: at most 5), 28 of 31 points of VM vm1" in str(err.value)
        assert "and points of 3 more VMs" in str(err.value)


def test_removals_of_one_prune_are_found_by_their_times() -> None:
    one, other = UUID(int=1), UUID(int=2)
    night = utc("2026-05-01 02:00")
    removals = [
        (one, night + timedelta(days=1)),
        (one, night),
        (other, night + timedelta(minutes=30)),
        (one, night + timedelta(minutes=80)),
    ]
    assert past_prunes(removals) == (
        PastPrune(night + timedelta(minutes=80), {one: 2, other: 1}),
        PastPrune(night + timedelta(days=1), {one: 1}),
    )
    assert past_prunes([]) == ()


@given(st.lists(st.tuples(st.sampled_from([UUID(int=1), UUID(int=2)]), st.integers(0, 400))))
def test_past_prunes_have_every_removal(hours: list[tuple[UUID, int]]) -> None:
    found = past_prunes([(vm_id, NOW + timedelta(hours=hour)) for vm_id, hour in hours])
    assert sum(sum(prune.removed.values()) for prune in found) == len(hours)
    assert list(found) == sorted(found, key=lambda prune: prune.at)
