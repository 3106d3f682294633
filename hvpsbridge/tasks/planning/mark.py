"""The mark: the name of a checkpoint, which says for which repository hvps created it, and until when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FORM = re.compile(rf"hvps ({_UUID}) ({_UUID}) until (\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Mark:
    """Created for a repository by a run, to be removed by ``until`` (UTC)."""

    repository_id: UUID
    run_id: UUID
    until: datetime

    def __str__(self) -> str:
        return f"hvps {self.repository_id} {self.run_id} until {self.until.astimezone(UTC).strftime(_TIME)}"


def parse_mark(name: str) -> Mark | None:
    """The mark in a checkpoint's name; None if the name is not a mark."""
    match = _FORM.fullmatch(name)
    if match is None:
        return None
    try:
        until = datetime.strptime(match[3], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Mark(UUID(match[1]), UUID(match[2]), until)


def has_mark_of(repository_id: UUID, name: str) -> bool:
    """Whether a checkpoint's name is a mark of that repository."""
    mark = parse_mark(name)
    return mark is not None and mark.repository_id == repository_id
