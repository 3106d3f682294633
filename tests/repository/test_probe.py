"""The probe accepts stores that fulfil the contract and rejects those that break it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import ExitCode, RepositoryExists, StoreError
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import Holds, probe
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.probe import probe_store
from hvpsbridge.repository.stores.s3 import S3Store
from hvpsbridge.tasks.retention.collect import collect_lines
from tests.repository.conftest import CHUNK, content_of, store_point
from tests.repository.memory_store import MemoryStore
from tests.repository.servers import S3Server, SshServer


@pytest.mark.parametrize("kind", ["local", "sftp", "s3"])
def test_real_stores_are_fit_and_left_clean(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "store")
    if kind == "sftp":
        server: SshServer = request.getfixturevalue("ssh")
        url = server.url(tmp_path / "store")
    elif kind == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        url = s3.url(s3.new_bucket())
    report = probe(url)
    assert report.fit, report
    answers = {finding.question: finding.holds for finding in report.findings}
    assert answers["objects survive a power loss after a barrier"] is Holds.YES
    assert answers["overwriting is refused"] is Holds.NO
    assert answers["deleting is refused"] is Holds.NO
    assert answers["object lock"] is Holds.UNKNOWN
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bucket_with_versions_is_named_by_probes_and_collects(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    answers = {finding.question: finding for finding in probe(s3.url(bucket)).findings}
    assert answers["deleting frees space"].holds is Holds.YES
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    report = probe(s3.url(bucket))
    answers = {finding.question: finding for finding in report.findings}
    assert report.fit
    assert answers["deleting frees space"].holds is Holds.NO
    assert "buckets-with-versions" in answers["deleting frees space"].detail
    store = S3Store(s3.url(bucket))
    with create_on_store(store, ChunkGrid(CHUNK)) as repository:
        old = store_point(repository, bytes(range(256)) * 256)
        kept = store_point(repository, b"kept" * CHUNK)
        repository.pruner.prune([old])
        found = repository.collect(uuid4(), CollectOptions(grace=timedelta(0)))
        assert found.deleted_packs
        assert found.keeps_versions
        assert any("lifecycle rule" in line for line in collect_lines(found, check=False))
        assert content_of(repository, kept) == b"kept" * CHUNK


class Overwriting(MemoryStore):
    """A store without conditional create, as old S3 clones are."""

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data


class Sloppy(MemoryStore):
    """A store that returns fewer bytes without an error."""

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self.get(name)[offset : offset + length]


class Lagging(MemoryStore):
    """A store whose listings are out of date."""

    def list(self, prefix: str) -> object:  # type: ignore[override]  # gives nothing
        return iter(())


class Fading(MemoryStore):
    """A store that cannot flush."""

    durable = False


@pytest.mark.parametrize(
    ("store", "question"),
    [
        (Overwriting(), "a taken name is refused (conditional create)"),
        (Overwriting(), "only one of several requests creates a name"),
        (Sloppy(), "ranges are exact"),
        (Lagging(), "a new object is listed immediately"),
    ],
)
def test_a_breach_makes_a_store_unfit_and_is_named(store: MemoryStore, question: str) -> None:
    report = probe_store(store)
    assert not report.fit
    assert question in [finding.question for finding in report.findings if finding.holds is Holds.NO]


class OverwritingRemote(Overwriting):
    """The same, behind a network."""

    remote = True


def test_no_repository_is_created_in_a_store_that_overwrites() -> None:
    store = OverwritingRemote()
    with pytest.raises(StoreError, match="overwrites names that are taken") as caught:
        create_on_store(store, ChunkGrid(CHUNK))
    assert caught.value.code is ExitCode.NO_REPOSITORY
    assert store.objects == {}


def test_a_repository_is_created_where_nothing_can_be_deleted() -> None:
    store = Locked()
    store.remote = True
    create_on_store(store, ChunkGrid(CHUNK)).close()
    open_on_store(store).close()


def test_a_store_that_is_not_durable_is_told_and_taken() -> None:
    report = probe_store(Fading())
    assert report.fit
    assert [finding.holds for finding in report.findings if "power loss" in finding.question] == [Holds.NO]


class Locked(MemoryStore):
    """A store with object lock, which neither overwrites nor deletes."""

    def overwrite(self, name: str, data: bytes) -> None:
        raise StoreError(self.url, "overwrite", name, "retained until 2030")

    def delete(self, name: str) -> None:
        raise StoreError(self.url, "delete", name, "retained until 2030")


def test_a_locked_store_is_recognised() -> None:
    answers = {finding.question: finding.holds for finding in probe_store(Locked()).findings}
    assert answers["overwriting is refused"] is Holds.YES
    assert answers["deleting is refused"] is Holds.YES
    assert answers["object lock"] is Holds.YES


def test_a_place_that_cannot_be_written_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RepositoryExists, match="not a directory"):
        probe(str(tmp_path / "file"))
