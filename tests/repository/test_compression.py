"""Decompression returns what was compressed, never more than expected, and detects changed bits."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.envelope import Codec
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository.compression import compress, expand

TEXT = b"text " * 10000


@given(st.binary(max_size=5000), st.sampled_from([1, 3, 19]))
def test_bytes_come_back(data: bytes, level: int) -> None:
    codec, packed = compress(data, level)
    assert expand(codec, packed, len(data)) == data
    assert len(packed) <= len(data)


def test_what_does_not_compress_is_kept_raw() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert compress(noise, 3) == (Codec.RAW, noise)
    assert compress(b"", 3) == (Codec.RAW, b"")


def test_no_more_is_made_than_was_asked_for() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * 1024 * 1024))
    with pytest.raises(Malformed):
        expand(Codec.ZSTD, bomb, 65536)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(Malformed):
        expand(Codec.ZSTD, unsized, 100)


@pytest.mark.parametrize("length", [0, 99, 101])
def test_another_length_than_stated_is_refused(length: int) -> None:
    for codec, packed in (compress(b"a" * 100, 3), (Codec.RAW, b"a" * 100)):
        with pytest.raises(Malformed):
            expand(codec, packed, length)


def test_no_flipped_bit_of_a_frame_goes_unseen() -> None:
    codec, packed = compress(TEXT, 3)
    assert codec is Codec.ZSTD
    for bit in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = expand(codec, bytes(changed), len(TEXT))
        except Malformed:
            continue
        assert found != TEXT, f"bit {bit}"
