"""Lost chunks and nodes come back from another copy, whatever its key."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, Damaged
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import Level, Point, Repository, copy_points
from hvpsbridge.repository.layout import DATA, INDEX, NODES
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.refilling import RefillReport
from tests.repository.conftest import CHUNK, content_of, make, reopen, store_point
from tests.repository.memory_store import MemoryStore


def fill(repository: Repository) -> dict[Point, bytes]:
    """Two points of a disk with zeros and two levels of nodes."""
    dice = random.Random(5)
    content = bytearray(dice.randbytes(5 * CHUNK) + bytes(255 * CHUNK) + dice.randbytes(3 * CHUNK + 512))
    point = store_point(repository, bytes(content))
    made = {point: bytes(content)}
    content[CHUNK : 2 * CHUNK] = dice.randbytes(CHUNK)
    content[262 * CHUNK] ^= 1
    point = store_point(repository, bytes(content), base=point, changed=[1, 262])
    made[point] = bytes(content)
    return made


@pytest.fixture(params=["plain copy", "sealed copy"])
def copy(request: pytest.FixtureRequest, repository: Repository) -> Repository:
    """A copy of what :func:`fill` stored, under a key of its own."""
    target = make(MemoryStore(), sealed=request.param == "sealed copy")
    fill(repository)
    copy_points(repository, target)
    return target


def lose(store: MemoryStore, *folders: str) -> None:
    for name in [name for name in store.objects if name.split("/")[0] in folders]:
        del store.objects[name]


def refilled(store: MemoryStore, source: Repository) -> RefillReport:
    """A refill and a repair by a new process; afterwards everything is good."""
    with reopen(store) as fresh:
        before = dict(store.objects)
        looked = fresh.refill(source, uuid4(), check=True)
        assert store.objects == before
        report = fresh.refill(source, uuid4())
        assert (report.lost, report.taken) == (looked.lost, looked.taken)
        assert fresh.repair(uuid4()).whole
    return report


def assert_whole(store: MemoryStore, source: Repository) -> None:
    expected = {point.point_id: content_of(source, point) for point in source.catalog.points()}
    with reopen(store) as fresh:
        assert {point.point_id: content_of(fresh, point) for point in fresh.catalog.points()} == expected
        verified = fresh.verify(Level.HASHED)
        assert (verified.problems, verified.notes) == ((), ())
        assert not fresh.lost_chunks(fresh.catalog.points())


@pytest.mark.parametrize("folders", [(DATA,), (NODES,), (DATA, NODES)], ids=" and ".join)
def test_lost_packs_come_back(store: MemoryStore, copy: Repository, folders: tuple[str, ...]) -> None:
    lose(store, *folders)
    report = refilled(store, copy)
    assert report.taken == report.lost > 0
    assert_whole(store, copy)


def test_chunks_that_verify_lists_come_back(store: MemoryStore, copy: Repository) -> None:
    for name in [name for name in store.objects if name.startswith((f"{DATA}/", f"{NODES}/"))]:
        data = bytearray(store.objects[name])
        data[len(data) // 2] ^= 1
        store.objects[name] = bytes(data)
    with reopen(store) as fresh:
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
    report = refilled(store, copy)
    assert report.taken == report.lost > 0
    with reopen(store) as fresh:
        assert fresh.verify(Level.HASHED).good


def test_chunks_in_no_index_come_back(store: MemoryStore, copy: Repository) -> None:
    lose(store, DATA, NODES, INDEX)
    report = refilled(store, copy)
    assert report.taken == report.lost > 0
    with reopen(store) as fresh:
        assert fresh.verify(Level.HASHED).good


def test_what_the_copy_lacks_stays_lost_and_is_listed(store: MemoryStore, copy: Repository) -> None:
    older, newer = copy.catalog.points()
    other = MemoryStore()
    with make(other) as part:
        copy_points(copy, part, [older])
        lose(store, DATA)
        with reopen(store) as fresh:
            report = fresh.refill(part, uuid4())
            assert 0 < report.taken < report.lost
            assert not fresh.repair(uuid4()).whole
    with reopen(store) as fresh:
        points = {point.point_id: point for point in fresh.catalog.points()}
        assert content_of(fresh, points[older.point_id]) == content_of(copy, older)
        assert fresh.lost_chunks(list(points.values())) == report.lost - report.taken == 2
        with pytest.raises(Damaged):
            content_of(fresh, points[newer.point_id])
        # The rest comes from the whole copy.
        assert fresh.refill(copy, uuid4()).taken == 2
        fresh.repair(uuid4())
    assert_whole(store, copy)


def test_a_copy_with_another_content_is_not_believed(store: MemoryStore, repository: Repository) -> None:
    made = fill(repository)
    with make(MemoryStore()) as forged:
        for point, content in made.items():
            wrong = bytes(byte ^ 1 for byte in content[:CHUNK]) + content[CHUNK:]
            store_point(forged, wrong, point_id=point.point_id, created=point.created)
        lose(store, DATA)
        with reopen(store) as fresh:
            report = fresh.refill(forged, uuid4())
            assert report.lost - report.taken == 1
            assert not fresh.verify(Level.HASHED).good


def test_another_grid_is_refused(store: MemoryStore, repository: Repository) -> None:
    fill(repository)
    before = dict(store.objects)
    other = create_on_store(MemoryStore(), ChunkGrid(2 * CHUNK))
    with other, pytest.raises(ConfigurationError, match="its chunks have 128 KiB, those of"):
        repository.refill(other, uuid4())
    assert store.objects == before


def test_a_repair_lists_what_is_lost(store: MemoryStore, repository: Repository) -> None:
    fill(repository)
    lose(store, DATA)
    with reopen(store) as fresh:
        assert not fresh.lost_chunks(fresh.catalog.points())
        report = fresh.repair(uuid4())
        assert report.marked > 0
        assert fresh.lost_chunks(fresh.catalog.points()) == report.marked
        assert fresh.repair(uuid4()).marked == 0
