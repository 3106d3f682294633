"""Copies are complete, with another key, grid or store, however often copying is interrupted."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged, ExitCode, NoSpace, RepositoryLocked, StoreError
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.lease import LeaseHolder
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Point, Repository, copy_points
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from tests.repository.conftest import CHEAP, CHUNK, KEY, START, VM, content_of, make, reopen, store_point
from tests.repository.memory_store import MemoryStore
from tests.repository.servers import S3Server, SshServer


def fill(repository: Repository) -> dict[Point, bytes]:
    """Three points of one VM (an increment, then one that grew) and one of another."""
    dice = random.Random(3)
    content = bytearray(dice.randbytes(6 * CHUNK) + bytes(260 * CHUNK) + dice.randbytes(CHUNK + 512))
    made: dict[Point, bytes] = {}
    point = store_point(repository, bytes(content))
    made[point] = bytes(content)
    content[CHUNK : CHUNK + 10] = b"0123456789"
    content[2 * CHUNK : 3 * CHUNK] = bytes(CHUNK)
    content[100 * CHUNK] = 7
    point = store_point(repository, bytes(content), base=point, changed=[1, 2, 100])
    made[point] = bytes(content)
    content += dice.randbytes(3 * CHUNK)
    point = store_point(repository, bytes(content), base=point, changed=range(266, 271))
    made[point] = bytes(content)
    other = dice.randbytes(2 * CHUNK)
    made[store_point(repository, other, vm_id=uuid4(), vm_name="mail")] = other
    return made


def check(target: Repository, made: dict[Point, bytes]) -> None:
    copies = {point.point_id: point for point in target.catalog.points()}
    assert set(copies) == {point.point_id for point in made}
    for point, content in made.items():
        copy = copies[point.point_id]
        assert content_of(target, copy) == content
        assert (copy.created, copy.vm_name) == (point.created, point.vm_name)
    assert target.verify("hashed").good
    for point in made:
        assert not any(ids for _, ids in target.catalog.with_ids(point.vm_id))


@pytest.mark.parametrize("sealed", [False, True], ids=["to plain", "to sealed"])
@pytest.mark.parametrize("chunk", [CHUNK, 4 * CHUNK], ids=["same grid", "other grid"])
def test_every_point_arrives(repository: Repository, sealed: bool, chunk: int) -> None:
    made = fill(repository)
    target = create_on_store(MemoryStore(), ChunkGrid(chunk), key=KEY if sealed else None, cost=CHEAP)
    report = copy_points(repository, target)
    check(target, made)
    assert (len(report.copied), report.present, report.skipped) == (4, (), ())
    again = copy_points(repository, target)
    assert (again.copied, len(again.present), again.read_bytes) == ((), 4, 0)


def test_only_what_lacks_is_read(repository: Repository) -> None:
    made = fill(repository)
    target = make(MemoryStore(), sealed=True)
    report = copy_points(repository, target, list(made)[:1])
    assert report.read_bytes == 7 * CHUNK + 512
    report = copy_points(repository, target, list(made)[:2])
    assert report.read_bytes == 2 * CHUNK
    assert report.stored_bytes < 2 * CHUNK


def test_from_a_plain_source_what_the_target_has_is_not_read(store: MemoryStore) -> None:
    source, target = make(store), make(MemoryStore(), sealed=True)
    made = fill(source)
    (first, *_) = made.values()
    store_point(target, first, vm_id=uuid4())
    assert copy_points(source, target, list(made)[:1]).read_bytes == 0


def test_an_interrupted_copy_is_taken_up(repository: Repository) -> None:
    class Filling(MemoryStore):
        left = 10**9

        def put(self, name: str, data: bytes) -> None:
            self.left -= 1
            if self.left < 0:
                raise NoSpace(self.url, "create", name, "full")
            super().put(name, data)

    made = fill(repository)
    target_store = Filling()
    make(target_store).close()
    stops = 0
    for allowed in range(3, 60, 4):
        target_store.left = allowed
        with reopen(target_store) as target:
            try:
                copy_points(repository, target)
                break
            except NoSpace:
                stops += 1
            finally:
                target_store.left = 10**9
    assert stops > 2
    with reopen(target_store) as target:
        copy_points(repository, target)
        check(target, made)


def test_what_did_not_arrive_as_sent_is_never_committed(repository: Repository) -> None:
    class Corrupting(MemoryStore):
        def put(self, name: str, data: bytes) -> None:
            if name.startswith("data/"):
                data = data[:200] + bytes([data[200] ^ 1]) + data[201:]
            super().put(name, data)

    fill(repository)
    target = make(Corrupting())
    report = copy_points(repository, target)
    assert {type(problem.error) for problem in report.problems} == {Damaged}
    assert {problem.error.repository for problem in report.problems} == {target.url}
    assert len(report.problems) == len(repository.catalog.points())
    assert target.catalog.points() == ()


def test_bad_chunks_of_the_source_are_never_committed(repository: Repository, store: MemoryStore) -> None:
    fill(repository)
    for name in [name for name in store.objects if name.startswith("data/")]:
        store.objects[name] = store.objects[name][:300] + b"???" + store.objects[name][303:]
    target = make(MemoryStore("memory:target"))
    report = copy_points(repository, target)
    assert report.copied == ()
    assert {problem.point_id for problem in report.problems} == {
        point.point_id for point in repository.catalog.points()
    }
    assert target.verify("hashed").good


def test_points_older_than_the_newest_copy_are_left_out(repository: Repository) -> None:
    first, second, *_ = fill(repository)
    target = make(MemoryStore())
    copy_points(repository, target, [second])
    assert copy_points(repository, target, [first]).skipped == (first,)


def test_proofs_go_along(repository: Repository) -> None:
    (first, *_) = fill(repository)
    proof = Proof("restored", first.created, 5, uuid4())
    repository.catalog.proofs.record(first, proof)
    target = make(MemoryStore())
    (copied,) = copy_points(repository, target, [first]).copied
    written, restored = (later.proof for later in target.catalog.proofs.of(copied))
    assert restored == proof
    assert written.level == "written"  # the copy's own proof, which shows if its manifest is lost


def test_a_lost_newest_copy_shows(repository: Repository) -> None:
    fill(repository)
    target = make(store := MemoryStore())
    copied = copy_points(repository, target).copied
    lost = f"points/{copied[-1].point_id.hex}"
    del store.objects[lost]
    assert [problem.name for problem in target.verify("written").problems] == [lost]


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_to_and_from_remote_stores(
    repository: Repository, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        url = s3.url(s3.new_bucket())
    else:
        ssh: SshServer = request.getfixturevalue("ssh")
        url = ssh.url(tmp_path / "store")
    made = fill(repository)
    with create_on_store(open_store(url, create=True), ChunkGrid(CHUNK), key=KEY, cost=CHEAP) as target:
        copy_points(repository, target)
        check(target, made)
        back = make(MemoryStore())
        copy_points(target, back)
        check(back, made)


def test_a_store_that_fails_says_so(repository: Repository) -> None:
    class Failing(MemoryStore):
        def get_range(self, name: str, offset: int, length: int) -> bytes:
            raise StoreError(self.url, "read", name, "permission denied")

    fill(repository)
    with pytest.raises(StoreError, match="permission denied"):
        copy_points(repository, make(Failing()))


class TestOneBadPoint:
    """Points of the source and of the target that cannot be read concern only themselves."""

    def test_a_damaged_point_does_not_end_the_copy_of_the_others(
        self, repository: Repository, store: MemoryStore
    ) -> None:
        points = [store_point(repository, random.Random(seed).randbytes(2 * CHUNK)) for seed in (1, 2, 3)]
        other = store_point(repository, random.Random(4).randbytes(CHUNK), vm_id=uuid4(), vm_name="mail")
        _, identity = next(iter(repository.image(points[1], points[1].disks[0]).chunk_ids()))
        (place,) = repository._cache.find(identity)
        del store.objects[pack_name(place.kind, place.pack)]
        target = make(MemoryStore("memory:target"))
        report = copy_points(repository, target)
        assert {point.point_id for point in report.copied} == {
            points[0].point_id,
            points[2].point_id,
            other.point_id,
        }
        (problem,) = report.problems
        assert (problem.point_id, problem.error.code) == (points[1].point_id, ExitCode.DAMAGE)
        assert target.verify("hashed").good

    def test_a_damaged_manifest_of_the_source_is_reported(
        self, repository: Repository, store: MemoryStore
    ) -> None:
        first = store_point(repository, b"a" * CHUNK)
        last = store_point(repository, b"b" * CHUNK)
        repository.catalog.proofs.record(last, Proof("hashed", last.created, CHUNK, uuid4()))
        flip_last(store, f"points/{last.point_id.hex}")
        with reopen(store) as source:
            report = copy_points(source, make(MemoryStore("memory:target")))
        assert [point.point_id for point in report.copied] == [first.point_id]
        assert [problem.point_id for problem in report.problems] == [last.point_id]

    def test_a_damaged_manifest_of_the_target_is_reported_and_the_rest_copied(
        self, repository: Repository
    ) -> None:
        first = store_point(repository, b"a" * CHUNK)
        second = store_point(repository, b"b" * CHUNK)
        target_store = MemoryStore("memory:target")
        with make(target_store) as target:
            copy_points(repository, target, [first])
        flip_last(target_store, f"points/{first.point_id.hex}")
        with reopen(target_store) as target:
            report = copy_points(repository, target)
            assert [point.point_id for point in report.copied] == [second.point_id]
            assert [problem.point_id for problem in report.problems] == [first.point_id]

    def test_a_locked_vm_does_not_end_the_copy_of_the_others(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked = store_point(repository, b"a" * CHUNK)
        other = store_point(repository, b"b" * CHUNK, vm_id=uuid4(), vm_name="mail")
        target = make(MemoryStore("memory:target"))
        lease = Repository.lease

        def take(self: Repository, vm_id: UUID, holder: LeaseHolder) -> Lease:
            if vm_id == locked.vm_id:
                raise RepositoryLocked(self.url, f"VM {vm_id}", "another process")
            return lease(self, vm_id, holder)

        monkeypatch.setattr(Repository, "lease", take)
        report = copy_points(repository, target)
        assert [point.point_id for point in report.copied] == [other.point_id]
        assert [(problem.point_id, problem.error.code) for problem in report.problems] == [
            (locked.point_id, ExitCode.LOCKED)
        ]


def test_the_order_of_points_is_that_of_their_numbers_not_of_clocks(repository: Repository) -> None:
    """A clock that was a year ahead for one night does not stop the copy for a year."""
    made = [
        store_point(repository, bytes([days % 251 + 1]) * CHUNK, created=START + timedelta(days=days))
        for days in (0, 365, 1, 2)
    ]
    target = make(MemoryStore("memory:target"))
    for point in made:
        report = copy_points(repository, target, [point])
        assert (len(report.copied), report.skipped, report.problems) == (1, (), ())
    assert [point.point_id for point in target.catalog.points(VM)] == [point.point_id for point in made]


def flip_last(store: MemoryStore, name: str) -> None:
    data = bytearray(store.objects[name])
    data[-1] ^= 1
    store.objects[name] = bytes(data)
