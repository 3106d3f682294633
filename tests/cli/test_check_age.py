"""``check-age``: what monitoring sees."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hvpsbridge.repository import create_repository

from . import test_points
from .conftest import Hvps
from .test_points import fill


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVPS_REPO", str(tmp_path / "repo"))
    # The newest of two points is a day old.
    monkeypatch.setattr(test_points, "AT", datetime.now(UTC) - timedelta(days=2))
    return tmp_path / "repo"


def test_exit_codes_and_the_first_line_are_those_of_a_plugin(hvps: Hvps, repo: Path) -> None:
    fill(repo)
    old = hvps("check-age", "--max", "12h")
    assert old.code == 2
    assert old.out.startswith("CRITICAL: 1 of 1 VMs older than 12 hours: web 01 24 hours\n")
    good = hvps("check-age", "--max", "26h", "web 01")
    assert good.code == 0
    assert good.out.startswith("OK: 1 VMs, the oldest newest point is 24 hours old (at most 26 hours)\n")
    never = hvps("check-age", "--max", "3d", "web 01", "mail")
    assert never.code == 2
    assert "1 of 2 VMs older than 3 days: mail never" in never.out


def test_json_has_every_vm(hvps: Hvps, repo: Path) -> None:
    point = fill(repo)[-1]
    found = json.loads(hvps("check-age", "--max", "1h", "--json", "web 01", "mail").out)
    assert (found["good"], found["max_seconds"]) == (False, 3600)
    mail, web = found["vms"]
    assert (mail["vm"], mail["vm_id"], mail["created"], mail["good"]) == ("mail", None, None, False)
    assert web["point_id"] == str(point.point_id)


def test_a_repository_without_points_is_critical(hvps: Hvps, repo: Path) -> None:
    create_repository(str(repo)).close()
    done = hvps("check-age", "--max", "26h")
    assert (done.code, done.out) == (2, "CRITICAL: no VM has a point\n")


def test_what_is_no_age_is_refused(hvps: Hvps, repo: Path) -> None:
    assert hvps("check-age", "--max", "soon").code == 64
    assert hvps("check-age").code == 64
    assert hvps("check-age", "--max", "1h").code == 10
