"""The tables that tools/documented makes, and how tests read them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hvpsbridge.resources import resource_folder
from tools.documented import generate

SCRIPTS = resource_folder("ps_scripts")
MODULE = generate.MODULE.parent
ROOT = Path(__file__).parents[2]


@cache
def table(name: str) -> Any:
    return json.loads((generate.TABLES / f"{name}.json").read_text(encoding="utf-8"))


def bases(name: str) -> list[str]:
    """A class and those it derives from, nearest first."""
    found = [name]
    while (facts := table("wmi")["classes"].get(found[-1])) and facts["base"]:
        found.append(facts["base"])
    return found


def is_a(name: str, wanted: str) -> bool:
    return wanted in bases(name)


def compare(found: dict[str, str], known: dict[str, str]) -> None:
    """Differences are those that are known, all of them and no others."""
    assert {name: text for name, text in found.items() if name not in known} == {}
    assert known.keys() - found.keys() == set(), "no longer different"
