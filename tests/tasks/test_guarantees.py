"""``docs/guarantees.md`` names a test that exists for each promise, and has a row for each step."""

from __future__ import annotations

import re
from pathlib import Path

from hvpsbridge.tasks.steps import Step

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_row_of_steps_is_in_the_crash_table() -> None:
    rows = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert rows == {step.row for step in Step}


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", sources))
    assert len(named) > 25
    assert named <= there, sorted(named - there)


def test_every_row_of_a_table_names_its_proof() -> None:
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith(("| row", "| what")):
            assert re.search(r"\| `test_[^|]*\|$", line), line
