"""A damaged or missing manifest of the newest point never makes an older point the latest."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged, ExitCode, PointLost
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Level, Point, Repository
from hvpsbridge.repository.stores.local import LocalStore
from tests.repository.conftest import CHUNK, VM, make, reopen, store_point
from tests.repository.memory_store import MemoryStore

OTHER = uuid4()
ALL = ("ids", "ledger", "proof")


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(CHUNK)


def add(repository: Repository, seed: int, evidence: Sequence[str] = ALL, vm_id: UUID = VM) -> Point:
    """A point, and what a backup writes about it."""
    point = store_point(repository, content(seed), vm_id=vm_id, vm_name="web" if vm_id == VM else "mail")
    if "ledger" in evidence:
        entry = LedgerEntry(
            kind=LedgerKind.CONVERSION_INTENDED,
            run_id=point.manifest.run_id,
            vm_id=vm_id,
            host="hv01",
            at=point.created,
            point_id=point.point_id,
        )
        repository.ledger(vm_id).append(entry)
    if "ids" in evidence:
        ids = DiskIds("scsi 0:0", point.disks[0].disk_id, "rctX:1")
        repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), vm_id, "RP", (ids,)))
    if "proof" in evidence:
        repository.catalog.proofs.record(point, Proof("hashed", point.created, CHUNK, uuid4()))
    return point


def flip(store: MemoryStore, point: Point) -> str:
    name = f"points/{point.point_id.hex}"
    data = bytearray(store.objects[name])
    data[-1] ^= 1
    store.objects[name] = bytes(data)
    return name


@pytest.mark.parametrize("evidence", [("ids",), ("ledger",), ("proof",), ALL])
def test_latest_is_an_error_when_the_newest_manifest_is_damaged(
    repository: Repository, store: MemoryStore, evidence: Sequence[str]
) -> None:
    points = [add(repository, number) for number in range(2)]
    points.append(add(repository, 2, evidence))
    name = flip(store, points[-1])
    with reopen(store) as fresh:
        for selector in ("web", "web@latest", f"{VM}@latest", "web@latest~1", "web@2030-01-01"):
            with pytest.raises(PointLost) as caught:
                fresh.catalog.find_point(selector)
            assert caught.value.code is ExitCode.DAMAGE
            assert caught.value.name == name
        with pytest.raises(PointLost):
            fresh.catalog.find_point_of(VM, "latest")
        assert fresh.catalog.find_point(points[1].short_id) == points[1]
        assert fresh.catalog.find_point(f"web@{points[1].short_id}") == points[1]
        with pytest.raises(Damaged, match=name):
            fresh.catalog.find_point(points[2].short_id)


def test_latest_is_an_error_when_the_newest_manifest_is_gone_and_not_pruned(
    repository: Repository, store: MemoryStore
) -> None:
    first, last = add(repository, 1), add(repository, 2)
    del store.objects[f"points/{last.point_id.hex}"]
    with reopen(store) as fresh:
        with pytest.raises(PointLost, match="missing"):
            fresh.catalog.find_point("web@latest")
        fresh.catalog.states.bury(last.manifest)
        assert fresh.catalog.find_point("web@latest") == first


@pytest.mark.parametrize("evidence", [("ids",), ("ledger",), ALL])
def test_a_damaged_manifest_between_others_does_not_change_what_is_latest(
    repository: Repository, store: MemoryStore, evidence: Sequence[str]
) -> None:
    points = [add(repository, number, evidence) for number in range(4)]
    flip(store, points[1])
    with reopen(store) as fresh:
        assert fresh.catalog.find_point("web@latest") == points[3]
        assert fresh.catalog.find_point("web@latest~1") == points[2]
        assert fresh.catalog.find_point(f"web@{points[2].created.isoformat()}") == points[2]
        for selector in ("web@latest~2", f"web@{points[1].created.isoformat()}"):
            with pytest.raises(PointLost):
                fresh.catalog.find_point(selector)


def test_of_two_damaged_manifests_in_a_row_the_ledger_gives_the_order(
    repository: Repository, store: MemoryStore
) -> None:
    points = [add(repository, number) for number in range(4)]
    flip(store, points[1])
    flip(store, points[2])
    with reopen(store) as fresh:
        assert fresh.catalog.find_point("web@latest") == points[3]
        places = {(lost.first, lost.last) for lost in fresh.catalog.lost_points(VM)}
        assert places == {(2, 3), (3, 3)}  # the ledger orders them; point 4 has the digest of point 3


def test_other_vms_are_not_affected(repository: Repository, store: MemoryStore) -> None:
    add(repository, 1)
    other = add(repository, 2, vm_id=OTHER)
    flip(store, add(repository, 3))
    with reopen(store) as fresh:
        assert fresh.catalog.find_point("mail@latest") == other
        assert [lost.vm_id for lost in fresh.catalog.lost_points()] == [VM]


def test_an_object_that_anyone_may_have_put_there_closes_nothing(
    repository: Repository, store: MemoryStore
) -> None:
    point = add(repository, 1)
    for folder in ("points", "ids", "proofs"):
        store.objects[f"{folder}/{uuid4().hex}"] = b"junk" * 50
    store.objects[f"proofs/{uuid4().hex}/{0:016x}"] = b"junk" * 50
    with reopen(store) as fresh:
        assert fresh.catalog.find_point("web@latest") == point
        assert fresh.catalog.lost_points() == ()
        assert store_point(fresh, content(9)).manifest.sequence == 2


def test_a_lost_point_keeps_its_number_and_its_place(repository: Repository, store: MemoryStore) -> None:
    add(repository, 1)
    lost = add(repository, 2)
    name = f"points/{lost.point_id.hex}"
    good = store.objects[name]
    flip(store, lost)
    with reopen(store) as fresh:
        after = store_point(fresh, content(3))
        assert (after.manifest.sequence, after.manifest.previous) == (3, lost.manifest.digest())
        assert not fresh.verify(Level.WRITTEN).good
    store.objects[name] = good
    with reopen(store) as fresh:
        assert fresh.verify(Level.WRITTEN).good
        assert fresh.catalog.find_point("web@latest~1") == lost


def test_a_vm_whose_only_point_is_damaged(repository: Repository, store: MemoryStore) -> None:
    flip(store, lost := add(repository, 1))
    with reopen(store) as fresh:
        with pytest.raises(PointLost):
            fresh.catalog.find_point_of(VM, "latest")
        after = store_point(fresh, content(3))
        assert (after.manifest.sequence, after.manifest.previous) == (2, lost.manifest.digest())


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_newest_manifest_replaced_by_what_is_no_file_is_damaged(tmp_path: Path, kind: str) -> None:
    with make(LocalStore(tmp_path), sealed=True) as repository:
        add(repository, 1)
        last = add(repository, 2)
    path = tmp_path / f"points/{last.point_id.hex}"
    path.unlink()
    if kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with reopen(LocalStore(tmp_path)) as fresh:
        with pytest.raises(PointLost, match="not a regular file"):
            fresh.catalog.find_point("web@latest")
        report = fresh.verify(Level.HASHED)
        what = [(problem.name, problem.what) for problem in report.problems]
        assert what == [(f"points/{last.point_id.hex}", "it is not a regular file")]
        assert report.notes == ()
        assert store_point(fresh, content(3)).manifest.sequence == 3


@pytest.mark.parametrize("evidence", [("ids",), ("ledger",), ("proof",), ALL])
def test_latest_is_an_error_when_the_newest_manifest_is_empty(
    repository: Repository, store: MemoryStore, evidence: Sequence[str]
) -> None:
    add(repository, 1, evidence)
    last = add(repository, 2, evidence)
    store.objects[name := f"points/{last.point_id.hex}"] = b""  # as a file system may leave it after a crash
    store.objects[f"points/{uuid4().hex}"] = b""  # of a writer that died
    with reopen(store) as fresh:
        with pytest.raises(PointLost, match="empty"):
            fresh.catalog.find_point("web@latest")
        assert [problem.name for problem in fresh.verify().problems] == [name]
        if evidence != ("proof",):  # which does not say of which VM the point is
            assert store_point(fresh, content(3)).manifest.sequence == 3


def test_a_copy_of_the_files_that_ran_out_of_space_is_not_good(tmp_path: Path) -> None:
    """``cp`` goes on when the disk is full and leaves empty files, also of everything that names a point."""
    with make(LocalStore(tmp_path, create=True), sealed=True) as repository:
        points = [add(repository, number) for number in range(3)]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent != tmp_path and path.parent.name != "keys":
            path.write_bytes(b"")
    with reopen(LocalStore(tmp_path)) as fresh:
        report = fresh.verify()
    assert {problem.name for problem in report.problems} == {f"points/{each.point_id.hex}" for each in points}
    assert all("it is empty" in note.what for note in report.notes)


def test_a_writer_that_died_while_naming_a_manifest_is_a_note(tmp_path: Path) -> None:
    with make(LocalStore(tmp_path, create=True), sealed=True) as repository:
        add(repository, 1)
        left = tmp_path / "points" / uuid4().hex
        left.touch()
        report = repository.verify()
    assert report.good
    assert [note.name for note in report.notes] == [f"points/{left.name}"]


def test_ids_whose_name_somebody_took_end_no_backup(repository: Repository, store: MemoryStore) -> None:
    point = store_point(repository, content(1))
    store.objects[f"ids/{point.point_id.hex}"] = b"junk" * 50
    ids = DiskIds("scsi 0:0", point.disks[0].disk_id, "rctX:1")
    repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), VM, "RP", (ids,)))
    assert repository.catalog.ids(point) is None
