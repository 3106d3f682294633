"""The block stream detects every fault of a reply, and knows what is still owed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise, subtract, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import BlockError, ChunkDigest, encode_block
from hvpsbridge.receiver.stream import BlockStream, StreamBroken
from tests.receiver.sources import answer

GRID = ChunkGrid(64 * 1024)
IMAGE = random.Random(7).randbytes(300_000) + bytes(200_000) + random.Random(8).randbytes(11_000)
SIZE = len(IMAGE)

extents_of_image = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(1, 90_000)), min_size=1, max_size=12
).map(lambda pairs: normalise((Extent(*pair) for pair in pairs), SIZE))


def stream(**options: bool) -> BlockStream:
    return BlockStream(SIZE, GRID, block_bytes=64 * 1024, **options)


def exchange(asked: tuple[Extent, ...]) -> tuple[BlockStream, list[bytes]]:
    talking = stream(want_chunk_digests=True)
    return talking, answer(IMAGE, talking.request(asked), 0)


@given(extents_of_image)
def test_what_was_asked_arrives_byte_for_byte_and_nothing_stays_owed(asked: tuple[Extent, ...]) -> None:
    talking, blocks = exchange(asked)
    assert talking.owed == asked
    seen = bytearray(SIZE)
    count = 0
    for data in blocks:
        for piece in talking.feed(data).pieces:
            count += piece.extent.length
            if piece.data is not None:
                seen[piece.extent.offset : piece.extent.end] = piece.data
    assert talking.owed == ()
    assert count == total_bytes(asked)
    for extent in asked:
        assert seen[extent.offset : extent.end] == IMAGE[extent.offset : extent.end]


@given(extents_of_image, st.data())
def test_owed_is_exactly_what_no_accepted_block_carried(
    asked: tuple[Extent, ...], data: st.DataObject
) -> None:
    talking, blocks = exchange(asked)
    cut = data.draw(st.integers(0, len(blocks)))
    arrived: list[Extent] = []
    for block in blocks[:cut]:
        arrived.extend(piece.extent for piece in talking.feed(block).pieces)
    assert talking.owed == subtract(asked, normalise(arrived, SIZE))


@given(extents_of_image, st.sampled_from(["lost", "doubled", "swapped", "cut", "altered"]), st.data())
def test_a_damaged_reply_is_refused_before_any_wrong_byte_is_counted(
    asked: tuple[Extent, ...], fault: str, data: st.DataObject
) -> None:
    talking, blocks = exchange(asked)
    index = data.draw(st.integers(0, len(blocks) - 1))
    match fault:
        case "lost":
            arriving = blocks[:index] + blocks[index + 1 :]
        case "doubled":
            arriving = blocks[: index + 1] + blocks[index:]
        case "swapped":
            arriving = [*blocks[:index], *blocks[index : index + 2][::-1], *blocks[index + 2 :]]
        case "cut":
            length = data.draw(st.integers(0, len(blocks[index]) - 1))
            arriving = [*blocks[:index], blocks[index][:length], *blocks[index + 1 :]]
        case _:
            position = data.draw(st.integers(0, len(blocks[index]) - 1))
            changed = bytearray(blocks[index])
            changed[position] ^= 1 << data.draw(st.integers(0, 7))
            arriving = [*blocks[:index], bytes(changed), *blocks[index + 1 :]]
    accepted: list[Extent] = []
    broken = False
    for block in arriving:
        try:
            accepted.extend(piece.extent for piece in talking.feed(block).pieces)
        except BlockError:
            broken = True
            break
    assert broken or arriving == blocks or talking.owed, "damage passed without a trace"
    assert talking.owed == subtract(asked, normalise(accepted, SIZE))


def test_blocks_of_an_older_request_are_refused_after_its_end() -> None:
    talking = stream()
    blocks = answer(IMAGE, talking.request([Extent(0, 1000)]), 0)
    talking.feed(blocks[0])
    with pytest.raises(StreamBroken, match="answers no request"):
        talking.feed(encode_block(0, 1, [(Extent(0, 10), bytes(10))], last=True))


@pytest.mark.parametrize(
    ("pieces", "last", "complaint"),
    [
        ([(Extent(8, 92), b"x" * 92)], True, "instead of 0"),
        ([(Extent(0, 101), b"x" * 101)], True, "does not fit"),
        ([(Extent(0, 100), b"x" * 100), (Extent(100, 5), b"y" * 5)], True, "more than request"),
        ([(Extent(0, 50), b"x" * 50)], True, "contradicts its bytes"),
        ([(Extent(0, 100), b"x" * 100)], False, "contradicts its bytes"),
    ],
)
def test_bytes_that_are_not_owed_are_refused(
    pieces: list[tuple[Extent, bytes]], last: bool, complaint: str
) -> None:
    talking = stream()
    talking.request([Extent(0, 100)])
    with pytest.raises(StreamBroken, match=complaint):
        talking.feed(encode_block(0, 0, pieces, last=last))
    assert talking.owed == (Extent(0, 100),)


def test_a_block_that_brings_nothing_is_refused() -> None:
    talking = stream()
    talking.request([Extent(0, 100)])
    with pytest.raises(StreamBroken, match="empty"):
        talking.feed(encode_block(0, 0, [], last=False))


def test_a_block_larger_than_requested_is_refused() -> None:
    talking = stream()
    talking.request([Extent(0, 70_000)])
    with pytest.raises(BlockError, match="at most 65536 were requested"):
        talking.feed(encode_block(0, 0, [(Extent(0, 70_000), b"x" * 70_000)], last=True))


def test_zeros_of_any_number_fit_into_a_block() -> None:
    talking = stream()
    talking.request([Extent(0, 300_000)])
    assert talking.feed(encode_block(0, 0, [(Extent(0, 300_000), None)], last=True)).raw_bytes == 300_000


@pytest.mark.parametrize(
    ("length", "last", "digests", "complaint"),
    [
        (1000, True, [], "without 1 digests"),
        (500, False, [0], "too early"),
        (1000, True, [0, 0], "not requested"),
        (1000, True, [1], "not requested"),
    ],
)
def test_the_digest_of_a_chunk_comes_with_its_last_bytes(
    length: int, last: bool, digests: list[int], complaint: str
) -> None:
    talking = stream(want_chunk_digests=True)
    talking.request([Extent(0, 1000)])
    entries = [ChunkDigest(number, bytes(32)) for number in digests]
    block = encode_block(0, 0, [(Extent(0, length), b"x" * length)], last=last, chunk_digests=entries)
    with pytest.raises(StreamBroken, match=complaint):
        talking.feed(block)


@pytest.mark.parametrize("extents", [[], [Extent(0, 0)], [Extent(SIZE - 1, 2)], [Extent(-1, 2)]])
def test_nothing_outside_the_disk_is_ever_asked(extents: list[Extent]) -> None:
    with pytest.raises(ValueError, match=r"."):
        stream().request(extents)
