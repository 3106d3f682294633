"""Collects: what is not needed goes, what a point needs stays, whatever happens beside or in between."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import CollectRefused, Damaged, LeaseLost, PointGone
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.lease import LeaseRecord
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository import lease as leases
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.collect.doomed_lists import doomed_packs
from hvpsbridge.repository.collect.report import CollectOptions, CollectReport
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.layout import DATA, DOOMED, FENCES, INDEX, NODES, POINTS, RUNS
from hvpsbridge.repository.opening import create_on_store
from tests.repository.conftest import (
    CHUNK,
    START,
    content_of,
    disk_of,
    make,
    manifest_of,
    reopen,
    store_point,
)
from tests.repository.memory_store import MemoryStore

NOW = CollectOptions(grace=timedelta(0), max_unused=0, merge_from=2)
LATER = CollectOptions(grace=timedelta(0))


def collect(repository: Repository, options: CollectOptions = NOW) -> CollectReport:
    return repository.collect(uuid4(), options)


def noise(seed: int, chunks: int = 8) -> bytes:
    return random.Random(seed).randbytes(chunks * CHUNK)


def names(store: MemoryStore, folder: str) -> set[str]:
    return {info.name for info in store.list(folder)}


def prune(repository: Repository, *points: Point) -> None:
    assert not repository.pruner.prune(points)


def assert_good(store: MemoryStore, expected: dict[UUID, bytes]) -> None:
    """Every point is there for a new process, equal, and nothing is wrong with the repository."""
    with reopen(store) as fresh:
        points = fresh.catalog.points()
        assert {point.point_id for point in points} == set(expected)
        for point in points:
            assert content_of(fresh, point) == expected[point.point_id]
        report = fresh.verify(Level.HASHED)
        assert not report.problems, report.problems


def test_a_pruned_point_is_none_and_its_space_comes_back(repository: Repository, store: MemoryStore) -> None:
    first, second = noise(1), noise(2)
    old = store_point(repository, first)
    new = store_point(repository, second)
    before = sum(map(len, store.objects.values()))
    prune(repository, old)
    assert [point.point_id for point in repository.catalog.points()] == [new.point_id]
    report = collect(repository)
    assert report.deleted_points == 1
    assert sum(map(len, store.objects.values())) < before - len(first) * 9 // 10
    assert_good(store, {new.point_id: second})
    assert len(names(store, POINTS)) == 1
    assert not names(store, DOOMED)
    assert not names(store, RUNS)


def test_what_points_share_stays(repository: Repository, store: MemoryStore) -> None:
    content = bytearray(noise(3, 40))
    points = [store_point(repository, bytes(content))]
    expected = {points[0].point_id: bytes(content)}
    for number in range(5):
        content[number * 7 * CHUNK : number * 7 * CHUNK + 50] = bytes([number + 1]) * 50
        points.append(store_point(repository, bytes(content), base=points[-1], changed=[number * 7]))
        expected[points[-1].point_id] = bytes(content)
    for point in (points[0], points[2], points[4]):
        prune(repository, point)
        del expected[point.point_id]
        collect(repository)
        assert_good(store, expected)


def test_nothing_is_deleted_before_its_time(repository: Repository, store: MemoryStore) -> None:
    old = store_point(repository, noise(1))
    new = store_point(repository, noise(2))
    prune(repository, old)
    packs = names(store, DATA)
    report = collect(repository, CollectOptions())
    assert report.deleted_packs == 0
    assert report.doomed_packs > 0
    assert names(store, DATA) == packs
    report = collect(repository, CollectOptions())
    assert report.waiting_packs > 0
    assert report.waits_until is not None
    assert report.doomed_packs == 0
    report = collect(repository, LATER)
    assert report.deleted_packs > 0
    assert len(names(store, DATA)) < len(packs)
    assert_good(store, {new.point_id: noise(2)})


def test_a_restore_in_the_grace_time_reads_what_was_pruned(repository: Repository) -> None:
    old = store_point(repository, noise(1))
    store_point(repository, noise(2))
    image = repository.image(old, old.disks[0])
    prune(repository, old)
    collect(repository, CollectOptions())
    assert image.readall() == noise(1)


def test_a_reader_of_what_was_pruned_meanwhile_is_told_so(repository: Repository, store: MemoryStore) -> None:
    old = store_point(repository, noise(1))
    store_point(repository, noise(2))
    with reopen(store) as reader, reopen(store) as verifier:
        point = reader.catalog.find_point(f"id:{old.point_id.hex}")
        image = reader.image(point, point.disks[0])
        assert image.read(CHUNK) == noise(1)[:CHUNK]
        checked = verifier.catalog.find_point(f"id:{old.point_id.hex}")
        prune(repository, old)
        collect(repository)
        with pytest.raises(PointGone, match="it was pruned at"):
            reader.image(point, point.disks[0]).readall()
        with pytest.raises(PointGone, match="it was pruned at"):
            verifier.verify(Level.HASHED, [checked])
        with pytest.raises(PointGone, match="it was pruned at"):
            reader.catalog.find_point(old.short_id)


def test_what_is_missing_of_a_point_that_is_there_is_damage(
    repository: Repository, store: MemoryStore
) -> None:
    store_point(repository, noise(1))
    with reopen(store) as reader:
        point = reader.catalog.find_point(str(repository.catalog.points()[0].vm_id))
        for name in names(store, DATA):
            store.delete(name)
        with pytest.raises(Damaged, match="the pack is missing"):
            reader.image(point, point.disks[0]).readall()


def test_a_reader_finds_what_was_moved(repository: Repository, store: MemoryStore) -> None:
    kept, content = fragmented(repository)
    with reopen(store) as reader:
        image = reader.image(kept, kept.disks[0])
        assert collect(repository).moved_bytes > 0
        assert image.readall() == content


def fragmented(repository: Repository) -> tuple[Point, bytes]:
    """A point that needs half of a pack, and its content."""
    content = bytearray(noise(5, 16))
    first = store_point(repository, bytes(content))
    for number in range(0, 16, 2):
        content[number * CHUNK : number * CHUNK + 9] = b"different"
    kept = store_point(repository, bytes(content), base=first, changed=range(0, 16, 2))
    prune(repository, first)
    return kept, bytes(content)


def test_packs_with_much_of_no_use_are_emptied(repository: Repository, store: MemoryStore) -> None:
    kept, content = fragmented(repository)
    report = collect(repository)
    assert report.moved_bytes >= 8 * CHUNK
    stored = sum(len(store.objects[name]) for name in names(store, DATA))
    assert stored < 16.5 * CHUNK
    assert_good(store, {kept.point_id: content})


def test_small_packs_and_index_objects_are_merged(repository: Repository, store: MemoryStore) -> None:
    expected = {}
    for seed in range(6):
        expected[store_point(repository, noise(seed, 2)).point_id] = noise(seed, 2)
    assert len(names(store, DATA)) == len(names(store, INDEX)) == 6
    collect(repository)
    assert len(names(store, DATA)) == len(names(store, NODES)) == len(names(store, INDEX)) == 1
    assert_good(store, expected)


def test_a_check_changes_nothing_and_says_what_would_happen(
    repository: Repository, store: MemoryStore
) -> None:
    fragmented(repository)
    before = dict(store.objects)
    report = repository.collect(uuid4(), CollectOptions(max_unused=0, merge_from=2, check=True))
    assert store.objects == before
    assert report.doomed_packs > 0
    assert report.moved_bytes >= 8 * CHUNK


def test_format_1_is_refused(store: MemoryStore) -> None:
    with (
        create_on_store(store, ChunkGrid(CHUNK), format=1) as repository,
        pytest.raises(CollectRefused, match="format 1") as caught,
    ):
        collect(repository)
    assert "hvps repo upgrade" in str(caught.value)


def test_a_writer_beside_a_collect_keeps_what_it_relies_on(
    repository: Repository, store: MemoryStore
) -> None:
    old = store_point(repository, noise(1))
    with reopen(store) as other, other.begin(uuid4()) as writer:
        disk = writer.disk(8 * CHUNK)
        for number in range(4):  # taken for stored: they are in the packs of the old point
            disk.put(number, noise(1)[number * CHUNK : (number + 1) * CHUNK])
        prune(repository, old)
        report = collect(repository)
        assert report.deleted_packs == 0
        for number in range(4, 8):
            disk.put(number, noise(9)[number * CHUNK : (number + 1) * CHUNK])
        point = writer.commit(manifest_of([disk_of(disk.finish())]))
        writer.check()
        collect(repository)
    report = collect(repository)
    assert report.kept_again > 0
    expected = noise(1)[: 4 * CHUNK] + noise(9)[4 * CHUNK :]
    assert_good(store, {point.point_id: expected})
    collect(repository)
    assert_good(store, {point.point_id: expected})


def test_a_writer_that_begins_after_the_list_stores_what_is_doomed_again(
    repository: Repository, store: MemoryStore
) -> None:
    old = store_point(repository, noise(1))
    kept = store_point(repository, noise(2))
    prune(repository, old)
    collect(repository, CollectOptions())
    with reopen(store) as other:
        again = store_point(other, noise(1))
    report = collect(repository)
    assert report.kept_again == 0
    assert_good(store, {kept.point_id: noise(2), again.point_id: noise(1)})


def test_a_writer_whose_base_is_pruned_meanwhile_commits_nothing(
    repository: Repository, store: MemoryStore
) -> None:
    base = store_point(repository, noise(1))
    kept = store_point(repository, noise(2))
    prune(repository, base)  # between the plan and the beginning of the writer
    with reopen(store) as other, other.begin(uuid4()) as writer:
        tree = writer.disk(8 * CHUNK, base.disks[0].tree).finish()
        with pytest.raises(PointGone):
            writer.commit(manifest_of([disk_of(tree, base=base.point_id)]), {base.point_id})
    collect(repository)
    assert_good(store, {kept.point_id: noise(2)})


def test_a_base_that_is_pruned_after_the_writer_looked_stays_until_it_ends(
    repository: Repository, store: MemoryStore
) -> None:
    base = store_point(repository, noise(1))
    with reopen(store) as other, other.begin(uuid4()) as writer:
        tree = writer.disk(8 * CHUNK, base.disks[0].tree).finish()
        writer._guard.check_bases({base.point_id})
        prune(repository, base)
        for _ in range(3):
            collect(repository)
        point = writer.commit(manifest_of([disk_of(tree)]))
        writer.check()
    for _ in range(2):
        collect(repository)
    assert_good(store, {point.point_id: noise(1)})


def test_a_run_that_died_is_fenced_and_what_it_stored_goes(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_point(repository, noise(2))
    other = reopen(store)
    writer = other.begin(uuid4())
    disk = writer.disk(8 * CHUNK)
    for number in range(8):
        disk.put(number, noise(1)[number * CHUNK : (number + 1) * CHUNK])
    tree = disk.finish()
    writer.flush()
    _declare_dead(monkeypatch, writer._guard.run)
    assert collect(repository).dead_runs == 1
    # The process was only suspended.
    with pytest.raises((LeaseLost, Damaged)):
        writer.commit(manifest_of([disk_of(tree)]))
    assert names(store, FENCES)
    collect(repository)
    assert_good(store, {kept.point_id: noise(2)})
    assert sum(len(store.objects[name]) for name in names(store, DATA)) < 9 * CHUNK


def test_a_run_that_died_on_another_machine_is_fenced_when_it_holds_up_a_list(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_point(repository, noise(2))
    monkeypatch.setattr(leases, "LEASE_RENEW_SECONDS", 1e9)
    other = reopen(store)
    record = LeaseRecord(0, replace(current_holder(uuid4()), boot_id="another"), START, format=2)
    other._objects.write_record(f"{RUNS}/{'ab' * 16}/{0:016x}", Kind.LEASE, record)
    prune(repository, store_point(repository, noise(1)))
    assert collect(repository).dead_runs == 0  # nothing waits for it yet
    monkeypatch.setattr(leases, "LEASE_STALE_SECONDS", 0.4)
    report = collect(repository)
    assert report.dead_runs == 1
    assert report.deleted_packs > 0
    assert not names(store, RUNS)
    assert_good(store, {kept.point_id: noise(2)})


def _declare_dead(monkeypatch: pytest.MonkeyPatch, run: UUID) -> None:
    """Let collects take this run for dead, though its process is this one."""
    is_gone = leases.is_gone
    monkeypatch.setattr(
        leases,
        "is_gone",
        lambda objects, prefix, holder: prefix.endswith(run.hex) or is_gone(objects, prefix, holder),
    )


def test_a_manifest_after_its_fence_is_no_point(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_point(repository, noise(2))
    writer = reopen(store).begin(uuid4())
    first = writer.disk(CHUNK)
    first.put(0, noise(7, 1))
    early = writer.commit(manifest_of([disk_of(first.finish())]))
    late = writer.disk(CHUNK)
    late.put(0, noise(8, 1))
    tree = late.finish()
    writer.flush()
    _declare_dead(monkeypatch, writer._guard.run)
    collect(repository, CollectOptions())
    monkeypatch.setattr(writer, "check", lambda: None)  # suspended after its last look
    void = writer.commit(manifest_of([disk_of(tree)]))
    assert void.point_id.hex in "".join(names(store, POINTS))
    with reopen(store) as fresh:
        found = {point.point_id for point in fresh.catalog.points()}
    assert found == {kept.point_id, early.point_id}
    collect(repository)
    assert void.point_id.hex not in "".join(names(store, POINTS))


def test_protection_wins_over_a_prune_or_says_that_it_lost(
    repository: Repository, store: MemoryStore
) -> None:
    one, two = store_point(repository, noise(1)), store_point(repository, noise(2))
    with reopen(store) as other:
        other.pruner.protect(one)
    assert repository.pruner.prune([one]) == (one,)
    prune(repository, two)
    with reopen(store) as other, pytest.raises(PointGone):
        other.pruner.protect(two)
    collect(repository)
    assert_good(store, {one.point_id: noise(1)})


@pytest.mark.parametrize("moment", ["before the tombstone", "after the tombstone"])
def test_a_protect_that_races_a_prune(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    point = store_point(repository, noise(1))
    bury = type(repository.catalog.states).bury

    def racing(states: object, manifest: object) -> None:
        if moment == "before the tombstone":
            with reopen(store) as other:
                other.pruner.protect(point)
        bury(states, manifest)  # type: ignore[arg-type]  # passed on
        if moment == "after the tombstone":
            with reopen(store) as other, pytest.raises(PointGone):
                other.pruner.protect(point)

    monkeypatch.setattr(type(repository.catalog.states), "bury", racing)
    kept = repository.pruner.prune([point])
    with reopen(store) as fresh:
        assert [each.point_id for each in fresh.catalog.points()] == [each.point_id for each in kept]
    assert bool(kept) == (moment == "before the tombstone")


def test_tags_are_added_and_removed(repository: Repository, store: MemoryStore) -> None:
    point = store_point(repository, noise(1))
    repository.pruner.tag(point, add=["monthly", "before upgrade"])
    repository.pruner.tag(point, remove=["monthly"])
    with reopen(store) as fresh:
        states = fresh.catalog.states.read()
        assert states.tags_of(point.manifest).tags == {"before upgrade"}


def test_the_copy_that_stays_is_checked_before_the_other_one_goes(
    repository: Repository, store: MemoryStore
) -> None:
    kept, content = fragmented(repository)
    # Only moves and dooms: the list waits for its time.
    assert collect(repository, CollectOptions(max_unused=0, merge_from=2)).moved_bytes > 0
    with reopen(store) as fresh:
        doomed = doomed_packs(fresh._objects)
        moved = next(
            place
            for pack in fresh._cache.packs()
            if pack.name not in doomed
            for place in fresh._cache.pack_entries(pack.number)
            if len(fresh._cache.find(place.id)) > 1
        )
        name = f"data/{moved.pack.hex()[:2]}/{moved.pack.hex()}"
    rotten = bytearray(store.objects[name])
    rotten[moved.offset + moved.frame_bytes - 1] ^= 1
    store.objects[name] = bytes(rotten)
    with reopen(store) as fresh:
        assert collect(fresh, LATER).kept_again > 0
    with reopen(store) as fresh:
        assert content_of(fresh, fresh.catalog.points()[0]) == content
    assert kept.point_id


def test_nothing_is_deleted_while_a_point_cannot_be_read(repository: Repository, store: MemoryStore) -> None:
    old = store_point(repository, noise(1))
    lost = store_point(repository, noise(2))
    repository.catalog.proofs.record(lost, Proof("written", START, 1, uuid4()))
    prune(repository, old)
    name = f"points/{lost.point_id.hex}"
    stored = store.objects[name]
    store.objects[name] = stored[:-1] + bytes([stored[-1] ^ 1])
    with reopen(store) as fresh, pytest.raises(CollectRefused, match="points/"):
        collect(fresh)


def test_every_step_may_be_the_last(store: MemoryStore) -> None:
    """A collect that dies between any two changes leaves every point, and the next one ends it."""
    with make(store) as repository:
        fragmented(repository)
        for seed in range(3):
            store_point(repository, noise(seed + 20, 2), vm_id=UUID(int=seed + 1))
        expected = {point.point_id: content_of(repository, point) for point in repository.catalog.points()}
    before = dict(store.objects)
    step = 0
    while True:
        store.objects = dict(before)
        dying = Dying(store, step)
        finished = False
        try:
            with reopen(dying) as repository:
                collect(repository)
                finished = True
        except Died:
            pass
        assert_good(store, expected)
        with reopen(store) as repository:
            collect(repository)
            collect(repository)
        assert_good(store, expected)
        stored = sum(len(store.objects[name]) for name in names(store, DATA))
        assert stored < 23 * CHUNK, f"step {step}"
        if finished:
            break
        step += 1
    assert step > 20


class Died(BaseException):
    """The process was killed."""


class Dying(MemoryStore):
    """Another view of a store whose process dies before its change number ``step``."""

    def __init__(self, store: MemoryStore, step: int) -> None:
        super().__init__()
        self.objects = store.objects
        self.left = step
        self.dead = False

    def _change(self) -> None:
        if self.left == 0:
            self.dead = True
        if self.dead:
            raise Died
        self.left -= 1

    def put(self, name: str, data: bytes) -> None:
        self._change()
        super().put(name, data)

    def delete(self, name: str) -> None:
        self._change()
        super().delete(name)
