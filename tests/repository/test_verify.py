"""Verification finds every kind of damage, and lists every point, VM and part that it touches."""

from __future__ import annotations

import hashlib
import random
from uuid import uuid4

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Level, Repository
from hvpsbridge.repository.check import restore_tool as restore_tools
from tests.repository.conftest import CHUNK, VM, content_of, disk_of, make, manifest_of, reopen, store_point
from tests.repository.memory_store import MemoryStore


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
        assert report.hashed_chunks == (8 + 1 if level is Level.HASHED else 0)  # with a node


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


def test_a_bad_frame_that_no_point_needs_is_found_too(repository: Repository, store: MemoryStore) -> None:
    with repository.begin(uuid4()) as writer:
        writer.disk(CHUNK, None).put(0, content(15, 1))
        writer.flush()
    name = damage(store, "data/")
    assert repository.verify(Level.WRITTEN).good
    report = repository.verify(Level.HASHED)
    (problem,) = report.problems
    assert name in problem.what
    assert problem.touches == ()
    assert len(report.bad) == 1


def test_a_lost_newest_manifest_shows_by_its_ids(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, content(16))
    last = store_point(repository, content(17))
    ids = DiskIds("scsi 0:0", last.disks[0].disk_id, "rctX:1")
    repository.catalog.publish_ids(last, PointIds(last.manifest.digest(), VM, "RP", (ids,)))
    del store.objects[f"points/{last.point_id.hex}"]
    with reopen(store) as fresh:
        (problem,) = fresh.verify(Level.WRITTEN).problems
        assert problem.name == f"points/{last.point_id.hex}"


@pytest.mark.parametrize("kind", [LedgerKind.CONVERSION_INTENDED, LedgerKind.REFERENCE_POINT_MADE])
def test_a_lost_newest_manifest_shows_by_the_ledger(
    repository: Repository, store: MemoryStore, kind: LedgerKind
) -> None:
    first = store_point(repository, content(16))
    last = store_point(repository, content(17))
    for entry in (
        LedgerEntry(
            kind=LedgerKind.RUN_STARTED, run_id=last.manifest.run_id, vm_id=VM, host="hv01", at=last.created
        ),
        LedgerEntry(
            kind=kind,
            run_id=last.manifest.run_id,
            vm_id=VM,
            host="hv01",
            at=last.created,
            point_id=last.point_id,
        ),
    ):
        repository.ledger(VM).append(entry)
    assert repository.verify(Level.WRITTEN).good
    del store.objects[f"points/{last.point_id.hex}"]
    with reopen(store) as fresh:
        (problem,) = fresh.verify(Level.WRITTEN).problems
        assert problem.name == f"points/{last.point_id.hex}"
        assert "the ledger names it" in problem.what
    repository.catalog.states.bury(last.manifest)  # as a prune does
    with reopen(store) as fresh:
        assert fresh.verify(Level.WRITTEN).good
        assert fresh.catalog.points() == (first,)


@pytest.mark.parametrize("prefix", ["points/", "index/"])
def test_a_damaged_object_is_named(store: MemoryStore, repository: Repository, prefix: str) -> None:
    store_point(repository, content(7))
    name = damage(store, prefix)
    with reopen(store) as fresh:
        assert name in {problem.name for problem in fresh.verify(Level.WRITTEN).problems}


@pytest.mark.parametrize("prefix", ["points/", "index/", "data/"])
def test_an_object_of_another_version_is_damage_and_does_not_stop_the_rest(
    store: MemoryStore, repository: Repository, prefix: str
) -> None:
    store_point(repository, content(70))
    name = next(name for name in store.objects if name.startswith(prefix))
    at = store.objects[name].rindex(b"HVPS") if prefix == "data/" else 0
    store.objects[name] = store.objects[name][: at + 4] + b"A" + store.objects[name][at + 5 :]
    with reopen(store) as fresh:
        assert name in {problem.name for problem in fresh.verify(Level.HASHED).problems}


