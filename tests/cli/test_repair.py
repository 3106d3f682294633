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
