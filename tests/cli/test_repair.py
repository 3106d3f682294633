"""``repo repair``: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Hvps
from .test_points import fill


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVPS_REPO", str(tmp_path / "repo"))
    fill(tmp_path / "repo")
    return tmp_path / "repo"


def test_a_whole_repository_needs_no_repair(hvps: Hvps, repo: Path) -> None:
    done = hvps("repo", "repair")
    assert (done.code, done.out) == (0, "nothing to repair\n")


def test_a_planted_restore_py_and_junk_are_replaced_and_removed(hvps: Hvps, repo: Path) -> None:
    tool = repo / "restore.py"
    good = tool.read_bytes()
    tool.chmod(0o600)
    tool.write_bytes(b"print('your key, please')")
    (repo / "bad").mkdir(exist_ok=True)
    (repo / "bad" / ("0" * 32)).write_bytes(b"junk")
    assert "do not run it" in (found := hvps("verify")).out
    assert found.code == 7
    looked = hvps("repo", "repair", "--check")
    assert looked.code == 0
    assert "would be replaced" in looked.out
    assert tool.read_bytes() != good
    done = json.loads(hvps("repo", "repair", "--json").out)
    assert (done["check"], done["whole"], done["report"]["restore_tool"]) == (False, True, True)
    assert done["report"]["removed"] == [f"bad/{'0' * 32}"]
    assert tool.read_bytes() == good
    assert hvps("verify").code == 0


def test_lost_chunks_are_7(hvps: Hvps, repo: Path) -> None:
    pack = next(path for path in (repo / "data").rglob("*") if path.is_file())
    pack.unlink()
    done = hvps("repo", "repair")
    assert done.code == 7
    assert "chunks are lost" in done.out
    assert f"data/{pack.parent.name}/{pack.name}" in done.out


def test_lost_chunks_come_from_a_copy_with_its_own_key(
    hvps: Hvps, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPY_KEY", "correct horse battery staple")
    other = tmp_path / "other"
    copy = ("--repo", str(other), "--key-env", "COPY_KEY")
    chunk = json.loads(hvps("repo", "init", str(tmp_path / "asked"), "--plain", "--json").out)["chunk_bytes"]
    assert hvps("repo", "init", *copy, "--chunk", f"{chunk // 1024}KiB").code == 0
    assert hvps("copy", "--to", str(other), "--to-key-env", "COPY_KEY", "-q").code == 0
    for pack in [
        path for folder in ("data", "nodes") for path in (repo / folder).rglob("*") if path.is_file()
    ]:
        pack.unlink()
    source = ("--from", str(other), "--from-key-env", "COPY_KEY")
    looked = hvps("repo", "repair", "--check", *source)
    assert looked.code == 0
    assert "4 of 4 lost chunks and nodes would be taken from the copy" in looked.out
    done = hvps("repo", "repair", "--do", *source, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["whole"] is True
    assert (found["refilled"]["lost"], found["refilled"]["taken"]) == (4, 4)
    assert hvps("verify").code == 0
    assert hvps("list").code == 0


def test_a_copy_of_another_grid_is_one_line(hvps: Hvps, repo: Path, tmp_path: Path) -> None:
    hvps("repo", "init", str(tmp_path / "other"), "--plain", "--chunk", "1MiB")
    done = hvps("repo", "repair", "--from", str(tmp_path / "other"))
    assert done.code == 5
    assert done.err.count("\n") == 1
    assert "use a copy with the same size" in done.err


def test_options_of_a_repair_that_do_not_fit_are_refused(hvps: Hvps, repo: Path) -> None:
    assert hvps("repo", "repair", "--check", "--do").code == 64
    assert hvps("repo", "repair", "--from-key-env", "NAME").code == 64