def test_a_lost_manifest_is_a_gap_in_its_line(store: MemoryStore, repository: Repository) -> None:
    points = [store_point(repository, content(8 + number)) for number in range(3)]
    del store.objects[f"points/{points[1].point_id.hex}"]
    with reopen(store) as fresh:
        (problem,) = fresh.verify(Level.WRITTEN).problems
        assert str(VM) in problem.name
        assert "2 is missing" in problem.what


def test_a_chunk_with_a_second_good_copy_is_no_loss(repository: Repository, store: MemoryStore) -> None:
    data = content(11, 1)
    with reopen(store) as other:
        writers = [repository.begin(uuid4()), other.begin(uuid4())]
        for writer in writers:  # both before either publishes an index: two copies
            writer.disk(CHUNK, None).put(0, data)
        for writer in writers:
            writer.flush()
            writer.close()
    point = store_point(repository, data)
    assert len([name for name in store.objects if name.startswith("data/")]) == 2
    damage(store, "data/")
    with reopen(store) as fresh:
        report = fresh.verify(Level.HASHED)
        (problem,) = report.problems
        assert "another copy is good" in problem.what
        assert problem.touches == ()
        assert len(report.bad) == 1
        assert content_of(fresh, point) == data


def test_a_chunk_whose_copies_are_all_bad_is_lost(repository: Repository, store: MemoryStore) -> None:
    data = content(11, 1)
    with reopen(store) as other:
        writers = [repository.begin(uuid4()), other.begin(uuid4())]
        for writer in writers:
            writer.disk(CHUNK, None).put(0, data)
        for writer in writers:
            writer.flush()
            writer.close()
    point = store_point(repository, data)
    first = damage(store, "data/")
    (second,) = (name for name in store.objects if name.startswith("data/") and name != first)
    damage(store, second)
    del store.objects[first]
    with reopen(store) as fresh:
        for _ in range(2):
            report = fresh.verify(Level.HASHED)
            assert [touched.point_id for touched in report.problems[0].touches] == [point.point_id]
            assert len(report.bad) == 2
            fresh.publish_bad(report.bad)


def test_a_subset_reads_its_share_and_all_shares_read_everything(repository: Repository) -> None:
    store_point(repository, content(12, 40))
    counts = [repository.verify(Level.HASHED, subset=(part, 4)).hashed_chunks for part in (1, 2, 3, 4)]
    assert sum(counts) == 40 + 1  # a node
    assert max(counts) < 40


def test_only_the_asked_points_are_looked_at(repository: Repository, store: MemoryStore) -> None:
    first = store_point(repository, content(13))
    damage(store, "data/")
    second = store_point(repository, content(14))
    assert repository.verify(Level.HASHED, [second]).good
    assert not repository.verify(Level.HASHED, [first]).good


def test_a_pruned_point_is_no_gap(store: MemoryStore, repository: Repository) -> None:
    points = [store_point(repository, content(20 + number)) for number in range(3)]
    for point in (points[0], points[2]):
        repository.catalog.states.bury(point.manifest)
        del store.objects[f"points/{point.point_id.hex}"]
    with reopen(store) as fresh:
        assert fresh.verify(Level.WRITTEN).good
        after = store_point(fresh, content(23))
        assert (after.manifest.sequence, after.manifest.previous) == (4, points[2].manifest.digest())
        assert fresh.verify(Level.WRITTEN).good
        fresh.catalog.states.bury(after.manifest)  # a prune that died here: tombstone and manifest
        assert fresh.verify(Level.WRITTEN).good


def test_a_lost_manifest_beside_a_pruned_one_is_told_from_it(
    store: MemoryStore, repository: Repository
) -> None:
    points = [store_point(repository, content(30 + number)) for number in range(3)]
    repository.catalog.states.bury(points[0].manifest)
    for point in points[:2]:
        del store.objects[f"points/{point.point_id.hex}"]
    with reopen(store) as fresh:
        (problem,) = fresh.verify(Level.WRITTEN).problems
        assert "point 2 is missing" in problem.what


