"""A repair removes what remains of repaired damage, and never the last copy of a chunk."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from uuid import uuid4

import pytest

from hvpsbridge.errors import RepositoryLocked, StoreError
from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.repository import Level, Point, Repository
from hvpsbridge.repository.check.restore_tool import shipped
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.layout import RUNS
from hvpsbridge.repository.lease import Lease
from tests.repository.conftest import CHUNK, content_of, reopen, store_point
from tests.repository.memory_store import MemoryStore


def content(seed: int, chunks: int = 6) -> bytes:
    return random.Random(seed).randbytes(chunks * CHUNK)


def packs(store: MemoryStore) -> list[str]:
    return [name for name in store.objects if name.startswith("data/")]


def flip(store: MemoryStore, name: str, at: int = FRAME_BYTES + 100) -> None:
    data = bytearray(store.objects[name])
    data[at] ^= 0x40
    store.objects[name] = bytes(data)


def restored(store: MemoryStore, points: dict[Point, bytes]) -> None:
    with reopen(store) as fresh:
        for point, data in points.items():
            assert content_of(fresh, point) == data


@pytest.fixture
def lost_and_stored_again(store: MemoryStore, repository: Repository) -> dict[Point, bytes]:
    """Two points; the first pack is lost, listed as bad, and its chunks were stored again."""
    points = {
        store_point(repository, content(1)): content(1),
        store_point(repository, content(2)): content(2),
    }
    del store.objects[packs(store)[0]]
    with reopen(store) as fresh:
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
        points[store_point(fresh, content(1))] = content(1)
    return points


def test_a_lost_pack_whose_chunks_exist_again_is_dropped(
    store: MemoryStore, lost_and_stored_again: dict[Point, bytes]
) -> None:
    with reopen(store) as fresh:
        assert fresh.verify(Level.HASHED).notes
        before = dict(store.objects)
        looked = fresh.repair(uuid4(), check=True)
        assert store.objects == before
        report = fresh.repair(uuid4())
        assert (report.dropped, report.left, report.kept) == (looked.dropped, (), ())
        assert report.removed == looked.removed
        assert len(report.dropped) == 1
        assert report.whole
    assert not [name for name in store.objects if name.startswith("bad/")]
    with reopen(store) as fresh:
        verified = fresh.verify(Level.HASHED)
        assert (verified.problems, verified.notes) == ((), ())
        again = fresh.repair(uuid4())
        assert (again.dropped, again.left, again.removed) == ((), (), ())
    restored(store, lost_and_stored_again)


def test_nothing_is_dropped_while_a_point_needs_it(store: MemoryStore, repository: Repository) -> None:
    store_point(repository, content(1))
    other = store_point(repository, content(2))
    del store.objects[packs(store)[0]]
    with reopen(store) as fresh:
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
        before = dict(store.objects)
        report = fresh.repair(uuid4())
        assert [(pack.lost_chunks, pack.what.split(";")[0]) for pack in report.left] == [
            (6, "the pack is missing")
        ]
        assert (report.dropped, report.removed, report.whole) == ((), (), False)
        assert {name for name in store.objects if not name.startswith(("runs/", "leases/"))} == set(before)
        assert content_of(fresh, other) == content(2)


def test_a_pack_with_a_bad_frame_stays_for_its_other_chunks(
    store: MemoryStore, repository: Repository
) -> None:
    points = {store_point(repository, content(1)): content(1)}
    flip(store, packs(store)[0])
    with reopen(store) as fresh:
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
        points[store_point(fresh, content(1))] = content(1)
        report = fresh.repair(uuid4())
        assert report.whole
        assert [pack.what for pack in report.left] == [
            "it has frames that are listed as bad; it has the only copy of 5 chunks"
        ]
        assert report.removed == ()
        assert fresh.verify(Level.HASHED).good
    restored(store, points)


def test_of_two_packs_with_the_same_chunks_one_stays(store: MemoryStore, repository: Repository) -> None:
    data = content(1)
    with reopen(store) as other:
        writers = [repository.begin(uuid4()), other.begin(uuid4())]
        for writer in writers:  # both before either publishes an index: two copies
            disk = writer.disk(len(data), None)
            for number in range(6):
                disk.put(number, data[number * CHUNK : (number + 1) * CHUNK])
        for writer in writers:
            writer.flush()
            writer.close()
    points = {store_point(repository, data): data}
    first, second = packs(store)
    with reopen(store) as fresh:  # both are listed as bad, although both can be read
        fresh.publish_bad(
            [
                (frame.id, frame.pack)
                for name in (first, second)
                for frame in fresh._cache.frames_of(bytes.fromhex(name.rsplit("/", 1)[1]))
            ]
        )
        report = fresh.repair(uuid4())
        assert len(report.dropped) == 1
        assert len(packs(store)) == 1
        assert fresh.verify(Level.HASHED).good
    restored(store, points)


def test_a_lost_pack_that_no_point_needs_is_dropped(store: MemoryStore, repository: Repository) -> None:
    points = {store_point(repository, content(1)): content(1)}
    kept = set(packs(store))
    with repository.begin(uuid4()) as writer:
        writer.disk(CHUNK, None).put(0, content(9, 1))
        writer.flush()
    (unneeded,) = set(packs(store)) - kept
    del store.objects[unneeded]
    with reopen(store) as fresh:
        assert not fresh.verify(Level.WRITTEN).good
        assert fresh.repair(uuid4()).dropped == (unneeded,)
        assert fresh.verify(Level.HASHED).good
    restored(store, points)


def test_with_a_damaged_manifest_every_chunk_counts_as_needed(
    store: MemoryStore, repository: Repository
) -> None:
    point = store_point(repository, content(1))
    del store.objects[packs(store)[0]]
    name = f"points/{point.point_id.hex}"
    flip(store, name, at=-1)
    with reopen(store) as fresh:
        report = fresh.repair(uuid4())
        assert report.dropped == ()
        assert not report.whole


def test_what_says_nothing_is_removed_and_restore_py_put_back(
    store: MemoryStore, repository: Repository
) -> None:
    store_point(repository, content(1))
    junk = [f"bad/{uuid4().hex}", f"ids/{uuid4().hex}", f"proofs/{uuid4().hex}/{3:016x}", f"exports/{3:016x}"]
    for name in junk:
        store.objects[name] = b"junk" * 20
    store.objects["restore.py"] = b"evil"
    with reopen(store) as fresh:
        report = fresh.repair(uuid4())
        assert set(report.removed) == set(junk)
        assert report.restore_tool
        verified = fresh.verify(Level.HASHED)
        assert (verified.problems, verified.notes) == ((), ())
    assert store.objects["restore.py"] == shipped()


def test_a_store_that_deletes_nothing(lost_and_stored_again: dict[Point, bytes], store: MemoryStore) -> None:
    class AppendOnly(MemoryStore):
        def delete(self, name: str) -> None:
            raise StoreError(self.url, "delete", name, "permission denied")

    locked = AppendOnly()
    locked.objects = store.objects
    with reopen(locked) as fresh:
        report = fresh.repair(uuid4())
        assert len(report.dropped) == 1
        assert set(report.kept) == set(report.removed) != set()
    with reopen(locked) as fresh:
        assert fresh.verify(Level.HASHED).good
        again = fresh.repair(uuid4())
        assert again.dropped == ()
    restored(locked, lost_and_stored_again)


def test_a_run_that_is_writing_is_left_alone(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Lease(repository._objects, f"{RUNS}/{uuid4().hex}", current_holder(uuid4()), "run", once=True)
    try:
        with reopen(store) as fresh, pytest.raises(RepositoryLocked):
            fresh.repair(uuid4())
    finally:
        run.release()


class Dying(MemoryStore):
    """Takes so many changes, and then none: the process is dead."""

    left = 10**9

    def _change(self, work: Callable[[], None]) -> None:
        if self.left <= 0:
            raise StoreError(self.url, "write", "anything", "dead")
        self.left -= 1
        work()

    def put(self, name: str, data: bytes) -> None:
        self._change(lambda: MemoryStore.put(self, name, data))

    def delete(self, name: str) -> None:
        self._change(lambda: MemoryStore.delete(self, name))


@pytest.mark.parametrize("steps", range(12))
def test_a_kill_at_every_step_leaves_what_verifies_as_before(
    steps: int, store: MemoryStore, lost_and_stored_again: dict[Point, bytes]
) -> None:
    store.objects["restore.py"] = b"evil"
    dying = Dying()
    dying.objects = store.objects
    fresh = reopen(dying)
    dying.left = steps
    with contextlib.suppress(StoreError):
        fresh.repair(uuid4())
    restored(store, lost_and_stored_again)
    with reopen(store) as after:
        problems = after.verify(Level.HASHED).problems
        assert {problem.name for problem in problems} <= {"restore.py"}
        after.repair(uuid4())
        report = after.verify(Level.HASHED)
        assert (report.problems, report.notes) == ((), ())
