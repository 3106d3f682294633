"""``docs/troubleshooting.md`` explains every reason of a compare or full read, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from hvpsbridge.tasks.planning.modes import Reason

PAGE = Path(__file__).resolve().parent.parent / "docs" / "troubleshooting.md"


def test_every_reason_is_explained_and_no_other() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Why a disk was compared")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert explained == [reason.word for reason in Reason]
