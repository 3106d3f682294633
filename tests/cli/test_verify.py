"""``hvps verify`` reports what it found, whatever else happens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hvpsbridge.errors import NoSpace, StoreError
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
