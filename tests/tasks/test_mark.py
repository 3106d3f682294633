"""The mark in the name of a checkpoint."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.tasks.planning.mark import Mark, parse_mark
from tests.tasks import builders as make


def test_a_mark_reads_back_and_nothing_else_is_one() -> None:
    mark = Mark(UUID(int=1), UUID(int=2), make.NOON)
    assert parse_mark(str(mark)) == mark
    assert parse_mark("hvps") is None
    assert parse_mark(f"{mark} ") is None
    assert parse_mark(str(mark).replace("2026-03-01", "2026-13-41")) is None
