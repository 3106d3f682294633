"""Blocks and requests are decoded as they were encoded; anything altered is rejected."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import BlockError, ChunkDigest, Request, decode_block, encode_block

pieces = st.lists(
    st.tuples(
        st.integers(0, 2**63), st.one_of(st.binary(min_size=1, max_size=200), st.integers(1, 2**31 - 1))
    ),
    max_size=6,
)


def build(raw: list[tuple[int, bytes | int]]) -> list[tuple[Extent, bytes | None]]:
    return [
        (
            Extent(offset, data if isinstance(data, int) else len(data)),
            None if isinstance(data, int) else data,
        )
        for offset, data in raw
    ]


@given(pieces, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_a_block_comes_back_as_it_was(
    raw: list[tuple[int, bytes | int]], deflate: bool, last: bool, number: int, digests: int
) -> None:
    sent = build(raw)
    chunk_digests = tuple(ChunkDigest(n * 7, hashlib.sha256(bytes([n])).digest()) for n in range(digests))
    data = encode_block(number, 3, sent, last=last, deflate=deflate, chunk_digests=chunk_digests)
    block = decode_block(data)
    assert (block.request, block.number, block.last, block.wire_bytes) == (number, 3, last, len(data))
    assert [(p.extent, None if p.data is None else bytes(p.data)) for p in block.pieces] == sent
    assert block.chunk_digests == chunk_digests


@given(st.data())
def test_any_single_byte_altered_or_cut_is_refused(data: st.DataObject) -> None:
    deflate = data.draw(st.booleans())
    digest = ChunkDigest(5, bytes(32))
    good = encode_block(
        1,
        2,
        [(Extent(0, 40), b"ab" * 20), (Extent(4096, 512), None)],
        last=True,
        deflate=deflate,
        chunk_digests=[digest],
    )
    at = data.draw(st.integers(0, len(good) - 1))
    altered = bytearray(good)
    altered[at] ^= data.draw(st.integers(1, 255))
    try:
        block = decode_block(altered)
    except BlockError:
        pass
    else:
        # Only bits that deflate ignores (padding after its last symbol) may differ without being detected.
        assert deflate
        assert block.pieces == decode_block(good).pieces
        assert block.chunk_digests == (digest,)
    with pytest.raises(BlockError):
        decode_block(good[:at])
    with pytest.raises(BlockError):
        decode_block(good + b"\0")


@pytest.mark.parametrize("deflate", [False, True])
def test_nothing_larger_than_requested_is_inflated(deflate: bool) -> None:
    data = encode_block(0, 0, [(Extent(0, 70_000), bytes(70_000))], last=True, deflate=deflate)
    assert decode_block(data, 70_000).raw_bytes == 70_000
    with pytest.raises(BlockError, match="at most 65536 were requested"):
        decode_block(data, 65536)


def test_the_size_that_a_header_states_is_not_believed() -> None:
    data = bytearray(encode_block(0, 0, [(Extent(0, 9000), bytes(9000))], last=True, deflate=True))
    data[16:20] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(BlockError, match="4294967295 raw bytes"):
        decode_block(data)


def test_a_block_has_no_more_entries_than_the_reader_sends() -> None:
    pieces = [(Extent(2 * at, 1), None) for at in range(16385)]
    with pytest.raises(BlockError, match="too many"):
        decode_block(encode_block(0, 0, pieces, last=True))


@given(
    st.lists(st.builds(Extent, st.integers(0, 2**64 - 1), st.integers(1, 2**31 - 1)), max_size=9),
    st.booleans(),
    st.booleans(),
)
def test_a_request_comes_back_as_it_was(extents: list[Extent], digests: bool, deflate: bool) -> None:
    request = Request(
        number=9,
        extents=tuple(extents),
        chunk_bytes=65536,
        block_bytes=1 << 20,
        want_chunk_digests=digests,
        allow_deflate=deflate,
    )
    assert Request.unpack(request.pack()) == request


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HQ",
        b"XX" + bytes(18),
        Request(number=0, extents=(Extent(0, 1),), chunk_bytes=1, block_bytes=1).pack() + b"x",
    ],
)
def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    with pytest.raises(BlockError):
        Request.unpack(data)
