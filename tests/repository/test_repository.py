"""Points are read as they were written: trees, increments, deduplication, aborted commits, two writers."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvpsbridge.errors import (
    Damaged,
    NewerFormat,
    NewerObject,
    NoRepository,
    NoSpace,
    RepositoryExists,
    StoreError,
    WrongKey,
)
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.node import FAN_OUT
from hvpsbridge.repository import (
    Repository,
    create_repository,
    current_holder,
    open_repository,
    run_packs,
    stored_packs,
)
from hvpsbridge.repository import tree as tree_module
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.stores.base import ObjectInfo
from hvpsbridge.repository.unreadable import Unreadable
from hvpsbridge.secret import Secret
from hvpsbridge.units import MIB
from tests.repository.conftest import (
    CHEAP,
    CHUNK,
    KEY,
    VM,
    content_of,
    disk_of,
    make,
    manifest_of,
    reopen,
    store_point,
)
from tests.repository.memory_store import MemoryStore
from tests.repository.rotten_index import rewrite_manifest, rot_rows


def random_disk(seed: int, size: int, zero_share: float = 0.5) -> bytes:
    dice = random.Random(seed)
    pieces = [
        bytes(CHUNK) if dice.random() < zero_share else dice.randbytes(CHUNK // 4) * 4
        for _ in range(-(-size // CHUNK))
    ]
    return b"".join(pieces)[:size]


def ids_for(point: object) -> PointIds:
    manifest = point.manifest  # type: ignore[attr-defined]  # a Point; kept short
    disks = tuple(DiskIds(disk.slot, disk.disk_id, disk.rct_id) for disk in manifest.disks)
    return PointIds(manifest.digest(), manifest.vm_id, "RP:1", disks)


class TestDisks:
    @pytest.mark.parametrize("written", [-1, 100])
    def test_say_when_there_is_no_room_for_leaves(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch, written: int
    ) -> None:
        def full(*_: object) -> int:
            if written < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return written  # as much as fitted

        monkeypatch.setattr(tree_module, "LEAVES_KEPT", 1)
        monkeypatch.setattr(os, "pwrite", full)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(3 * FAN_OUT * CHUNK)
            disk.put(0, b"x" * CHUNK)
            disk.put(FAN_OUT, b"x" * CHUNK)
            with pytest.raises(NoSpace, match="tree of chunk ids"):
                disk.finish()
            with pytest.raises(NoSpace, match="tree of chunk ids"):
                disk.put(0, None)

    @pytest.mark.parametrize("size", [0, 512, CHUNK, CHUNK + 512, 300 * CHUNK + 512, FAN_OUT * CHUNK])
    def test_come_back_as_they_were(self, repository: Repository, size: int) -> None:
        content = random_disk(size, size)
        point = store_point(repository, content)
        assert content_of(repository, point) == content

    def test_come_back_from_chunks_in_pack_order(self, repository: Repository) -> None:
        content = random_disk(1, 70 * CHUNK + 1024)
        image = repository.image(point := store_point(repository, content), point_disk := point.disks[0])
        rebuilt = bytearray(point_disk.size_bytes)
        for offset, data in image.chunks():
            rebuilt[offset : offset + len(data)] = data
        assert rebuilt == content
        assert point.disks[0] is point_disk

    def test_show_their_zeros_as_holes(self, repository: Repository) -> None:
        content = bytes(2 * CHUNK) + b"x" * 3 * CHUNK + bytes(CHUNK) + b"y" * 100
        point = store_point(repository, content)
        image = repository.image(point, point.disks[0])
        assert list(image.extents()) == [Extent(2 * CHUNK, 3 * CHUNK), Extent(6 * CHUNK, 100)]

    def test_can_be_read_anywhere(self, repository: Repository) -> None:
        content = random_disk(2, 9 * CHUNK + 77)
        point = store_point(repository, content)
        image = repository.image(point, point.disks[0])
        dice = random.Random(3)
        for _ in range(50):
            start = dice.randrange(len(content) + 10)
            image.seek(start)
            got = image.read(dice.randrange(1, 3 * CHUNK)) or b""
            assert got == content[start : start + len(got)]
            assert got or start >= len(content)
        assert image.seek(-77, 2) == 9 * CHUNK
        assert image.readall() == content[-77:]

    def test_of_an_increment_share_what_did_not_change(
        self, repository: Repository, store: MemoryStore
    ) -> None:
        content = random_disk(4, 600 * CHUNK, zero_share=0)
        first = store_point(repository, content)
        before = sum(map(len, store.objects.values()))
        changed = bytearray(content)
        changed[301 * CHUNK] ^= 1
        second = store_point(repository, bytes(changed), base=first, changed=[301])
        assert content_of(repository, second) == changed
        assert content_of(repository, first) == content
        # One chunk (a quarter of it incompressible), two nodes and a manifest, much less than a copy.
        assert sum(map(len, store.objects.values())) - before < CHUNK

    def test_are_zero_where_an_increment_says_so(self, repository: Repository) -> None:
        content = random_disk(5, 4 * CHUNK, zero_share=0)
        first = store_point(repository, content)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content), first.disks[0].tree)
            disk.put(2, None)
            second = writer.commit(manifest_of([disk_of(disk.finish())]))
        assert content_of(repository, second) == content[: 2 * CHUNK] + bytes(CHUNK) + content[3 * CHUNK :]

    @given(
        before=st.integers(0, 3 * FAN_OUT + 5),
        after=st.integers(0, 3 * FAN_OUT + 5),
        tails=st.tuples(st.sampled_from([0, 512, CHUNK - 512]), st.sampled_from([0, 512, CHUNK - 512])),
        seed=st.integers(0, 1 << 30),
    )
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_may_have_another_size_than_their_base(
        self, before: int, after: int, tails: tuple[int, int], seed: int
    ) -> None:
        dice = random.Random(seed)
        old = bytearray(before * CHUNK + tails[0])
        for start in range(0, len(old), CHUNK * 40):
            old[start : start + 8] = dice.randbytes(8)
        if old:
            old[-8:] = dice.randbytes(8)
        new = old[: after * CHUNK + tails[1]].ljust(after * CHUNK + tails[1], b"\0")
        with make(MemoryStore()) as repository:
            first = store_point(repository, bytes(old))
            second = store_point(repository, bytes(new), base=first, changed=[])
            assert content_of(repository, second) == new

    def test_spills_elsewhere_without_its_folder_and_reads_no_half_node(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tree_module, "LEAVES_KEPT", 2)
        builder = tree_module.TreeBuilder(lambda node: node[:32], None, tmp_path / "none")
        for leaf in range(4):
            builder.put(leaf * FAN_OUT, bytes([1]) * 32)
        os.ftruncate(builder._spill.fileno(), 100)  # type: ignore[union-attr]
        with pytest.raises(StoreError, match="bytes of a node"):
            builder.put(1, bytes([2]) * 32)

    def test_with_more_leaves_than_fit_in_memory_are_spilled(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tree_module, "LEAVES_KEPT", 2)
        numbers = [leaf * FAN_OUT + leaf for leaf in range(20)]
        order = numbers * 2
        random.Random(6).shuffle(order)
        size = 20 * FAN_OUT * CHUNK
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(size, None)
            for number in order:
                disk.put(number, number.to_bytes(8, "big") * (CHUNK // 8))
            point = writer.commit(manifest_of([disk_of(disk.finish())]))
        found = dict(repository.image(point, point.disks[0]).chunks())
        assert found == {
            number * CHUNK: number.to_bytes(8, "big") * (CHUNK // 8) for number in numbers if number
        }

    def test_take_chunks_from_several_threads_in_any_order(self, repository: Repository) -> None:
        content = random_disk(7, 200 * CHUNK, zero_share=0.2)
        numbers = list(range(200))
        random.Random(8).shuffle(numbers)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content), None)

            def put(share: list[int]) -> None:
                for number in share:
                    disk.put(number, memoryview(content)[number * CHUNK : (number + 1) * CHUNK])

            threads = [threading.Thread(target=put, args=(numbers[start::4],)) for start in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            point = writer.commit(manifest_of([disk_of(disk.finish())]))
        assert content_of(repository, point) == content
        assert disk.stats.chunks == 200
        assert disk.stats.zero_chunks + disk.stats.known_chunks + disk.stats.new_chunks == 200

    def test_refuse_chunks_that_do_not_fit(self, repository: Repository) -> None:
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(CHUNK + 100, None)
            with pytest.raises(IndexError):
                disk.put(2, b"x")
            with pytest.raises(ValueError, match="100 bytes"):
                disk.put(1, b"x" * CHUNK)

    def test_of_a_base_answer_what_their_chunks_are(self, repository: Repository) -> None:
        content = b"a" * CHUNK + bytes(CHUNK) + b"c" * 512
        first = store_point(repository, content)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content), first.disks[0].tree)
            for number, part in enumerate((content[:CHUNK], bytes(CHUNK), b"c" * 512)):
                digest = hashlib.sha256(part).digest()
                assert disk.base_chunk(number) == part
                assert disk.digest_of(number) in (
                    (digest,) if number == 1 or not repository.encrypted else (None,)
                )
                assert disk.matches(number, digest)
                assert not disk.matches(number, bytes(32))


class TestFiles:
    def test_come_back_as_they_were(self, repository: Repository) -> None:
        content = random.Random(9).randbytes(3 * CHUNK + 17)
        with repository.begin(uuid4()) as writer:
            references = [
                writer.file("vm.vmcx", (content[at : at + 1000] for at in range(0, len(content), 1000))),
                writer.file("empty.vmgs", ()),
            ]
            point = writer.commit(manifest_of([], files=tuple(references)))
        stored = {file.name: b"".join(repository.read_file(file)) for file in point.manifest.files}
        assert stored == {"vm.vmcx": content, "empty.vmgs": b""}
        assert references[0].sha256 == hashlib.sha256(content).digest()


class TestDeduplication:
    def test_stores_equal_chunks_once_across_vms(self, repository: Repository, store: MemoryStore) -> None:
        content = random_disk(10, 50 * CHUNK, zero_share=0)
        store_point(repository, content)
        before = sum(map(len, store.objects.values()))
        store_point(repository, content, vm_id=uuid4())
        assert sum(map(len, store.objects.values())) - before < 4096

    def test_uses_what_a_run_that_died_had_published(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_packs, "INDEX_ENTRIES", 1)
        content = random.Random(11).randbytes(40 * CHUNK)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content), None)
            for number in range(40):
                disk.put(number, content[number * CHUNK : (number + 1) * CHUNK])
            writer.flush()
        assert repository.catalog.points() == ()
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content), None)
            disk.put(0, content[:CHUNK])
            writer.wait()
            assert writer.stats.known_chunks == 1

    def test_never_leans_on_another_writers_unpublished_pack(self, repository: Repository) -> None:
        content = b"q" * CHUNK
        with repository.begin(uuid4()) as dying:
            dying.disk(CHUNK, None).put(0, content)
            dying.wait()
            dying._data.flush()  # the pack exists, but is in no index
            point = store_point(repository, content)
        with reopen(repository.store) as fresh:
            assert content_of(fresh, point) == content

    def test_stores_incompressible_data_without_growing_it_much(self, repository: Repository) -> None:
        with repository.begin(uuid4()) as writer:
            writer.disk(CHUNK, None).put(0, random.Random(12).randbytes(CHUNK))
            writer.flush()
            assert CHUNK < writer.stats.stored_bytes < CHUNK + 100


class TestCommit:
    def test_writes_packs_then_index_then_manifest_each_behind_a_barrier(self) -> None:
        order: list[str] = []

        class Watched(MemoryStore):
            def put(self, name: str, data: bytes) -> None:
                order.append(name.split("/")[0])
                super().put(name, data)

            def commit_barrier(self) -> None:
                order.append("barrier")

        with make(Watched()) as repository:
            order.clear()
            store_point(repository, random_disk(13, 5 * CHUNK, zero_share=0))
        kept = [name for name in order if name not in ("runs", "leases")]
        # The first one is for the run object: a collect that does not see it may delete what the run uses.
        assert kept == ["barrier", "data", "nodes", "barrier", "index", "barrier", "points", "barrier"]

    def test_comes_from_a_run_that_shows_itself_before_it_reads_the_index(self) -> None:
        calls: list[str] = []

        class Watched(MemoryStore):
            def put(self, name: str, data: bytes) -> None:
                calls.append(f"put {name.split('/')[0]}")
                super().put(name, data)

            def list(self, prefix: str) -> Iterator[ObjectInfo]:
                calls.append(f"list {prefix.split('/')[0]}")
                return super().list(prefix)

        store = Watched()
        with make(store) as repository:
            calls.clear()
            with repository.begin(uuid4()) as writer:
                assert calls.index("put runs") < calls.index("list index")
                assert [name for name in store.objects if name.startswith("runs/")]
                writer.check()
        assert not [name for name in store.objects if name.startswith("runs/")]

    @pytest.mark.parametrize("after_the_manifest", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("harm", ["removed", "cut"])
    def test_looks_for_its_packs_before_and_after_its_manifest(
        self, repository: Repository, store: MemoryStore, harm: str, after_the_manifest: bool
    ) -> None:
        content = random_disk(15, 5 * CHUNK, zero_share=0)
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(len(content))
            for number in range(5):
                disk.put(number, content[number * CHUNK : (number + 1) * CHUNK])
            made = manifest_of([disk_of(disk.finish())])
            writer.flush()
            if after_the_manifest:
                writer.commit(made)
                writer.check()
            pack = next(name for name in store.objects if name.startswith("data/"))
            if harm == "removed":
                del store.objects[pack]
            else:
                store.objects[pack] = store.objects[pack][:-1]
            with pytest.raises(Damaged, match=pack):
                writer.check() if after_the_manifest else writer.commit(made)
        assert len(repository.catalog.points()) == after_the_manifest
        with reopen(store) as fresh:
            # No later run uses what is gone: the same chunks are stored again.
            point = store_point(fresh, content, created=made.created.replace(hour=23))
            assert content_of(fresh, point) == content

    def test_of_many_packs_looks_for_them_in_a_listing(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MemoryStore, "remote", True)
        monkeypatch.setattr(stored_packs, "LIST_FROM_PACKS", 1)
        with make(store) as repository, repository.begin(uuid4()) as writer:
            for number in range(3):
                writer.file(str(number), [random_disk(number, CHUNK, zero_share=0)])
                writer.flush()
            writer.check()
            del store.objects[next(name for name in store.objects if name.startswith("nodes/"))]
            with pytest.raises(Damaged, match="missing or truncated"):
                writer.check()

    @pytest.mark.parametrize("folder", ["data/", "nodes/"])
    def test_never_succeeds_once_a_pack_was_lost(self, folder: str) -> None:
        class Failing(MemoryStore):
            fail = True

            def put(self, name: str, data: bytes) -> None:
                if self.fail and name.startswith(folder):
                    raise StoreError(self.url, "create", name, "down")
                super().put(name, data)

        with make(store := Failing()) as repository, repository.begin(uuid4()) as writer:
            disk = writer.disk(CHUNK)
            disk.put(0, b"a" * CHUNK)
            made = manifest_of([disk_of(disk.finish())])
            with pytest.raises(StoreError):
                writer.commit(made)
            store.fail = False  # the store has recovered; the content of the pack is lost
            with pytest.raises(StoreError):
                writer.commit(made)
            again = writer.disk(CHUNK)
            with pytest.raises(StoreError):
                again.put(0, b"a" * CHUNK)
            assert repository.catalog.points() == ()

    @pytest.mark.parametrize("fail_at", range(12))
    def test_that_stops_anywhere_leaves_no_point_or_a_whole_one(self, fail_at: int) -> None:
        class Failing(MemoryStore):
            calls = -1

            def put(self, name: str, data: bytes) -> None:
                if self.calls >= 0:
                    self.calls += 1
                    if self.calls > fail_at:
                        raise NoSpace(self.url, "create", name, "full")
                super().put(name, data)

        store = Failing()
        content = random_disk(14, 20 * CHUNK)
        with make(store) as repository:
            store.calls = 0
            try:
                store_point(repository, content)
            except NoSpace:
                pass
            finally:
                store.calls = -1
        with reopen(store) as fresh:
            for point in fresh.catalog.points():
                assert content_of(fresh, point) == content
            assert fresh.verify("hashed").good
            again = store_point(fresh, content)
            assert content_of(fresh, again) == content

    def test_gives_each_vm_a_line_of_sequence_and_digest(self, repository: Repository) -> None:
        other = uuid4()
        for vm in (VM, other, VM):
            store_point(repository, b"x" * 512, vm_id=vm)
        first, second = repository.catalog.points(VM)
        assert (first.manifest.sequence, first.manifest.previous) == (1, None)
        assert (second.manifest.sequence, second.manifest.previous) == (2, first.manifest.digest())
        assert [point.manifest.sequence for point in repository.catalog.points(other)] == [1]

    def test_failed_in_the_pool_is_seen_by_the_writer(self) -> None:
        class Full(MemoryStore):
            def sink(self, name: str) -> object:  # type: ignore[override]  # only raises
                if name.startswith("data/"):
                    raise NoSpace(self.url, "create", name, "full")
                return super().sink(name)

        with make(Full()) as repository, repository.begin(uuid4()) as writer:
            writer.disk(CHUNK, None).put(0, b"x" * CHUNK)
            with pytest.raises(NoSpace):
                writer.flush()


def with_ids(repository: Repository) -> list[UUID]:
    return [point.point_id for point, ids in repository.catalog.with_ids(VM) if ids is not None]


class TestIds:
    def test_make_a_point_a_base(self, repository: Repository) -> None:
        first = store_point(repository, b"x" * 512)
        second = store_point(repository, b"y" * 512)
        assert with_ids(repository) == []
        repository.catalog.publish_ids(first, ids_for(first))
        assert with_ids(repository) == [first.point_id]
        repository.catalog.publish_ids(second, ids_for(second))
        assert with_ids(repository) == [first.point_id, second.point_id]

    def test_of_another_point_are_refused(self, repository: Repository) -> None:
        first = store_point(repository, b"x" * 512)
        second = store_point(repository, b"y" * 512)
        with pytest.raises(ValueError, match="do not belong"):
            repository.catalog.publish_ids(second, ids_for(first))

    def test_that_lie_under_another_points_name_are_not_used(
        self, repository: Repository, store: MemoryStore
    ) -> None:
        first = store_point(repository, b"x" * 512)
        second = store_point(repository, b"y" * 512)
        repository.catalog.publish_ids(first, ids_for(first))
        store.objects[f"ids/{second.point_id.hex}"] = store.objects[f"ids/{first.point_id.hex}"]
        assert with_ids(repository) == [first.point_id]


def test_writers_need_no_right_to_delete() -> None:
    class AppendOnly(MemoryStore):
        def delete(self, name: str) -> None:
            raise StoreError(self.url, "delete", name, "permission denied")

    store = AppendOnly()
    with make(store, sealed=True) as repository:
        for number in range(2):
            with repository.lease(VM, current_holder(uuid4())) as lease:
                point = store_point(repository, bytes([number + 1]) * CHUNK)
                lease.check()
            repository.catalog.publish_ids(point, ids_for(point))
    with reopen(store) as fresh:
        assert len(fresh.catalog.points()) == 2
        assert fresh.verify("hashed").good


class TestReading:
    class Counting(MemoryStore):
        ranges = 0

        def get_range(self, name: str, offset: int, length: int) -> bytes:
            self.ranges += 1
            return super().get_range(name, offset, length)

    def test_takes_neighbours_in_one_range(self) -> None:
        store = self.Counting()
        content = random_disk(30, 400 * CHUNK, zero_share=0)
        with make(store) as repository:
            image = repository.image(point := store_point(repository, content), point.disks[0])
            store.ranges = 0
            assert sum(len(data) for _, data in image.chunks()) == len(content)
        # 400 chunks of about 16 KiB and two nodes above them: a few ranges of up to 4 MiB.
        assert store.ranges <= 8

    def test_fetches_a_chunk_that_occurs_often_once(self) -> None:
        store = self.Counting()
        with make(store) as repository:
            image = repository.image(
                point := store_point(repository, b"same" * (50 * CHUNK // 4)), point.disks[0]
            )
            store.ranges = 0
            assert len(list(image.chunks())) == 50
        assert store.ranges == 2  # a node and the chunk

    def test_of_a_remote_store_looks_ahead_and_gives_the_same(self) -> None:
        class Remote(MemoryStore):
            remote = True
            at_once = highest = 0
            lock = threading.Lock()

            def get_range(self, name: str, offset: int, length: int) -> bytes:
                with self.lock:
                    self.at_once += 1
                    self.highest = max(self.highest, self.at_once)
                time.sleep(0.01)
                with self.lock:
                    self.at_once -= 1
                return super().get_range(name, offset, length)

        store = Remote()
        content = random.Random(31).randbytes(300 * CHUNK)
        with make(store) as repository:
            point = store_point(repository, content)
            found = dict(repository.image(point, point.disks[0]).chunks())
        assert b"".join(found[at] for at in sorted(found)) == content
        assert 1 < store.highest <= 4


class TestTwoProcesses:
    def test_on_one_repository_see_each_others_points_and_chunks(self, store: MemoryStore) -> None:
        content = random_disk(15, 10 * CHUNK, zero_share=0)
        with make(store) as one, reopen(store) as two:
            point = store_point(one, content)
            assert content_of(two, two.catalog.points()[0]) == content
            with two.begin(uuid4()) as writer:
                writer.disk(CHUNK, None).put(0, content[:CHUNK])
                writer.wait()
                assert writer.stats.known_chunks == 1
            assert [found.point_id for found in two.catalog.points()] == [point.point_id]

    def test_may_write_at_once_with_one_cache(self, tmp_path: Path) -> None:
        url = str(tmp_path / "repo")
        create_repository(url, chunk_bytes=CHUNK).close()
        contents = [random_disk(16 + number, 60 * CHUNK, zero_share=0.1) for number in range(3)]
        failures: list[Exception] = []

        def backup(content: bytes) -> None:
            try:
                with open_repository(url, cache_folder=tmp_path / "cache") as repository:
                    store_point(repository, content, vm_id=uuid4())
            except Exception as err:  # noqa: BLE001 (any of them fails the test below)
                failures.append(err)

        threads = [threading.Thread(target=backup, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        with open_repository(url, cache_folder=tmp_path / "cache") as repository:
            assert sorted(content_of(repository, point) for point in repository.catalog.points()) == sorted(
                contents
            )
            assert repository.verify("hashed").good


class TestOpening:
    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        create_repository(str(tmp_path / "repo"), chunk_bytes=CHUNK).close()
        return str(tmp_path / "repo")

    def test_what_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(NoRepository):
            open_repository(str(tmp_path), cache_folder=tmp_path / "cache")

    def test_what_exists_is_not_made_again(self, url: str) -> None:
        with pytest.raises(RepositoryExists):
            create_repository(url)

    def test_a_newer_format_names_both_numbers(self, url: str, tmp_path: Path) -> None:
        config = Path(url) / "config"
        config.write_bytes(config.read_bytes().replace(b'"format":', b'"format":99, "was":'))
        with pytest.raises(NewerFormat, match="has format 99"):
            open_repository(url, cache_folder=tmp_path / "cache")

    def test_a_point_of_a_newer_hvps_is_told_from_damage_and_hides_only_itself(
        self, repository: Repository, store: MemoryStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = store_point(repository, b"y" * 512, vm_id=UUID(int=2))
        manifest = store_point(repository, b"x" * 512).manifest
        text = manifest.encode().replace(b'{"', b'{"a_later_field":1,"', 1)
        name = f"points/{manifest.point_id.hex}"
        store.objects[name] = repository._objects.envelope(name, Kind.MANIFEST, text)
        with reopen(store) as fresh:
            assert fresh.catalog.points() == (other,)
            assert "written by a newer hvps" in caplog.text
            with pytest.raises(NewerObject, match="a_later_field"):
                fresh.catalog.find_point(f"id:{manifest.point_id.hex}")

    @pytest.mark.parametrize(
        ("folder", "kind"),
        [("bad", Kind.BAD_LIST), ("tombstones", Kind.TOMBSTONE), ("proofs", Kind.PROOF), ("ids", Kind.IDS)],
    )
    def test_a_record_of_a_newer_hvps_closes_nothing(
        self, repository: Repository, store: MemoryStore, folder: str, kind: Kind
    ) -> None:
        point = store_point(repository, b"x" * 512)
        name = f"{folder}/{point.point_id.hex}" + ("/" + "0" * 16 if folder == "proofs" else "")
        store.objects[name] = repository._objects.envelope(name, kind, b'{"a_later_field":1}')
        with reopen(store) as fresh:
            assert fresh.catalog.points() == (point,)
            assert not fresh.catalog.proofs.of(point)
            assert not fresh.catalog.tombstones()
            assert fresh.catalog.ids(point) is None
            store_point(fresh, b"y" * 512)

    def test_what_no_reader_would_accept_is_not_committed(
        self, repository: Repository, store: MemoryStore
    ) -> None:
        odd: tuple[dict[str, object], ...] = (
            {"vm_name": "\ud800"},
            {"definition": "x" * (9 * MIB)},
            {"os_build": -1},
        )
        for changes in odd:
            with pytest.raises(StoreError, match="cannot create points/"):
                store_point(repository, b"x" * 512, **changes)
        assert not list(store.objects_under("points"))

    @pytest.mark.parametrize("at", range(0, 240, 7))
    def test_damaged_settings_are_found(self, url: str, tmp_path: Path, at: int) -> None:
        config = Path(url) / "config"
        data = bytearray(config.read_bytes())
        data[at % len(data)] ^= 1
        config.write_bytes(data)
        with pytest.raises((Damaged, NewerFormat, WrongKey)):
            open_repository(url, cache_folder=tmp_path / "cache")

    def test_a_plain_repository_with_a_key_is_refused(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(WrongKey):
            open_repository(url, key=Secret("x"), cache_folder=tmp_path / "cache")

    def test_works_with_a_cache_that_was_lost_or_torn(self, url: str, tmp_path: Path) -> None:
        content = random_disk(20, 30 * CHUNK)
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            point = store_point(repository, content)
        (folder,) = cache.rglob("chunks")
        for path in folder.iterdir():
            path.write_bytes(b"not an index at all, but long enough to be looked at" * 100)
        with open_repository(url, cache_folder=cache) as repository:
            assert content_of(repository, point) == content
        shutil.rmtree(cache)
        with open_repository(url, cache_folder=cache) as repository:
            assert content_of(repository, point) == content

    def test_works_with_a_cache_that_lost_rows(self, url: str, tmp_path: Path) -> None:
        content = random_disk(21, 30 * CHUNK)
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            point = store_point(repository, content)
        (manifest,) = cache.rglob("manifest")
        rewrite_manifest(manifest, lambda fields: fields.update(runs=[]))
        with open_repository(url, cache_folder=cache) as repository:
            assert content_of(repository, point) == content

    def test_works_with_a_cache_that_is_torn_in_its_middle(self, url: str, tmp_path: Path) -> None:
        content = random_disk(21, 300 * CHUNK)
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            point = store_point(repository, content)
        for path in (*cache.rglob("run-*"), *cache.rglob("entries-*")):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] + bytes(reversed(data[len(data) // 2 :])))
        with open_repository(url, cache_folder=cache) as repository:
            assert content_of(repository, point) == content
            assert repository.verify("hashed").good

    def test_a_reader_that_meets_damage_leaves_a_verification_beside_it_alone(
        self, url: str, tmp_path: Path
    ) -> None:
        """Both use one cache, whose numbers must not change while they are in use."""
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            points = [store_point(repository, random_disk(seed, 4 * CHUNK, zero_share=0)) for seed in (1, 2)]
            numbers = {pack.name: pack.number for pack in repository._cache.packs()}
            pack = next(path for path in (Path(url) / "data").rglob("*") if path.is_file())
            pack.write_bytes(pack.read_bytes()[:100])
            with open_repository(url, cache_folder=cache) as other:
                for point in points:
                    with contextlib.suppress(Damaged):
                        content_of(other, point)
            assert {pack.name: pack.number for pack in repository._cache.packs()} == numbers

    @pytest.mark.parametrize("rot", ["sizes", "ids", "names", "lengths", "numbers", "keys", "filter"])
    @pytest.mark.parametrize("first", ["restore", "verify", "verify the point"])
    def test_a_cache_that_rotted_passes_for_no_damage(
        self, url: str, tmp_path: Path, rot: str, first: str
    ) -> None:
        content = random_disk(23, 30 * CHUNK)
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            point = store_point(repository, content)
        (folder,) = cache.rglob("chunks")
        rot_rows(folder, rot)
        with open_repository(url, cache_folder=cache) as repository:
            if first != "restore":
                report = repository.verify("hashed", [point] if first == "verify the point" else None)
                assert report.good, report.problems
                assert not report.bad
            assert content_of(repository, point) == content

    def test_works_without_a_folder_for_its_cache(self, url: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with open_repository(url, cache_folder=tmp_path / "file") as repository:
            content = random_disk(22, 3 * CHUNK)
            assert content_of(repository, store_point(repository, content)) == content

    def test_a_directory_in_use_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "used").mkdir()
        (tmp_path / "used" / "thesis.tex").write_text("x")
        with pytest.raises(RepositoryExists, match=r"thesis\.tex"):
            create_repository(str(tmp_path / "used"))
        assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.tex"]

    def test_an_init_that_died_is_done_again(self, tmp_path: Path) -> None:
        target = tmp_path / "again"
        create_repository(str(target), chunk_bytes=CHUNK, key=KEY, cost=CHEAP).close()
        # Killed just before the settings, after which folders follow.
        (target / "config").unlink()
        for folder in target.iterdir():
            with contextlib.suppress(OSError):
                folder.rmdir()
        with create_repository(str(target), chunk_bytes=CHUNK, key=KEY, cost=CHEAP) as repository:
            assert len(repository.keys.slots()) == 1

    def test_passes_over_files_that_are_not_its_own(self, tmp_path: Path) -> None:
        folder = tmp_path / "sealed"
        content = random_disk(23, 3 * CHUNK)
        with create_repository(str(folder), chunk_bytes=CHUNK, key=KEY, cost=CHEAP) as repository:
            point = store_point(repository, content)
            repository.lease(VM, current_holder(uuid4())).release()
        (lease,) = (folder / "leases").iterdir()
        places = [folder, lease, *(folder / name for name in ("points", "index", "keys", "data", "bad"))]
        for place in places:
            place.mkdir(exist_ok=True)
            for name in (".nfs0001", "Notes.txt", "readme", "0123"):
                (place / name).write_text("not ours")
        with open_repository(str(folder), key=KEY, cache_folder=tmp_path / "cache") as repository:
            assert content_of(repository, point) == content
            repository.lease(VM, current_holder(uuid4())).release()
            assert len(repository.keys.slots()) == 1
            assert repository.verify("hashed").good

    def test_forgets_index_objects_that_are_gone(self, url: str, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        with open_repository(url, cache_folder=cache) as repository:
            store_point(repository, b"z" * CHUNK)
        for index in (Path(url) / "index").iterdir():
            index.unlink()
        with open_repository(url, cache_folder=cache) as repository, repository.begin(uuid4()) as writer:
            writer.disk(CHUNK, None).put(0, b"z" * CHUNK)
            writer.wait()
            assert writer.stats.new_chunks == 1


def test_what_somebody_added_is_read_once_and_logged_each_time(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make(store, sealed=True).close()
    planted = [f"{folder}/{number:032x}" for folder in ("index", "bad") for number in range(3)]
    store.objects |= dict.fromkeys(planted, b"x" * 100)
    read: list[str] = []
    get = MemoryStore.get

    def counted(self: MemoryStore, name: str, max_bytes: int) -> bytes:
        read.append(name)
        return get(self, name, max_bytes)

    monkeypatch.setattr(MemoryStore, "get", counted)
    for times in (1, 1, 1):
        caplog.clear()
        with open_on_store(store, key=KEY, cache_folder=tmp_path) as opened:
            opened.refresh()
            assert [read.count(name) for name in planted] == [times] * 6
            assert all(name in caplog.text for name in planted)
    with open_on_store(store, key=KEY, cache_folder=tmp_path) as opened:
        assert {problem.name for problem in opened.verify().problems} >= set(planted[:3])
    # Put back with another size, or a day later, they are read again.
    store.objects[planted[0]] = b"y" * 101
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    open_on_store(store, key=KEY, cache_folder=tmp_path).close()
    assert all(read.count(name) >= 2 for name in planted)


def test_an_object_that_is_not_a_manifest_is_read_once_by_a_run(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = f"points/{5:032x}"
    with make(store, sealed=True) as repository:
        store.objects[planted] = b"x"
        read: list[str] = []
        get = MemoryStore.get

        def counted(self: MemoryStore, name: str, max_bytes: int) -> bytes:
            read.append(name)
            return get(self, name, max_bytes)

        monkeypatch.setattr(MemoryStore, "get", counted)
        for _ in range(3):
            assert repository.catalog.points() == ()
        assert read.count(planted) == 1
        assert [problem.name for problem in repository.verify().problems] == [planted]
        assert read.count(planted) >= 2


@pytest.mark.parametrize("text", ["", "one", "one x y", "one 5\n", "\x00" * 100, "one 5 nan"], ids=range(6))
def test_a_torn_memory_of_unreadable_objects_is_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "unreadable").write_text(text)
    memory = Unreadable(tmp_path)
    assert ObjectInfo("one", 5) not in memory
    memory.add(ObjectInfo("one", 5))
    memory.save()
    assert ObjectInfo("one", 5) in Unreadable(tmp_path)


def test_a_tree_of_one_node_again_and_again_has_an_end() -> None:
    class SameNode:
        def read(self, _identity: bytes, _kind: Kind) -> bytes:
            return b"i" * tree_module.NODE_BYTES

        def damaged(self, name: str, what: object) -> Damaged:
            return Damaged("memory:", name, str(what))

    chunks = 3 * FAN_OUT**2
    tree = tree_module.TreeReader(SameNode(), tree_module.TreeRoot(b"i" * 32, 5), chunks)  # type: ignore[arg-type]
    leaves = tree.leaves()
    assert [next(leaves)[0] for _ in range(3 * FAN_OUT)] == list(range(3 * FAN_OUT))
    with pytest.raises(Damaged, match="beyond the end"):
        next(leaves)
