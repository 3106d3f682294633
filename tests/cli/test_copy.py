"""``hvps copy`` and ``hvps repo probe``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Hvps
from .test_points import fill


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = tmp_path / "repo"
    monkeypatch.setenv("HVPS_REPO", str(url))
    monkeypatch.setenv("KEY", "another key of its own")
    fill(url)
    return url


def test_points_are_copied_into_an_encrypted_repository_once(
    hvps: Hvps, filled: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    key = ("--to-key-env", "KEY")
    assert hvps("repo", "init", target, "--key-env", "KEY").code == 0
    first = hvps("copy", "--to", target, *key, "--json")
    assert first.code == 0, first.err
    report = json.loads(first.out)
    assert (len(report["copied"]), report["present"], report["skipped"]) == (2, [], [])
    again = json.loads(hvps("copy", "--to", target, *key, "--json", "-q").out)
    assert (again["copied"], len(again["present"]), again["stored_bytes"]) == ([], 2, 0)
    listed = json.loads(hvps("list", "--repo", target, "--key-env", "KEY", "--json").out)["points"]
    assert [point["point_id"] for point in listed] == report["copied"]
    assert hvps("verify", "--repo", target, "--key-env", "KEY").code == 0
    outs = []
    for repo in (("--repo", filled), ("--repo", target, "--key-env", "KEY")):
        out = tmp_path / f"{len(outs)}.raw"
        assert hvps("restore", "web 01", "--disk", "0", "--to", f"raw:{out}", "-q", *repo).code == 0
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]


def test_an_older_point_after_a_newer_one_is_skipped_and_reported(
    hvps: Hvps, filled: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    assert hvps("repo", "init", target, "--plain").code == 0
    assert hvps("copy", "web 01@latest", "--to", target).code == 0
    done = hvps("copy", "--to", target)
    assert done.code == 3
    assert "older than the newest copy" in done.out


def test_copies_need_both_repositories_and_their_keys(hvps: Hvps, filled: Path, tmp_path: Path) -> None:
    assert hvps("copy", "--to", tmp_path / "nothing").code == 10
    assert hvps("copy").code == 64
    target = tmp_path / "copy"
    assert hvps("repo", "init", target, "--key-env", "KEY").code == 0
    assert hvps("copy", "--to", target).code == 12
    assert hvps("copy", "nobody@latest", "--to", target, "--to-key-env", "KEY").code == 5


def test_a_local_directory_is_fit_and_nothing_of_the_probe_stays(hvps: Hvps, tmp_path: Path) -> None:
    done = hvps("repo", "probe", tmp_path / "store", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["fit"] is True
    assert all(finding["holds"] != "no" for finding in report["report"]["findings"] if finding["needed"])
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert f"{tmp_path / 'store'}: suitable for a repository" in hvps("repo", "probe", tmp_path / "store").out


def test_a_place_that_cannot_be_used_is_one_line(hvps: Hvps, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for url in (tmp_path / "file", "ftp://x/y", "s4://bucket"):
        done = hvps("repo", "probe", url)
        assert done.code in {5, 10}
        assert done.err.count("\n") == 1
