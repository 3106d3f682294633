"""Pieces of any size become chunks, and a wrong patch is refused."""

from __future__ import annotations

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import decode_block
from hvpsbridge.receiver.assembly import PatchedChunks, WholeChunks
from hvpsbridge.receiver.stream import BlockStream
from tests.receiver.sources import answer

GRID = ChunkGrid(64 * 1024)
SIZE = 10 * GRID.chunk_bytes + 1536


class Chunks:
    """Chunks in a dict, with a base image."""

    def __init__(self, base: bytes = bytes(SIZE)) -> None:
        self.base = base
        self.put_chunks: dict[int, bytes | None] = {}
        self._lock = threading.Lock()

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        with self._lock:
            assert number not in self.put_chunks, "a chunk was put twice"
            self.put_chunks[number] = None if data is None else bytes(data)

    def base_chunk(self, number: int) -> bytes | None:
        extent = GRID.extent(number, SIZE)
        return self.base[extent.offset : extent.end]

    def image(self) -> bytes:
        image = bytearray(self.base)
        for number, data in self.put_chunks.items():
            extent = GRID.extent(number, SIZE)
            image[extent.offset : extent.end] = bytes(extent.length) if data is None else data
        return bytes(image)


def frozen_image(seed: int) -> bytes:
    """Some data, some zero chunks, and some chunks that are partly zero."""
    generator = random.Random(seed)
    image = bytearray(SIZE)
    for _ in range(6):
        offset = generator.randrange(SIZE)
        length = min(generator.randrange(1, 150_000), SIZE - offset)
        image[offset : offset + length] = generator.randbytes(length)
    return bytes(image)


@given(st.integers(0, 1000), st.booleans())
def test_a_whole_disk_arrives_whatever_the_cut(seed: int, zeros_known: bool) -> None:
    image = frozen_image(seed)
    chunks = Chunks()
    sink = WholeChunks(chunks, GRID, SIZE, zeros_known=zeros_known)
    stream = BlockStream(SIZE, GRID, block_bytes=100_000)
    for block in answer(image, stream.request([Extent(0, SIZE)]), 0):
        sink.deliver(stream.feed(block))
    assert chunks.image() == image
    assert sink.unfinished == 0
    if not zeros_known:
        assert len(chunks.put_chunks) == GRID.count(SIZE)


changes = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 100_000)), min_size=1, max_size=8)


def changed(base: bytes, pairs: list[tuple[int, int]], seed: int) -> tuple[bytes, tuple[Extent, ...]]:
    extents = normalise((Extent(*pair) for pair in pairs), SIZE)
    image = bytearray(base)
    generator = random.Random(seed)
    for extent in extents:
        image[extent.offset : extent.end] = (
            bytes(extent.length) if generator.random() < 0.3 else generator.randbytes(extent.length)
        )
    return bytes(image), extents


def patch(chunks: Chunks, image: bytes, extents: tuple[Extent, ...]) -> PatchedChunks:
    sink = PatchedChunks(chunks, GRID, SIZE)
    for block in answer(
        image,
        BlockStream(SIZE, GRID, block_bytes=100_000, want_chunk_digests=True).request(extents),
        0,
    ):
        sink.deliver(decode_block(block))
    return sink


@given(changes, st.integers(0, 1000))
def test_base_and_changes_make_the_frozen_chunk(pairs: list[tuple[int, int]], seed: int) -> None:
    base = frozen_image(seed)
    image, extents = changed(base, pairs, seed)
    chunks = Chunks(base)
    sink = patch(chunks, image, extents)
    assert sink.refused == ()
    assert sink.unfinished == 0
    assert chunks.image() == image
    assert set(chunks.put_chunks) == set(GRID.touched(extents))


@given(changes, st.integers(0, 1000), st.integers(0, SIZE - 1))
def test_a_wrong_base_or_an_untold_change_is_refused_never_stored(
    pairs: list[tuple[int, int]], seed: int, position: int
) -> None:
    base = frozen_image(seed)
    image, extents = changed(base, pairs, seed)
    wrong = bytearray(base)
    wrong[position] ^= 0x40
    chunks = Chunks(bytes(wrong))
    sink = patch(chunks, image, extents)
    told = any(extent.offset <= position < extent.end for extent in extents)
    touched = GRID.number(position) in set(GRID.touched(extents))
    assert sink.refused == ((GRID.number(position),) if touched and not told else ())
    for number, data in chunks.put_chunks.items():
        extent = GRID.extent(number, SIZE)
        assert (data or bytes(extent.length)) == image[extent.offset : extent.end]


def test_a_base_chunk_that_cannot_be_had_is_asked_for_whole() -> None:
    base = frozen_image(3)
    chunks = Chunks(base)
    chunks.base_chunk = lambda number: None  # type: ignore[method-assign]  # a store with a damaged pack
    sink = patch(chunks, base, (Extent(10, 5), Extent(GRID.chunk_bytes, GRID.chunk_bytes)))
    assert sink.refused == (0,)
    assert set(chunks.put_chunks) == {1}
