"""The pages on guarantees and threats name a test that exists for each promise; each step has a row."""

from __future__ import annotations

import re
from pathlib import Path

from hvpsbridge.tasks.steps import Step

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
THREATS = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def test_every_row_of_steps_is_in_the_crash_table() -> None:
    rows = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert rows == {step.row for step in Step}


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE + THREATS))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", sources))
    assert len(named) > 25
    assert named <= there, sorted(named - there)


def test_every_row_of_a_table_names_its_proof() -> None:
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith(("| row", "| what")):
            assert re.search(r"\| `test_[^|]*\|$", line), line


def test_every_row_on_what_cannot_be_done_names_its_proof() -> None:
    rows = [line for line in THREATS.split("## Which tests show it")[1].splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows[1:]:
        assert re.search(r"\| `test_[^|]*\|$", row), row
