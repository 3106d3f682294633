"""Copies are complete, with another key, grid or store, however often copying is interrupted."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import Damaged, NoSpace, StoreError
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Point, Repository, copy_points
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from tests.repository.conftest import CHEAP, CHUNK, KEY, content_of, make, reopen, store_point
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
    with pytest.raises(Damaged):
        copy_points(repository, target)
    assert target.catalog.points() == ()


def test_a_bad_chunk_of_the_source_stops_it(repository: Repository, store: MemoryStore) -> None:
    fill(repository)
    for name in [name for name in store.objects if name.startswith("data/")]:
        store.objects[name] = store.objects[name][:300] + b"???" + store.objects[name][303:]
    target = make(MemoryStore())
    with pytest.raises(Damaged):
        copy_points(repository, target)
    assert target.verify("hashed").good


def test_points_older_than_the_newest_copy_are_left_out(repository: Repository) -> None:
    first, second, *_ = fill(repository)
    target = make(MemoryStore())
    copy_points(repository, target, [second])
    assert copy_points(repository, target, [first]).skipped == (first,)


def test_proofs_go_along(repository: Repository) -> None:
    (first, *_) = fill(repository)
    proof = Proof("restored", first.created, 5, uuid4())
    repository.catalog.record_proof(first, proof)
    target = make(MemoryStore())
    (copied,) = copy_points(repository, target, [first]).copied
    written, restored = (later.proof for later in target.catalog.proofs(copied))
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
