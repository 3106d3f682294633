from __future__ import annotations

import re

from hvpsbridge.playbook.read import parse_playbook
from tests.playbook.reference import END, PAGE, START, tables


def test_the_page_s_tables_are_those_of_the_specs() -> None:
    page = PAGE.read_text().partition(START)[2].partition(END)[0]
    assert page.strip() == tables().strip(), "run: python -m tests.playbook.reference"


def test_every_playbook_on_the_page_is_valid() -> None:
    examples = re.findall(r"```yaml\n(version: 1\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        assert parse_playbook(example, "docs/playbook.md").plays
