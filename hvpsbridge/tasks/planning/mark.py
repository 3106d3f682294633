"""The mark: the name of a checkpoint, which says for which repository hvps created it, and until when.

A checkpoint's name has at most 100 characters (docs/hyperv-facts.md#checkpoint-name); a mark has 87. Earlier
marks had 105, with dashes in ids and time; they are still understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_HEX = r"[0-9a-f]{32}"
_FORM = re.compile(rf"hvps ({_HEX}) ({_HEX}) ([0-9]{{8}}T[0-9]{{6}}Z)")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_LONG_FORM = re.compile(rf"hvps ({_UUID}) ({_UUID}) until ({_TIME})")


@dataclass(frozen=True, slots=True)
class Mark:
    """Created for a repository by a run, to be removed by ``until`` (UTC, to the second)."""

    repository_id: UUID
    run_id: UUID
    until: datetime

    def __str__(self) -> str:
        until = self.until.astimezone(UTC)
        # strftime does not pad years before 1000.
        time = f"{until.year:04}{until:%m%dT%H%M%SZ}"
        return f"hvps {self.repository_id.hex} {self.run_id.hex} {time}"


def parse_mark(name: str) -> Mark | None:
    """The mark in a checkpoint's name; None if the name is not a mark."""
    match = _FORM.fullmatch(name) or _LONG_FORM.fullmatch(name)
    if match is None:
        return None
    try:
        until = datetime.strptime(re.sub("[-:]", "", match[3]), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Mark(UUID(match[1]), UUID(match[2]), until)


def has_mark_of(repository_id: UUID, name: str) -> bool:
    """Whether a checkpoint's name is a mark of that repository."""
    mark = parse_mark(name)
    return mark is not None and mark.repository_id == repository_id
