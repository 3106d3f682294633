"""``repo stats``: what it prints, and VMs that it does not find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Hvps
from .test_prune import fill, repository  # noqa: F401 - a fixture


@pytest.mark.usefixtures("repository")
def test_vms_and_the_points_of_a_named_one_are_shown(hvps: Hvps, tmp_path: Path) -> None:
    fill(tmp_path / "repo", 3)
    fill(tmp_path / "repo", 1, vm="db")
    plain = hvps("repo", "stats")
    assert plain.code == 0
    assert "web" in plain.out
    assert "db" in plain.out
    assert "POINTS OF" not in plain.out
    named = hvps("repo", "stats", "WEB")
    assert "POINTS OF WEB" in named.out
    found = json.loads(hvps("repo", "stats", "web", "--json").out)["stats"]
    assert {vm["vm"]: len(vm["of_points"]) for vm in found["vms"]} == {"web": 3, "db": 0}
    assert found["free_bytes"] > 0


@pytest.mark.usefixtures("repository")
def test_a_vm_without_points_is_an_error(hvps: Hvps, tmp_path: Path) -> None:
    fill(tmp_path / "repo", 1)
    done = hvps("repo", "stats", "nobody")
    assert done.code == 5
    assert "no recovery point 'nobody'" in done.err
    assert not done.out