def test_a_listed_bad_chunk_is_stored_again_and_heals_old_points(
    store: MemoryStore, repository: Repository
) -> None:
    data = content(40, 4)
    old = store_point(repository, data)
    damage(store, "data/")
    report = repository.verify(Level.HASHED)
    assert len(report.bad) == 1
    with repository.begin(uuid4()) as writer:
        writer.disk(len(data), None).put(0, data[:CHUNK])
        writer.wait()
        assert writer.stats.known_chunks == 1  # not listed as bad yet
    repository.publish_bad(report.bad)
    with reopen(store) as fresh:
        new = store_point(fresh, data)
        assert content_of(fresh, new) == data
        assert content_of(fresh, old) == data
        report = fresh.verify(Level.HASHED)
        assert report.good  # it is listed, so no backup uses it
        (note,) = report.notes
        assert "another copy is good" in note.what
        with fresh.begin(uuid4()) as writer:
            disk = writer.disk(len(data), None)
            for number in range(4):
                disk.put(number, data[number * CHUNK : (number + 1) * CHUNK])
            writer.wait()
            assert writer.stats.known_chunks == 4


def test_a_frame_is_listed_as_bad_once(store: MemoryStore, repository: Repository) -> None:
    store_point(repository, content(41, 4))
    damage(store, "data/")
    for _ in range(3):
        repository.publish_bad(repository.verify(Level.HASHED).bad)
    assert len([name for name in store.objects if name.startswith("bad/")]) == 1


def test_proofs_are_kept_beside_their_point(repository: Repository) -> None:
    point = store_point(repository, content(50))
    proofs = [Proof(level, point.created, 8 * CHUNK, uuid4()) for level in ("hashed", "restored")]
    for proof in proofs:
        repository.catalog.proofs.record(point, proof, "scsi 0:0")
    assert [later.proof for later in repository.catalog.proofs.of(point)] == proofs


@pytest.mark.parametrize("how", ["flip", "lose the pack", "lose the index"])
def test_an_increment_is_told_what_its_base_lacks(
    store: MemoryStore, repository: Repository, how: str
) -> None:
    data = content(60, 6)
    old = store_point(repository, data)
    if how == "flip":
        damage(store, "data/")
    else:
        prefix = "data/" if how == "lose the pack" else "index/"
        del store.objects[next(name for name in store.objects if name.startswith(prefix))]
    with reopen(store) as fresh:
        if how == "lose the index":  # the node is in no index either, so it is not a base
            store_point(fresh, content(61, 1), vm_id=uuid4())
            with fresh.begin(uuid4()) as writer, pytest.raises(Damaged):
                writer.disk(len(data), old.disks[0].tree).put(0, bytes(CHUNK - 1) + b"x")
            return
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
        with fresh.begin(uuid4()) as writer:
            disk = writer.disk(len(data), old.disks[0].tree)
            lacking = disk.bad_extents()
            assert sum(extent.length for extent in lacking) == (CHUNK if how == "flip" else 6 * CHUNK)
            for number in fresh.grid.touched(lacking):
                disk.put(number, data[number * CHUNK : (number + 1) * CHUNK])
            point = writer.commit(manifest_of([disk_of(disk.finish())]))
        assert content_of(fresh, point) == data
        assert content_of(fresh, old) == data
        with fresh.begin(uuid4()) as writer:
            assert writer.disk(len(data), old.disks[0].tree).bad_extents() == ()


def test_a_base_with_a_bad_node_is_refused(store: MemoryStore, repository: Repository) -> None:
    old = store_point(repository, content(62, 300))
    damage(store, "nodes/")
    with reopen(store) as fresh:
        fresh.publish_bad(fresh.verify(Level.HASHED).bad)
        with fresh.begin(uuid4()) as writer, pytest.raises(Damaged):
            writer.disk(300 * CHUNK, old.disks[0].tree).bad_extents()


