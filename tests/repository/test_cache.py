"""The index cache: corrupt in any way, shared by processes, and of one place only."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import zlib
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.pack import PackEntry
from hvpsbridge.repository import Level, create_repository, current_holder, open_repository
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.chunk_index import index
from hvpsbridge.repository.chunk_index.files import FolderFiles
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


def rot(folder: Path, seed: int, count: int = 40) -> None:
    """Flip some bits, in any of the files."""
    dice = random.Random(seed)
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    for _ in range(count):
        path = dice.choice(files)
        with path.open("r+b") as file:  # in place: other processes keep it open
            file.seek(at := dice.randrange(path.stat().st_size))
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << dice.randrange(8)]))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "a" / "chunks"
    cache = IndexCache(folder, Source())
    cache.synchronise()
    cache.close()
    return folder


def copied(good: Path, folder: Path) -> Path:
    shutil.copytree(good, folder)
    return folder


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
def test_every_method_outlives_a_corrupt_file(method: str, good: Path, tmp_path: Path) -> None:
    for seed in range(12):
        folder = copied(good, tmp_path / str(seed) / "a" / "chunks")
        rot(folder, seed)
        cache = IndexCache(folder, Source())
        METHODS[method](cache)
        cache.close()


def _kinds(folder: Path) -> dict[str, Path]:
    """The files, by the first word of their names."""
    return {path.name.split("-")[0]: path for path in folder.iterdir() if "lock" not in path.name}


WRONGS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "rubbish": lambda path: path.write_bytes(b"\xa5" * path.stat().st_size),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "reversed": lambda path: path.write_bytes(path.read_bytes()[::-1]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("kind", ["manifest", "entries", "tails", "packs", "listings", "run"])
def test_files_of_others_are_replaced(kind: str, wrong: str, good: Path, tmp_path: Path) -> None:
    folder = copied(good, tmp_path / "a" / "chunks")
    WRONGS[wrong](_kinds(folder)[kind])
    cache = IndexCache(folder, Source())
    cache.check()
    cache.synchronise()
    for look in METHODS.values():
        look(cache)
    for name in NAMES:
        assert cache.matches(name, packs_of(name))
        assert cache.find(packs_of(name).packs[0].entries[7].id)
    assert len(cache.packs()) == len(NAMES)
    assert len(cache.frames_of(NAMES[0])) == 60
    cache.close()


def test_index_objects_are_loaded_by_several_threads(tmp_path: Path) -> None:
    together = threading.Barrier(len(NAMES))

    class Slow(Source):
        def load_index(self, name: bytes) -> IndexObject | None:
            together.wait(60)
            return super().load_index(name)

    cache = IndexCache(tmp_path / "chunks", Slow(), loaders=len(NAMES))
    cache.synchronise()
    assert all(cache.matches(name, packs_of(name)) for name in NAMES)
    cache.close()


def test_a_manifest_of_another_version_is_replaced(good: Path, tmp_path: Path) -> None:
    data = (good / "manifest").read_bytes()[9:].replace(b'"version":1', b'"version":9')
    (good / "manifest").write_bytes(b"%08x\n" % zlib.crc32(data) + data)
    cache = IndexCache(good, Source())
    cache.synchronise()
    assert len(cache.packs()) == len(NAMES)
    cache.close()


def test_what_is_not_published_yet_outlives_the_file(good: Path) -> None:
    cache = IndexCache(good, Source())
    own, other = packs_of(b"o" * 16).packs[0], packs_of(NAMES[0]).packs[0]
    cache.add_own(own, 5)
    cache.set_bad([(entry.id, NAMES[0]) for entry in other.entries])
    for attempt in range(100):
        rot(good, attempt, count=300)
        with contextlib.suppress(StoreError):
            cache.check()
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


def test_files_that_are_locked_are_not_corrupt(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BUSY_SECONDS", 0.05)
    with FolderFiles(good).locked(index.LOCK, 0):
        cache = IndexCache(good, Source())
        cache.synchronise()
        assert len(cache.packs()) == len(NAMES)
        with pytest.raises(StoreError, match="another process holds its lock"):
            cache.add(b"o" * 16, packs_of(b"o" * 16))
        assert not cache.renewals
    cache.add(b"o" * 16, packs_of(b"o" * 16))
    assert len(cache.packs()) == len(NAMES) + 1
    cache.close()


@pytest.mark.parametrize("seed", range(8))
def test_a_repository_with_a_rotten_cache_is_good(seed: int, tmp_path: Path) -> None:
    url, caches = str(tmp_path / "repo"), tmp_path / "cache"
    content = random.Random(1).randbytes(200 * CHUNK)
    with create_repository(url, chunk_bytes=CHUNK, cache_folder=caches) as repository:
        point = store_point(repository, content)
    (folder,) = caches.rglob("chunks")
    rot(folder, seed)
    with open_repository(url, cache_folder=caches) as repository:
        assert repository.verify(Level.HASHED).good
        assert content_of(repository, point) == content
        again = store_point(repository, content)
        assert content_of(repository, again) == content
        rot(folder, seed + 100, count=200)  # while it is open
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
            late.wait()
            assert late.stats.known_chunks == 0
            assert late.known_chunk(b"x" * 32, CHUNK) is None
        assert len(list(caches.rglob("chunks"))) == 2

    def test_a_place_is_one_however_it_is_spelled(self, tmp_path: Path) -> None:
        url, caches = tmp_path / "repo", tmp_path / "cache"
        create_repository(str(url), chunk_bytes=CHUNK, cache_folder=caches).close()
        (tmp_path / "link").symlink_to(url)
        for spelling in (f"{url}/", f"file://{url}", str(tmp_path / "link"), f"{tmp_path}/repo/../repo"):
            open_repository(spelling, cache_folder=caches).close()
        assert len(list(caches.rglob("chunks"))) == 1
        places = {
            S3Store(f"s3://bucket/{path}?endpoint=http://127.0.0.1:9{more}").place
            for path, more in (("a", ""), ("a/", "/"), ("a", "&region=eu-1"))
        }
        assert len(places) == 1
        assert S3Store("s3://bucket/b?endpoint=http://127.0.0.1:9").place not in places

    def test_the_cache_of_an_older_hvps_is_removed(self, tmp_path: Path) -> None:
        url, caches = str(tmp_path / "repo"), tmp_path / "cache"
        with create_repository(url, chunk_bytes=CHUNK, cache_folder=caches) as repository:
            oldest = caches / str(repository.repository_id) / "index.sqlite"
        (place,) = (path for path in oldest.parent.iterdir() if path.is_dir())
        for old in (oldest, place / "index.sqlite"):
            old.write_bytes(b"old")
            old.with_name("index.sqlite-wal").write_bytes(b"old")
        with open_repository(url, cache_folder=caches) as repository:
            store_point(repository, b"x" * CHUNK)
        assert not list(caches.rglob("index.sqlite*"))

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
