"""Verification finds every kind of damage and names every point, VM and part it touches."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.repository import Level, Repository
from hvpsbridge.repository.repository import open_on_store
from hvpsbridge.repository.stores.memory import MemoryStore
from tests.repository.conftest import CHUNK, VM, content_of, store_point


def content(seed: int, chunks: int = 8) -> bytes:
    return random.Random(seed).randbytes(chunks * CHUNK)


def damage(store: MemoryStore, prefix: str, at: int = FRAME_BYTES + 100) -> str:
    name = sorted(name for name in store.objects if name.startswith(prefix))[0]
    data = bytearray(store.objects[name])
    data[at] ^= 0x40
    store.objects[name] = bytes(data)
    return name


def test_a_good_repository_is_good_at_both_levels(repository: Repository) -> None:
    store_point(repository, content(1))
    for level in Level:
        report = repository.verify(level)
        assert report.good
        assert (report.points, report.chunks) == (1, 8)
        assert report.hashed_chunks == (8 if level is Level.HASHED else 0)


def test_a_flipped_bit_in_a_chunk_names_all_points_that_need_it(
    repository: Repository, store: MemoryStore
) -> None:
    shared = content(2)
    first = store_point(repository, shared)
    damage(store, "data/")
    second = store_point(repository, shared, vm_id=(other := uuid4()), vm_name="mail")
    clean = store_point(repository, content(3), vm_id=other, vm_name="mail")
    assert repository.verify(Level.WRITTEN).good
    report = repository.verify(Level.HASHED)
    (problem,) = report.problems
    assert {touched.point_id for touched in problem.touches} == {first.point_id, second.point_id}
    assert {touched.vm_id for touched in problem.touches} == {VM, other}
    assert all(touched.parts == ("disk scsi 0:0",) for touched in problem.touches)
    assert len(report.bad) == 1
    assert content_of(repository, clean) == content(3)
    with pytest.raises(Damaged):
        content_of(repository, first)


def test_a_missing_pack_is_found_without_hashing(repository: Repository, store: MemoryStore) -> None:
    point = store_point(repository, content(4))
    del store.objects[next(name for name in store.objects if name.startswith("data/"))]
    report = repository.verify(Level.WRITTEN)
    assert len(report.problems) == 8
    assert all(
        problem.touches[0].point_id == point.point_id and "missing" in problem.what
        for problem in report.problems
    )


def test_a_cut_pack_is_found_without_hashing(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, content(5))
    name = next(name for name in store.objects if name.startswith("data/"))
    store.objects[name] = store.objects[name][:-1]
    assert not repository.verify(Level.WRITTEN).good


def test_a_damaged_node_names_the_points_it_breaks(repository: Repository, store: MemoryStore) -> None:
    point = store_point(repository, content(6))
    damage(store, "nodes/")
    (problem,) = repository.verify(Level.WRITTEN).problems
    assert problem.name.startswith("node ")
    assert [touched.point_id for touched in problem.touches] == [point.point_id]


@pytest.mark.parametrize("prefix", ["points/", "index/"])
def test_a_damaged_object_is_named(store: MemoryStore, repository: Repository, prefix: str) -> None:
    store_point(repository, content(7))
    name = damage(store, prefix)
    with open_on_store(store) as fresh:
        assert name in {problem.name for problem in fresh.verify(Level.WRITTEN).problems}


def test_a_lost_manifest_is_a_gap_in_its_line(store: MemoryStore, repository: Repository) -> None:
    points = [store_point(repository, content(8 + number)) for number in range(3)]
    del store.objects[f"points/{points[1].point_id.hex}"]
    with open_on_store(store) as fresh:
        (problem,) = fresh.verify(Level.WRITTEN).problems
        assert str(VM) in problem.name
        assert "2 is missing" in problem.what


def test_a_chunk_with_a_second_good_copy_is_no_loss(repository: Repository, store: MemoryStore) -> None:
    data = content(11, 1)
    with open_on_store(store) as other:
        writers = [repository.begin(uuid4()), other.begin(uuid4())]
        for writer in writers:  # both before either publishes an index: two copies
            writer.disk(CHUNK, None).put(0, data)
        for writer in writers:
            writer.flush()
            writer.close()
    point = store_point(repository, data)
    assert len([name for name in store.objects if name.startswith("data/")]) == 2
    damage(store, "data/")
    with open_on_store(store) as fresh:
        report = fresh.verify(Level.HASHED)
        assert report.good
        assert len(report.bad) == 1
        assert content_of(fresh, point) == data


def test_a_subset_reads_its_share_and_all_shares_read_everything(repository: Repository) -> None:
    store_point(repository, content(12, 40))
    counts = [repository.verify(Level.HASHED, subset=(part, 4)).hashed_chunks for part in (1, 2, 3, 4)]
    assert sum(counts) == 40
    assert max(counts) < 40


def test_only_the_asked_points_are_looked_at(repository: Repository, store: MemoryStore) -> None:
    first = store_point(repository, content(13))
    damage(store, "data/")
    second = store_point(repository, content(14))
    assert repository.verify(Level.HASHED, [second]).good
    assert not repository.verify(Level.HASHED, [first]).good
