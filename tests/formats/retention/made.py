"""Points for tests of retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hvpsbridge.formats.retention import RetentionPoint, Rules, VmDecisions, Why, decide

VM = UUID(int=1)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def point(made: str | datetime, **more: Any) -> RetentionPoint:
    """A point; its id is its time unless another is given."""
    at = utc(made) if isinstance(made, str) else made
    microseconds = (at - datetime(1, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return RetentionPoint(**{"vm_id": VM, "point_id": UUID(int=microseconds), "made": at, **more})


def nights(first: str, count: int, **more: Any) -> list[RetentionPoint]:
    return [point(utc(first) + timedelta(days=day), **more) for day in range(count)]


def decided(rules: Rules, points: list[RetentionPoint], now: datetime = LATER) -> VmDecisions:
    """Decisions about the points of one VM."""
    (vm,) = decide(rules, points, now)
    return vm


def kept(rules: Rules, points: list[RetentionPoint], now: datetime = LATER) -> list[str]:
    """Times of the points that stay, as short as they were written."""
    return [_short(each.made) for each in decided(rules, points, now).kept]


def whys(rules: Rules, points: list[RetentionPoint], now: datetime = LATER) -> dict[str, list[Why]]:
    """Reasons by time, of points that stay and of those that do not."""
    return {
        _short(decision.point.made): [reason.why for reason in decision.reasons]
        for decision in decided(rules, points, now).decisions
    }


def _short(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
