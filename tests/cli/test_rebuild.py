"""``repo rebuild-index``, from the report of the damage to a repository that verifies again."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.repository import create_repository, open_repository
from hvpsbridge.repository.runs import start_run
from tests.repository.conftest import CHUNK, store_point

from .conftest import Hvps


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with two points, each with an index object."""
    with create_repository(
        str(tmp_path / "repo"), chunk_bytes=CHUNK, cache_folder=tmp_path / "c"
    ) as repository:
        store_point(repository, b"one" * CHUNK)
        store_point(repository, b"two" * CHUNK)
    return tmp_path / "repo"


def test_a_damaged_index_is_reported_with_its_remedy_and_rebuilt(hvps: Hvps, repo: Path) -> None:
    broken = sorted((repo / "index").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-1])
    verified = hvps("verify", "--repo", repo)
    assert verified.code == 7
    assert "hvps repo rebuild-index" in verified.out
    looked = hvps("repo", "rebuild-index", "--check", "--repo", repo)
    assert looked.code == 0
    assert "2 of 4 packs would be added to the index" in looked.out
    assert broken.exists()
    mended = hvps("repo", "rebuild-index", "--repo", repo, "--json", "-q")
    assert mended.code == 0
    report = json.loads(mended.out)["report"]
    assert report["superseded"] == [f"index/{broken.name}"]
    assert len(report["named"]) == 2
    assert not broken.exists()
    assert hvps("verify", "--repo", repo).code == 0


def test_a_pack_that_only_the_damaged_index_described_is_7(hvps: Hvps, repo: Path) -> None:
    for path in (repo / "index").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    pack = next(path for path in (repo / "data").rglob("*") if path.is_file())
    pack.write_bytes(pack.read_bytes()[:-9])
    done = hvps("repo", "rebuild-index", "--repo", repo)
    assert done.code == 7
    assert "NOT complete" in done.out
    assert pack.name in done.out
    assert len(list((repo / "index").iterdir())) == 3  # nothing was removed


def test_a_run_at_work_is_11_and_named(hvps: Hvps, repo: Path, tmp_path: Path) -> None:
    with (
        open_repository(str(repo), cache_folder=tmp_path / "c") as repository,
        start_run(repository._objects, run := uuid4()),
    ):
        done = hvps("repo", "rebuild-index", "--repo", repo)
    assert done.code == 11
    (line,) = done.err.splitlines()
    assert str(run) in line
