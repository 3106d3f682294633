"""``hvps verify`` reports what it found, whatever else happens."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.repository.check import coverage as coverages
from hvpsbridge.repository.check import verify as verifying
from hvpsbridge.repository.stores.local import LocalStore

from .conftest import Hvps
from .test_points import fill


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = tmp_path / "repo"
    monkeypatch.setenv("HVPS_REPO", str(url))
    return url


def flip(file: Path, at: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


def a_pack(repository: Path) -> Path:
    return next(file for file in (repository / "data").rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", [StoreError, NoSpace])
def test_damage_is_reported_whether_or_not_it_can_be_recorded(
    kind: type[StoreError], hvps: Hvps, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = fill(repository)[-1]

    def put(store: LocalStore, name: str, data: bytes) -> None:
        raise kind(store.url, "create", name, "Read-only file system")

    monkeypatch.setattr(LocalStore, "put", put)
    for options in ((), ("web 01@latest",), ("--json",)):
        good = hvps("verify", *options)
        assert good.code == 0
        assert "good" in good.out
        assert good.err.startswith("hvps: warning: the findings were not recorded")
        assert good.err.count("\n") == 1
    for file in (repository / "data").rglob("*"):
        if file.is_file():
            flip(file)
    damaged = hvps("verify")
    assert damaged.code == 7
    assert point.short_id in damaged.out
    assert "Read-only file system" in damaged.err
    report = json.loads(hvps("verify", "--json").out)
    assert report["good"] is False
    assert report["report"]["problems"]


def test_the_findings_are_out_before_anything_is_written(
    hvps: Hvps, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository)
    flip(a_pack(repository))

    def put(store: LocalStore, name: str, data: bytes) -> None:
        os.write(1, b"-- written --\n")  # past all buffers
        raise StoreError(store.url, "create", name, "no")

    monkeypatch.setattr(LocalStore, "put", put)
    done = hvps("verify")
    assert done.code == 7
    assert done.out.endswith("-- written --\n")
    assert "problems" in done.out


def test_a_budget_goes_on_where_it_ended(hvps: Hvps, repository: Path) -> None:
    fill(repository)
    counts = []
    for _ in range(4):
        done = hvps("verify", "--level", "hashed", "--budget", "1B", "--json")
        assert done.code == 0
        counts.append(json.loads(done.out)["report"]["coverage"]["never_packs"])
    assert counts == [3, 2, 1, 0]
    text = hvps("verify", "--level", "hashed", "--budget", "2h")
    assert "4 of 4 packs read" in text.out
    assert "oldest unverified chunk" in text.out
    for command in (("list",), ("show", "web 01@latest")):
        assert "oldest unverified chunk: " in hvps(*command).out
        assert json.loads(hvps(*command, "--json").out)["unverified_since"].startswith("20")


def test_a_budget_below_what_backups_store_is_3(
    hvps: Hvps, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository)
    options = ("verify", "--level", "hashed", "--budget", "1B")
    assert hvps(*options).code == 0
    whole = coverages.coverage

    def growing(*arguments: Any) -> Any:
        return replace(whole(*arguments), enough=False, stored_bytes=5 << 30, period_seconds=41 * 86400.0)

    monkeypatch.setattr(verifying, "coverage", growing)
    done = hvps(*options)
    assert done.code == 3
    assert "backups store 5 GiB" in done.out
    assert "everything is verified every 41 days" in done.out


@pytest.mark.parametrize(
    "options", [("--level", "written", "--budget", "1h"), ("--level", "hashed", "--budget", "12")]
)
def test_a_budget_that_says_nothing_is_refused(
    hvps: Hvps, repository: Path, options: tuple[str, ...]
) -> None:
    fill(repository)
    done = hvps("verify", *options)
    assert done.code == 64
    assert done.out == ""