class TestSmallObjects:
    def test_a_restore_py_that_hvps_did_not_ship_is_found(
        self, store: MemoryStore, repository: Repository
    ) -> None:
        store.objects["restore.py"] = b"print('give me your key')"
        (problem,) = repository.verify(Level.WRITTEN).problems
        assert problem.name == "restore.py"
        assert "do not run it" in problem.what
        store.objects["restore.py"] = bytes(2 << 20)
        assert not repository.verify(Level.WRITTEN).good
        del store.objects["restore.py"]
        assert not repository.verify(Level.WRITTEN).good

    def test_restore_py_of_an_older_hvps_is_good(
        self, store: MemoryStore, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = b"# an older version"
        monkeypatch.setattr(restore_tools, "EARLIER", frozenset({hashlib.sha256(old).hexdigest()}))
        store.objects["restore.py"] = old
        assert repository.verify(Level.WRITTEN).good
        if repository.encrypted:  # the printed page is about the one that is there
            assert repository.keys.export().restore_sha256 == hashlib.sha256(old).hexdigest()

    def test_no_key_slot_is_a_problem(self, store: MemoryStore) -> None:
        with make(store, sealed=True) as repository:
            for name in [name for name in store.objects if name.startswith("keys/")]:
                del store.objects[name]
            (problem,) = repository.verify(Level.WRITTEN).problems
            assert "hvps key add" in problem.what

    def test_junk_that_anyone_can_put_there_is_noted(
        self, store: MemoryStore, repository: Repository
    ) -> None:
        store_point(repository, content(1))
        junk = [f"{folder}/{uuid4().hex}" for folder in ("bad", "ids", "tombstones")]
        junk += [f"{folder}/{uuid4().hex}/{7:016x}" for folder in ("proofs", "ledger", "leases", "runs")]
        junk += [f"exports/{9:016x}", "points/readme", "index/0123456789abcdef0", "proofs/a/b/c"]
        for name in junk:
            store.objects[name] = b"junk" * 100
        with reopen(store) as fresh:
            report = fresh.verify(Level.HASHED)
            assert report.good, report.problems
            assert {note.name for note in report.notes} >= set(junk)

    def test_damage_beside_the_junk_is_found(self, store: MemoryStore, repository: Repository) -> None:
        point = store_point(repository, content(1))
        ids = DiskIds("scsi 0:0", point.disks[0].disk_id, "rctX:1")
        repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), VM, "RP", (ids,)))
        repository.catalog.proofs.record(point, Proof("hashed", point.created, CHUNK, uuid4()))
        for prefix in ("ids/", "proofs/"):
            name = damage(store, prefix, at=30)
            with reopen(store) as fresh:
                assert name in {problem.name for problem in fresh.verify(Level.WRITTEN).problems}

    def test_notes_have_a_bound(self, store: MemoryStore, repository: Repository) -> None:
        for number in range(1200):
            store.objects[f"bad/junk{number}"] = b"x"
        notes = repository.verify(Level.WRITTEN).notes
        assert len(notes) == 1001
        assert "200 more" in notes[-1].what


def test_a_lost_pack_is_damage_until_it_is_listed_and_its_chunks_are_stored_again(
    store: MemoryStore, repository: Repository
) -> None:
    data = content(80, 6)
    old = store_point(repository, data)
    with repository.begin(uuid4()) as writer:  # a pack that no point needs
        writer.disk(CHUNK, None).put(0, content(81, 1))
        writer.flush()
    for name in [name for name in store.objects if name.startswith("data/")]:
        del store.objects[name]
    with reopen(store) as fresh:
        for _ in range(2):
            report = fresh.verify(Level.WRITTEN)
            assert not report.good
            fresh.publish_bad(report.bad)
        with fresh.begin(uuid4()) as writer:  # what the other pack had is not taken for stored
            writer.disk(CHUNK, None).put(0, content(81, 1))
            writer.wait()
            assert writer.stats.new_chunks == 1
        store_point(fresh, data)
        for level in Level:
            report = fresh.verify(level)
            assert report.good, report.problems
            assert report.notes
        assert content_of(fresh, old) == data
        for name in [name for name in store.objects if name.startswith("data/")]:
            del store.objects[name]
        assert not fresh.verify(Level.WRITTEN).good
