"""Readers of disks that several threads share."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.repository import Repository, create_repository
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.reading import ChunkCache
from tests.repository.conftest import CHUNK, store_point

SIZE = 300 * CHUNK + 4096


@pytest.fixture
def content() -> bytes:
    chance = random.Random(5)
    content = bytearray(SIZE)
    for at in range(0, SIZE, 40 * CHUNK):
        length = min(17 * CHUNK + 100, SIZE - at)
        content[at : at + length] = chance.randbytes(length)
    return bytes(content)


@pytest.fixture
def stored(tmp_path: Path, content: bytes) -> tuple[Repository, Point]:
    repository = create_repository(str(tmp_path / "repo"), chunk_bytes=CHUNK)
    return repository, store_point(repository, content)


def test_any_part_is_read_by_any_number_of_threads(stored: tuple[Repository, Point], content: bytes) -> None:
    repository, point = stored
    # Smaller than the disk: chunks are dropped and decoded again.
    with repository.readers(20 * CHUNK) as readers:
        disk = repository.reader(readers, point.disks[0])
        assert disk.size_bytes == SIZE

        def read(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(100):
                at = chance.randrange(SIZE)
                length = chance.randint(1, min(3 * CHUNK, SIZE - at))
                assert disk.pread(at, length) == content[at : at + length]

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(read, range(6)))
        whole = b"".join(disk.pread(at, min(CHUNK, SIZE - at)) for at in range(0, SIZE, CHUNK))
        assert whole == content


def test_extents_and_status_say_where_data_is(stored: tuple[Repository, Point], content: bytes) -> None:
    repository, point = stored
    with repository.readers() as readers:
        disk = repository.reader(readers, point.disks[0])
        extents = list(disk.extents())
        assert extents == list(repository.image(point, point.disks[0]).extents())
        position = 0
        for length, data in disk.status(0, SIZE):
            assert data or not any(content[position : position + length])
            position += length
        assert position == SIZE
        runs = list(disk.status(100, SIZE - 200))
        assert sum(length for length, _ in runs) == SIZE - 200
        assert all(one[1] != other[1] for one, other in itertools.pairwise(runs))


def test_a_chunk_that_is_damaged_is_an_error_each_time(
    stored: tuple[Repository, Point], tmp_path: Path
) -> None:
    repository, point = stored
    for pack in (tmp_path / "repo").glob("data/*/*"):
        data = bytearray(pack.read_bytes())
        data[1000] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
    with repository.readers() as readers:
        disk = repository.reader(readers, point.disks[0])
        for _ in range(3):
            with pytest.raises(Damaged):
                disk.pread(0, SIZE)


def test_the_cache_keeps_no_more_than_its_capacity() -> None:
    cache, loaded = ChunkCache(10), list[bytes]()
    for identity in (b"a", b"b", b"a", b"c", b"b"):
        here, coming, mine = cache.take([identity])
        if mine is not None:
            loaded.append(identity)
            cache.finish([identity], mine, {identity: identity * 4})
            here = {
                identity: content
                for identity in coming
                if isinstance(content := mine.result()[identity], bytes)
            }
        assert here == {identity: identity * 4}
    assert loaded == [b"a", b"b", b"c", b"b"]


def test_who_waits_for_a_chunk_gets_what_the_loader_gets() -> None:
    cache = ChunkCache(100)
    _, first, mine = cache.take([b"a", b"b"])
    here, second, none = cache.take([b"b"])
    assert (here, none) == ({}, None)
    assert mine is not None
    assert first[b"b"] is second[b"b"] is mine
    cache.finish([b"a", b"b"], mine, OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        second[b"b"].result()
    _, _, again = cache.take([b"b"])
    assert again is not None
    cache.close()
    assert again.cancelled()


def test_a_reader_that_goes_on_finds_chunks_decoded(
    stored: tuple[Repository, Point], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, point = stored
    with repository.readers() as readers:
        ahead, of_readers = list[int](), readers.ahead

        def counted(identities: Sequence[bytes]) -> None:
            ahead.append(len(identities))
            of_readers(identities)

        monkeypatch.setattr(readers, "ahead", counted)
        disk = repository.reader(readers, point.disks[0])
        for at in (200 * CHUNK, 0, 100 * CHUNK):
            disk.pread(at, 4096)
        assert not ahead
        for at in range(0, 20 * CHUNK, CHUNK):
            assert disk.pread(at, CHUNK) == content[at : at + CHUNK]
        assert ahead
