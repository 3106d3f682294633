"""The index cache: corrupt in any way, shared by processes, and of one place only."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.pack import PackEntry
from hvpsbridge.repository import Level, create_repository, current_holder, open_repository
from hvpsbridge.repository import cache_file as cache_files
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.repository.stores.s3 import S3Store
from tests.repository.conftest import CHUNK, VM, content_of, store_point

NAMES = [bytes([number]) * 16 for number in range(1, 5)]


def packs_of(name: bytes) -> IndexObject:
    dice = random.Random(name)
    entries = tuple(PackEntry(dice.randbytes(32), 8 + 100 * at, 100, 200) for at in range(60))
    return IndexObject((), (IndexedPack(name, Kind.DATA_PACK, 8000, entries),))


class Source:
    """Four index objects."""

    def index_names(self) -> list[bytes]:
        return NAMES

    def load_index(self, name: bytes) -> IndexObject | None:
        return packs_of(name)


def rot(path: Path, seed: int, count: int = 40) -> None:
    dice = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[dice.randrange(100, len(data))] ^= 1 << dice.randrange(8)
    with path.open("r+b") as file:  # in place: connections keep the file open
        file.write(data)


def closed(cache: IndexCache, path: Path) -> bytes:
    cache.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.read_bytes()


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    path = tmp_path / "made" / "a" / "index.sqlite"
    cache = IndexCache(path, Source())
    cache.synchronise()
    return closed(cache, path)


METHODS = {
    "find": lambda cache: cache.find(packs_of(NAMES[0]).packs[0].entries[3].id),
    "holder": lambda cache: cache.holder(packs_of(NAMES[1]).packs[0].entries[5].id, Kind.DATA_PACK, 1),
    "packs": lambda cache: cache.packs(),
    "pack_entries": lambda cache: [cache.pack_entries(pack.number) for pack in cache.packs()],
    "frames_of": lambda cache: cache.frames_of(NAMES[2]),
    "highest_number": lambda cache: cache.highest_number(),
    "lost": lambda cache: cache.lost(),
    "matches": lambda cache: [cache.matches(name, packs_of(name)) for name in NAMES],
    "correct": lambda cache: cache.correct(NAMES[3], packs_of(NAMES[3])),
    "add": lambda cache: cache.add(NAMES[3], packs_of(NAMES[3])),
    "synchronise": lambda cache: cache.synchronise(),
    "set_bad": lambda cache: cache.set_bad([(b"i" * 32, NAMES[0])]),
    "add_own": lambda cache: cache.add_own(packs_of(b"o" * 16).packs[0], 1),
    "drop_own": lambda cache: cache.drop_own([b"o" * 16]),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_outlives_a_corrupt_file(method: str, good: bytes, tmp_path: Path) -> None:
    for seed in range(12):
        path = tmp_path / str(seed) / "a" / "index.sqlite"
        path.parent.mkdir(parents=True)
        path.write_bytes(good)
        rot(path, seed)
        cache = IndexCache(path, Source())
        METHODS[method](cache)
        cache.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE chunks",
        "DROP TABLE packs",
        "DROP TABLE indexes",
        "UPDATE packs SET kind = 99",
        "UPDATE packs SET kind = 'x'",
        "UPDATE packs SET name = 'text'",
        "UPDATE packs SET bytes = -5",
        "UPDATE chunks SET id = 7, offset = 'x'",
        "UPDATE chunks SET offset = CAST(X'ff' AS TEXT)",
        "UPDATE indexes SET name = number",
        "ALTER TABLE chunks RENAME COLUMN frame TO other",
        "PRAGMA user_version = 0",
    ],
)
def test_rows_and_tables_of_others_are_replaced(statement: str, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a" / "index.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(good)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    cache = IndexCache(path, Source())
    cache.synchronise()
    for look in METHODS.values():
        look(cache)
    for name in NAMES:
        if not cache.matches(name, packs_of(name)):
            cache.correct(name, packs_of(name))
    assert len(cache.packs()) == len(NAMES)
    assert len(cache.frames_of(NAMES[0])) == 60
    cache.close()


def test_a_schema_of_rubbish_is_replaced(good: bytes, tmp_path: Path) -> None:
    at = good.index(b"CREATE TABLE indexes")
    for number, letter in enumerate((b"\xc5", b"\x00", b"'", b"(")):
        path = tmp_path / str(number) / "a" / "index.sqlite"
        path.parent.mkdir(parents=True)
        path.write_bytes(good[: at + 9] + letter + good[at + 10 :])
        cache = IndexCache(path, Source())
        cache.synchronise()
        assert len(cache.packs()) == len(NAMES)
        cache.close()


def test_what_is_not_published_yet_outlives_the_file(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a" / "index.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(good)
    cache = IndexCache(path, Source())
    own, other = packs_of(b"o" * 16).packs[0], packs_of(NAMES[0]).packs[0]
    cache.add_own(own, 5)
    cache.set_bad([(entry.id, NAMES[0]) for entry in other.entries])
    for attempt in range(100):
        rot(path, attempt, count=300)
        with contextlib.suppress(StoreError):
            cache.matches(NAMES[1], packs_of(NAMES[1]))
        if cache.renewals:
            break
    assert cache.renewals
    assert cache.holder(own.entries[0].id, Kind.DATA_PACK, 5)
    assert not cache.holder(own.entries[0].id, Kind.DATA_PACK, 6)
    assert not cache.holder(other.entries[0].id, Kind.DATA_PACK, 5)
    assert len(cache.lost()) == 60
    cache.drop_own([own.name])
    assert not cache.holder(own.entries[0].id, Kind.DATA_PACK, 5)
    cache.close()


def test_a_file_that_is_locked_is_not_corrupt(
    good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_files, "BUSY_SECONDS", 0.05)
    path = tmp_path / "a" / "index.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(good)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        cache = IndexCache(path, Source())  # in memory
        cache.synchronise()
        assert len(cache.packs()) == len(NAMES)
        cache.close()
    assert path.exists()
    with contextlib.closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT COUNT(*) FROM packs").fetchone() == (len(NAMES),)


@pytest.mark.parametrize("seed", range(8))
def test_a_repository_with_a_rotten_cache_is_good(seed: int, tmp_path: Path) -> None:
    url, caches = str(tmp_path / "repo"), tmp_path / "cache"
    content = random.Random(1).randbytes(200 * CHUNK)
    with create_repository(url, chunk_bytes=CHUNK, cache_folder=caches) as repository:
        point = store_point(repository, content)
    (database,) = caches.rglob("index.sqlite")
    rot(database, seed)
    with open_repository(url, cache_folder=caches) as repository:
        assert repository.verify(Level.HASHED).good
        assert content_of(repository, point) == content
        again = store_point(repository, content)
        assert content_of(repository, again) == content
        rot(database, seed + 100, count=200)  # while it is open
        assert repository.verify(Level.HASHED).good


class TestPlaces:
    def test_a_copy_of_the_files_has_a_cache_of_its_own(self, tmp_path: Path) -> None:
        url, copy, caches = tmp_path / "repo", tmp_path / "copy", tmp_path / "cache"
        create_repository(str(url), chunk_bytes=CHUNK, cache_folder=caches).close()
        shutil.copytree(url, copy)
        content = random.Random(2).randbytes(4 * CHUNK)
        with (
            open_repository(str(url), cache_folder=caches) as original,
            open_repository(str(copy), cache_folder=caches) as other,
            other.begin(uuid4()) as late,
        ):
            store_point(original, content)
            disk = late.disk(len(content))
            for number in range(4):
                disk.put(number, content[number * CHUNK : (number + 1) * CHUNK])
            assert late.stats.known_chunks == 0
            assert late.known_chunk(b"x" * 32, CHUNK) is None
        assert len(list(caches.rglob("index.sqlite"))) == 2

    def test_a_place_is_one_however_it_is_spelled(self, tmp_path: Path) -> None:
        url, caches = tmp_path / "repo", tmp_path / "cache"
        create_repository(str(url), chunk_bytes=CHUNK, cache_folder=caches).close()
        (tmp_path / "link").symlink_to(url)
        for spelling in (f"{url}/", f"file://{url}", str(tmp_path / "link"), f"{tmp_path}/repo/../repo"):
            open_repository(spelling, cache_folder=caches).close()
        assert len(list(caches.rglob("index.sqlite"))) == 1
        places = {
            S3Store(f"s3://bucket/{path}?endpoint=http://127.0.0.1:9{more}").place
            for path, more in (("a", ""), ("a/", "/"), ("a", "&region=eu-1"))
        }
        assert len(places) == 1
        assert S3Store("s3://bucket/b?endpoint=http://127.0.0.1:9").place not in places

    def test_the_cache_of_an_older_hvps_is_removed(self, tmp_path: Path) -> None:
        url, caches = str(tmp_path / "repo"), tmp_path / "cache"
        with create_repository(url, chunk_bytes=CHUNK, cache_folder=caches) as repository:
            old = caches / str(repository.repository_id) / "index.sqlite"
        old.write_bytes(b"old")
        old.with_name("index.sqlite-wal").write_bytes(b"old")
        with open_repository(url, cache_folder=caches) as repository:
            store_point(repository, b"x" * CHUNK)
        assert [path.is_dir() for path in old.parent.iterdir()] == [True]

    def test_a_lease_held_in_one_place_is_not_held_in_a_copy(self, tmp_path: Path) -> None:
        url, copy = tmp_path / "repo", tmp_path / "copy"
        with (
            create_repository(str(url), chunk_bytes=CHUNK, cache_folder=tmp_path / "c") as original,
            original.lease(VM, current_holder(uuid4())),
        ):
            shutil.copytree(url, copy)
            with (
                open_repository(str(copy), cache_folder=tmp_path / "c") as other,
                other.lease(VM, current_holder(uuid4())) as lease,
            ):
                lease.check()

    def test_the_real_path_counts(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert LocalStore(tmp_path / "link").place == os.path.realpath(tmp_path / "real")
