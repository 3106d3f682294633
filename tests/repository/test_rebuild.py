"""A lost or damaged index is rebuilt from the packs, and nothing is deleted that is needed for that."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import RepositoryLocked, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import decode_index
from hvpsbridge.repository import Level, Point, Repository, create_repository, open_repository, runs
from hvpsbridge.repository.check import rebuild
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.layout import RUNS
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects
from hvpsbridge.secret import Secret
from tests.repository.conftest import CHEAP, CHUNK, KEY, content_of, make, reopen, store_point
from tests.repository.memory_store import MemoryStore

Contents = dict[Point, bytes]


def fill(repository: Repository) -> Contents:
    """Three points of a VM and one of another, committed with an index object each."""
    dice = random.Random(3)
    content = bytearray(dice.randbytes(5 * CHUNK) + bytes(CHUNK) + b"text " * CHUNK)
    made: Contents = {}
    point = None
    for number in range(3):
        content[number * CHUNK] ^= 1
        point = store_point(repository, bytes(content), base=point, changed=[number] if point else None)
        made[point] = bytes(content)
    other = dice.randbytes(3 * CHUNK)
    made[store_point(repository, other, vm_id=uuid4(), vm_name="mail")] = other
    return made


def indexes(store: MemoryStore) -> list[str]:
    return [name for name in store.objects if name.startswith("index/")]


def flip(store: MemoryStore, name: str, at: int = 40) -> None:
    data = bytearray(store.objects[name])
    data[at] ^= 4
    store.objects[name] = bytes(data)


def assert_whole(store: MemoryStore, contents: Contents) -> None:
    """Check that every point restores, and that verification finds no problem."""
    with reopen(store) as fresh:
        for point, content in contents.items():
            assert content_of(fresh, point) == content
        report = fresh.verify(Level.HASHED)
        assert report.good, report.problems


@pytest.mark.parametrize("harm", ["remove", "damage", "cut"])
@pytest.mark.parametrize("which", [0, 1, 2, 3, None])
def test_every_point_restores_after_any_index_object_is_lost(
    repository: Repository, store: MemoryStore, harm: str, which: int | None
) -> None:
    contents = fill(repository)
    lost = indexes(store) if which is None else [indexes(store)[which]]
    for name in lost:
        if harm == "remove":
            del store.objects[name]
        elif harm == "cut":
            store.objects[name] = store.objects[name][:-7]
        else:
            flip(store, name)
    with reopen(store) as fresh:
        assert not fresh.verify(Level.WRITTEN).good
        report = fresh.rebuild_index(uuid4())
        assert report.whole
        assert len(report.named) == 2 * len(lost)  # a data pack and a node pack each
        assert list(report.damaged) == ([] if harm == "remove" else sorted(lost))
        assert report.superseded == report.damaged
        assert not report.kept
        assert not fresh.verify(Level.WRITTEN).problems  # the open repository uses it immediately
    assert not set(lost) & set(store.objects)
    assert_whole(store, contents)


def test_a_check_only_looks(repository: Repository, store: MemoryStore) -> None:
    fill(repository)
    flip(store, indexes(store)[0])
    before = dict(store.objects)
    with reopen(store) as fresh:
        report = fresh.rebuild_index(uuid4(), check=True)
    assert len(report.named) == 2
    assert report.superseded == ()
    assert store.objects == before


def test_a_whole_index_is_left_as_it_is(repository: Repository, store: MemoryStore) -> None:
    fill(repository)
    before = set(store.objects)
    report = repository.rebuild_index(uuid4())
    assert (report.named, report.damaged, report.unreadable) == ((), (), ())
    assert report.packs == 8
    assert {name for name in store.objects if not name.startswith("leases/")} == before


def test_a_damaged_index_stays_while_only_it_could_tell_what_a_pack_holds(
    repository: Repository, store: MemoryStore
) -> None:
    fill(repository)
    name = indexes(store)[0]
    pack = decode_index(repository._objects.read(name, Kind.INDEX)).packs[0]
    flip(store, name)
    pack_name = next(each for each in store.objects if each.endswith(pack.name.hex()))
    flip(store, pack_name, len(store.objects[pack_name]) - 20)
    with reopen(store) as fresh:
        report = fresh.rebuild_index(uuid4())
        assert not report.whole
        assert [unreadable for unreadable, _ in report.unreadable] == [pack_name]
        assert report.damaged == (name,)
        assert report.superseded == ()
        assert len(report.named) == 1  # its node pack is added all the same
    assert name in store.objects


def test_where_nothing_may_be_deleted_a_superseded_index_does_no_harm(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(repository)
    name = indexes(store)[1]
    flip(store, name)

    def refuse(self: MemoryStore, name: str) -> None:
        raise StoreError(self.url, "delete", name, "permission denied")

    monkeypatch.setattr(MemoryStore, "delete", refuse)
    with reopen(store) as fresh:
        assert fresh.rebuild_index(uuid4()).kept == (name,)
        again = fresh.rebuild_index(uuid4())
        assert (again.named, again.damaged) == ((), ())
    assert name in store.objects
    assert_whole(store, contents)


def test_new_backups_use_what_was_named_again(repository: Repository, store: MemoryStore) -> None:
    contents = fill(repository)
    for name in indexes(store):
        del store.objects[name]
    with reopen(store) as fresh:
        fresh.rebuild_index(uuid4())
        packs = sum(name.startswith("data/") for name in store.objects)
        (newest, content) = list(contents.items())[-1]
        store_point(fresh, content, vm_id=newest.vm_id, created=newest.created.replace(hour=23))
        assert sum(name.startswith("data/") for name in store.objects) == packs
    assert_whole(store, contents)


def test_many_entries_go_into_several_index_objects(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(repository)
    for name in indexes(store)[1:]:
        del store.objects[name]
    flip(store, indexes(store)[0])
    monkeypatch.setattr(rebuild, "INDEX_ENTRIES", 3)
    with reopen(store) as fresh:
        fresh.rebuild_index(uuid4())
    assert len(indexes(store)) > 1
    assert_whole(store, contents)


class TestOtherRuns:
    def test_a_writer_at_work_is_waited_for(self, repository: Repository, store: MemoryStore) -> None:
        contents = fill(repository)
        del store.objects[indexes(store)[0]]
        with reopen(store) as fresh, repository.begin(run := uuid4()) as writer:
            writer.disk(CHUNK, None).put(0, b"new" * (CHUNK // 3) + b"x")
            writer.wait()
            writer._data.flush()  # a pack that is in no index yet
            with pytest.raises(RepositoryLocked, match=str(run)):
                fresh.rebuild_index(uuid4())
            assert len(fresh.rebuild_index(uuid4(), check=True).named) == 3
        with reopen(store) as fresh:
            fresh.rebuild_index(uuid4())
        assert_whole(store, contents)

    def test_a_dead_one_is_not(self, repository: Repository, store: MemoryStore) -> None:
        contents = fill(repository)
        del store.objects[indexes(store)[0]]
        died(repository._objects, process_id=2**22 + 1)
        repository.rebuild_index(uuid4())
        assert_whole(store, contents)

    def test_of_another_machine_counts_when_it_moves(self, repository: Repository) -> None:
        objects = repository._objects
        holder = replace(current_holder(uuid4()), boot_id="another", machine="elsewhere")
        own = runs.start_run(objects, uuid4())
        with (
            Lease(objects, f"{RUNS}/{uuid4().hex}", holder, "run", once=True, renew_seconds=0.05),
            pytest.raises(RepositoryLocked, match="elsewhere"),
        ):
            runs.refuse_other_runs(objects, own, stale_seconds=30)
        own.release()

    def test_of_another_machine_that_stands_still_is_dead(self, repository: Repository) -> None:
        died(repository._objects, boot_id="another", machine="elsewhere")
        own = runs.start_run(repository._objects, uuid4())
        runs.refuse_other_runs(repository._objects, own, stale_seconds=0.2)
        own.release()


def died(objects: Objects, **changes: object) -> None:
    """A run whose process was killed."""
    holder = replace(current_holder(uuid4()), **changes)  # type: ignore[arg-type]  # overrides by keyword
    run = Lease(objects, f"{RUNS}/{uuid4().hex}", holder, "run", once=True, renew_seconds=3600)
    run._stop.set()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_works_on_a_directory_with_a_cache(tmp_path: Path, key: Secret | None) -> None:
    url, cache = str(tmp_path / "repo"), tmp_path / "cache"
    with create_repository(url, chunk_bytes=CHUNK, key=key, cost=CHEAP, cache_folder=cache) as repository:
        contents = fill(repository)
    for path in (tmp_path / "repo" / "index").iterdir():
        path.unlink()
    with open_repository(url, key=key, cache_folder=cache) as repository:
        assert repository.rebuild_index(uuid4()).whole
        for point, content in contents.items():
            assert content_of(repository, point) == content
        assert repository.verify(Level.HASHED).good


def test_a_remote_store_is_read_side_by_side(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(store) as repository:
        contents = fill(repository)
    for name in indexes(store):
        del store.objects[name]
    monkeypatch.setattr(MemoryStore, "remote", True)
    monkeypatch.setattr(rebuild, "READ_AHEAD", 3)
    told: list[tuple[int, int]] = []
    with reopen(store) as fresh:
        fresh.rebuild_index(uuid4(), on_progress=lambda done, of: told.append((done, of)))
    assert told == [(number, 8) for number in range(1, 9)]
    assert_whole(store, contents)
