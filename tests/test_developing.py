"""``docs/developing.md``: the files its recipes name exist, and each extension point has a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
RECIPES = PAGE.split("<!-- recipes: start -->")[1].split("<!-- recipes: end -->")[0]
# A span of code that is a path of this repository: it has a slash and starts with a tracked folder, or is a
# file at the top.
PATHS = sorted(
    {
        span
        for span in re.findall(r"`([\w./-]+)`", PAGE)
        if span.split("/")[0] in {"hvpsbridge", "tests", "ps_scripts", "docs", "benchmarks", "tools"}
        or span == "pyproject.toml"
    }
)


@pytest.mark.parametrize("path", PATHS)
def test_every_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "what", ["a store", "a task", "a restore target", "a host operation", "a notifier", "a playbook key"]
)
def test_each_extension_point_has_a_recipe_that_names_files(what: str) -> None:
    (recipe,) = re.findall(rf"^### Add {what}\n(.*?)(?=^### |\Z)", RECIPES, re.MULTILINE | re.DOTALL)
    assert [path for path in PATHS if f"`{path}`" in recipe]


def test_the_table_of_jobs_names_every_one() -> None:
    table = PAGE.split("## Who may work beside whom")[1]
    for job in ("backup", "copy", "verify", "restore", "key", "prune", "collect", "rebuild-index"):
        assert re.search(rf"^\| [^|]*\b{job}", table, re.MULTILINE), job
