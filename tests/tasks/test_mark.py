"""The mark in the name of a checkpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from hvpsbridge.sim.model.checkpoints import NAME_LENGTH
from hvpsbridge.tasks.planning.mark import Mark, has_mark_of, parse_mark
from tests.tasks import builders as make

LONG = f"hvps {UUID(int=1)} {UUID(int=2)} until 2026-03-01T12:00:00Z"
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_a_mark_reads_back_and_nothing_else_is_one() -> None:
    mark = Mark(UUID(int=1), UUID(int=2), make.NOON)
    assert parse_mark(str(mark)) == mark
    assert parse_mark("hvps") is None
    assert parse_mark(f"{mark} ") is None
    assert parse_mark(f"{mark}\n") is None
    assert parse_mark(str(mark).replace("20260301", "20261341")) is None


@given(
    repository_id=some.uuids(),
    run_id=some.uuids(),
    until=some.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001  # Hypothesis adds the time zone
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=some.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours))),
    ),
)
@example(repository_id=UUID(int=2**128 - 1), run_id=UUID(int=2**128 - 1), until=LAST)
@example(repository_id=UUID(int=0), run_id=UUID(int=0), until=datetime.min.replace(tzinfo=UTC))
def test_a_mark_always_fits_in_the_name_of_a_checkpoint(
    repository_id: UUID, run_id: UUID, until: datetime
) -> None:
    name = str(Mark(repository_id, run_id, until))
    assert len(name) == 87 < NAME_LENGTH
    assert name.isascii()
    assert parse_mark(name) == Mark(repository_id, run_id, until.replace(microsecond=0))


def test_a_mark_of_an_earlier_hvps_is_understood() -> None:
    assert parse_mark(LONG) == Mark(UUID(int=1), UUID(int=2), make.NOON)
    assert has_mark_of(UUID(int=1), LONG)
    assert not has_mark_of(UUID(int=2), LONG)


@pytest.mark.parametrize(
    "name",
    [
        LONG.replace("until ", ""),
        LONG.replace("-0000-0000-0000-", "000000000000"),
        LONG.replace("2026-03-01T12:00:00Z", "20260301T120000Z"),
        LONG.replace("2026-03", "2026-13"),
        LONG.upper(),
    ],
)
def test_a_mixture_of_both_forms_is_not_a_mark(name: str) -> None:
    assert parse_mark(name) is None
