"""A collect beside other processes, at the moments at which it could go wrong, and what it removes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged, RepositoryLocked
from hvpsbridge.formats.doomed import DoomedList
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexObject
from hvpsbridge.formats.lease import LeaseRecord
from hvpsbridge.formats.manifest import Manifest, Proof
from hvpsbridge.formats.marks import BadFrame
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.collect import collector, view
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.index_objects import publish_index, read_index
from hvpsbridge.repository.layout import BAD, DATA, DOOMED, INDEX, POINTS, PROOFS, RUNS, TAGS
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.runs import collect_lease
from hvpsbridge.repository.stored_packs import write_bad_list
from hvpsbridge.repository.stores.base import MAX_OBJECT_BYTES, ObjectInfo
from hvpsbridge.repository.writer import Writer
from tests.repository.conftest import CHUNK, START, VM, disk_of, manifest_of, reopen, store_point
from tests.repository.memory_store import MemoryStore
from tests.repository.test_collect import Died, assert_good, collect, fragmented, names, noise, prune


class Between(MemoryStore):
    """Another view of a store, in which something happens once, before an operation on a name."""

    def __init__(
        self, store: MemoryStore, operation: str, prefix: str, happens: Callable[[], object]
    ) -> None:
        super().__init__()
        self.objects = store.objects
        self._moment = (operation, prefix)
        self._happens: Callable[[], object] | None = happens

    def _at(self, operation: str, name: str) -> None:
        happens = self._happens
        if happens is not None and operation == self._moment[0] and name.startswith(self._moment[1]):
            self._happens = None
            happens()

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        self._at("get", name)
        return super().get(name, max_bytes)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        self._at("list", prefix)
        return iter(found)

    def put(self, name: str, data: bytes) -> None:
        self._at("put", name)
        super().put(name, data)


def test_a_writer_reads_a_list_that_is_replaced_meanwhile(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune(repository, store_point(repository, noise(1)))
    # A collect that died between its two lists.
    publish, lists = collector.publish_doomed, list[object]()

    def dying(objects: Objects, listed: DoomedList) -> str:
        if lists:
            raise Died
        lists.append(listed)
        return publish(objects, listed)

    monkeypatch.setattr(collector, "publish_doomed", dying)
    with pytest.raises(Died):
        collect(repository)
    monkeypatch.setattr(collector, "publish_doomed", publish)
    held = store_point(repository, noise(2))
    between = Between(store, "get", DOOMED, lambda: collect(repository, CollectOptions()))
    with reopen(between) as other, other.begin(uuid4()) as writer:
        assert other._cache._doomed
        assert writer.known_chunk(hashlib.sha256(noise(1)[:CHUNK]).digest(), CHUNK) is None
    assert held.point_id


def test_a_reader_finds_what_was_moved_twice(repository: Repository, store: MemoryStore) -> None:
    kept, content = fragmented(repository)
    with reopen(store) as reader:
        assert reader.image(kept, kept.disks[0]).readall() == content
        for seed in (31, 32, 33):
            assert collect(repository).moved_bytes > 0
            assert reader.image(kept, kept.disks[0]).readall() == content
            store_point(repository, noise(seed, 2))


def test_a_verify_beside_a_collect_finds_nothing(repository: Repository, store: MemoryStore) -> None:
    old = store_point(repository, noise(1))
    kept, content = fragmented(repository)

    def happens() -> None:
        prune(repository, old)
        assert collect(repository).moved_bytes > 0

    with reopen(Between(store, "get", "data/", happens)) as other:
        report = other.verify(Level.HASHED)
    assert not report.problems
    assert not report.bad
    assert_good(store, {kept.point_id: content})


def test_a_pack_that_two_index_objects_list_stays(repository: Repository, store: MemoryStore) -> None:
    kept = store_point(repository, noise(1))
    for name in names(store, INDEX):
        publish_index(repository._objects, IndexObject((), read_index(repository._objects, name).packs))
    for seed in (2, 3):
        prune(repository, store_point(repository, noise(seed)))
        collect(repository)
        assert_good(store, {kept.point_id: noise(1)})


def test_a_fence_that_another_collect_begins_late_does_not_void_a_point(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = reopen(store)
    writer = other.begin(uuid4())
    disk = writer.disk(CHUNK)
    disk.put(0, noise(7, 1))
    tree = disk.finish()
    list_them, made = view._manifests, list[UUID]()

    def late(catalog: Catalog, url: str) -> list[Manifest]:
        found = list_them(catalog, url)
        if not made:
            made.append(writer.commit(manifest_of([disk_of(tree)])).point_id)
            writer.check()
            other.catalog.fences.begin(writer._guard.run)
        return found

    monkeypatch.setattr(view, "_manifests", late)
    collect(repository)
    collect(repository)
    assert_good(store, {made[0]: noise(7, 1)})


def test_a_fence_that_is_not_decided_is_decided_by_the_next_point(
    repository: Repository, store: MemoryStore
) -> None:
    writer = repository.begin(uuid4())
    disk = writer.disk(CHUNK)
    disk.put(0, noise(7, 1))
    point = writer.commit(manifest_of([disk_of(disk.finish())]))
    repository.catalog.fences.begin(writer._guard.run)
    with reopen(store) as other:
        assert other.catalog.next_link(VM)[0] == 2
        assert other.catalog.fences.all() == {writer._guard.run: {point.point_id}}


def test_repair_rebuild_and_collect_exclude_each_other(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    with reopen(store) as other, collect_lease(other._objects, uuid4()):
        for work in (repository.repair, repository.rebuild_index, lambda run: collect(repository)):
            with pytest.raises(RepositoryLocked, match="collect"):
                work(uuid4())
    assert not names(store, RUNS)
    assert repository.repair(uuid4()).whole


def test_a_missing_pack_does_not_stop_a_collect(repository: Repository, store: MemoryStore) -> None:
    fragmented(repository)
    for seed in (8, 9):
        prune(repository, store_point(repository, noise(seed)))
    with reopen(store) as fresh:
        kept = fresh.catalog.points()[0]
        needed = {identity for _, identity in fresh.image(kept, kept.disks[0]).chunk_ids()}
        lost = next(
            f"data/{pack.name.hex()[:2]}/{pack.name.hex()}"
            for pack in fresh._cache.packs()
            if pack.kind is Kind.DATA_PACK
            and {place.id in needed for place in fresh._cache.pack_entries(pack.number)} == {True, False}
        )
    del store.objects[lost]
    with reopen(store) as fresh:
        report = collect(fresh)
    assert lost in report.damaged
    assert report.deleted_packs > 0


# -- what is left over ------------------------------------------------------------------------------------


def test_a_run_object_that_was_released_but_not_deleted_goes(
    repository: Repository, store: MemoryStore
) -> None:
    record = LeaseRecord(0, replace(current_holder(uuid4()), boot_id="another"), START, True, 2)
    repository._objects.write_record(f"{RUNS}/{'ab' * 16}/{0:016x}", Kind.LEASE, record)
    collect(repository)
    assert not names(store, RUNS)


def test_what_is_said_of_a_point_that_is_gone_goes(repository: Repository, store: MemoryStore) -> None:
    kept = store_point(repository, noise(1))
    old = store_point(repository, noise(2))
    prune(repository, old)
    collect(repository)
    # Processes that were suspended.
    repository.catalog.proofs.record(old, Proof("written", START, 1, uuid4()))
    repository.pruner.tag(old, add=["monthly"])
    collect(repository)
    assert not names(store, PROOFS) | names(store, TAGS)
    assert_good(store, {kept.point_id: noise(1)})


def test_lists_of_bad_frames_whose_packs_are_gone_go(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    here = next(pack for pack in repository._cache.packs() if pack.kind is Kind.DATA_PACK)
    frame = repository._cache.pack_entries(here.number)[0]
    write_bad_list(repository._objects, [BadFrame(frame.id, frame.pack)])
    (kept,) = names(store, BAD)
    write_bad_list(repository._objects, [BadFrame(frame.id, bytes(15) + b"1")])
    collect(repository)
    assert names(store, BAD) == {kept}


def test_the_tombstone_of_a_prune_that_died_does_not_count_when_protection_ends(
    repository: Repository, store: MemoryStore
) -> None:
    point = store_point(repository, noise(1))
    repository.pruner.protect(point)
    repository.catalog.states.bury(point.manifest)
    repository.pruner.unprotect(point)
    collect(repository)
    assert_good(store, {point.point_id: noise(1)})


def test_a_prune_that_was_suspended_does_not_lose_the_tombstone(
    repository: Repository, store: MemoryStore
) -> None:
    old, kept = store_point(repository, noise(1)), store_point(repository, noise(2))
    prune(repository, old)
    collect(repository)
    # It saw that the point was protected, before that ended and others pruned and collected it.
    repository.pruner._dig_up(old)
    assert_good(store, {kept.point_id: noise(2)})
    assert old.point_id.hex not in "".join(names(store, POINTS))


def test_an_index_object_that_comes_back_after_a_power_loss_stays_superseded(
    repository: Repository, store: MemoryStore
) -> None:
    old = [store_point(repository, noise(seed)) for seed in (1, 2)]
    before = {name: store.objects[name] for name in names(store, INDEX)}
    collect(repository, CollectOptions())  # merges both
    assert len(names(store, INDEX)) == 1
    store.objects.update(before)
    prune(repository, *old)
    with reopen(store) as fresh:
        collect(fresh)
    assert_good(store, {})
    assert not names(store, INDEX) | names(store, DATA)


def test_a_writer_that_begins_just_before_the_list_is_there_is_waited_for(
    repository: Repository, store: MemoryStore
) -> None:
    kept = store_point(repository, noise(2))
    prune(repository, store_point(repository, noise(1)))
    begun: list[Writer] = []
    between = Between(store, "put", DOOMED, lambda: begun.append(reopen(store).begin(uuid4())))
    with reopen(between) as collecting:
        collect(collecting, CollectOptions())
    (writer,) = begun
    disk = writer.disk(8 * CHUNK)
    for number in range(8):  # taken for stored: the writer did not see the list
        disk.put(number, noise(1)[number * CHUNK : (number + 1) * CHUNK])
    assert collect(repository).deleted_packs == 0
    point = writer.commit(manifest_of([disk_of(disk.finish())]))
    writer.check()
    writer.close()
    collect(repository)
    assert_good(store, {kept.point_id: noise(2), point.point_id: noise(1)})


def test_a_writer_that_ends_while_a_collect_looks_is_seen_by_its_point(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_point(repository, noise(2))
    old = store_point(repository, noise(1))
    with reopen(store) as other, other.begin(uuid4()) as writer:
        prune(repository, old)
        collect(repository, CollectOptions())
        disk = writer.disk(8 * CHUNK)
        for number in range(8):
            disk.put(number, noise(1)[number * CHUNK : (number + 1) * CHUNK])
        run_states, made = view.run_states, list[UUID]()

        def ends_first(objects: Objects, own: UUID | None) -> object:
            if not made:
                made.append(writer.commit(manifest_of([disk_of(disk.finish())])).point_id)
                writer.check()
                writer.close()
            return run_states(objects, own)

        monkeypatch.setattr(view, "run_states", ends_first)
        collect(repository)
    assert_good(store, {kept.point_id: noise(2), made[0]: noise(1)})


def test_a_writer_commits_nothing_if_a_pack_that_it_used_is_gone(
    repository: Repository, store: MemoryStore
) -> None:
    store_point(repository, noise(1))
    with reopen(store) as other, other.begin(uuid4()) as writer:
        disk = writer.disk(8 * CHUNK)
        for number in range(8):
            disk.put(number, noise(1)[number * CHUNK : (number + 1) * CHUNK])
        tree = disk.finish()
        for name in names(store, DATA):
            store.delete(name)
        with pytest.raises(Damaged, match="used by this run"):
            writer.commit(manifest_of([disk_of(tree)]))


def test_a_reader_that_lists_the_index_just_before_it_is_merged_finds_everything(
    repository: Repository, store: MemoryStore
) -> None:
    kept = [store_point(repository, noise(seed)) for seed in (1, 2)]
    merges = Between(store, "get", "index/", lambda: collect(repository))
    with reopen(merges) as other:
        assert other._cache.packs()
        for point, seed in zip(kept, (1, 2), strict=True):
            assert {place.id for place in other._cache.find(point.disks[0].tree.root)}
            assert other.image(point, point.disks[0]).readall() == noise(seed)


def test_a_repair_leaves_what_a_backup_stores_meanwhile(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    made: list[Point] = []
    # It has just listed the packs.
    between = Between(store, "list", "nodes", lambda: made.append(store_point(repository, noise(2))))
    with reopen(between) as other:
        assert not other.repair(uuid4()).dropped
    with reopen(store) as fresh:
        assert fresh.image(made[0], made[0].disks[0]).readall() == noise(2)
