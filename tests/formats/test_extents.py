"""Extent sets behave as sets of bytes: every operation is compared with Python sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import (
    Extent,
    align,
    intersect,
    normalise,
    pack_extents,
    split,
    subtract,
    total_bytes,
    unpack_extents,
)

SIZE = 60
extents = st.lists(st.builds(Extent, st.integers(0, 70), st.integers(0, 20)), max_size=12)


def bytes_of(items: object) -> set[int]:
    return {n for extent in items for n in range(extent.offset, extent.end)}  # type: ignore[attr-defined]


def is_a_set(items: tuple[Extent, ...]) -> bool:
    return all(a.end < b.offset for a, b in pairwise(items)) and all(e.length for e in items)


@given(extents)
def test_normalise_keeps_the_bytes_inside_the_disk_and_makes_a_set(raw: list[Extent]) -> None:
    result = normalise(raw, SIZE)
    assert is_a_set(result)
    assert bytes_of(result) == {n for n in bytes_of(raw) if n < SIZE}
    assert total_bytes(result) == len(bytes_of(result))


@given(extents, st.integers(1, 16))
def test_align_covers_every_byte_and_every_edge_is_aligned_or_the_end(raw: list[Extent], unit: int) -> None:
    result = align(raw, unit, SIZE)
    wanted = bytes_of(normalise(raw, SIZE))
    assert wanted <= bytes_of(result)
    assert all(e.offset % unit == 0 and (e.end % unit == 0 or e.end == SIZE) for e in result)
    assert {n // unit for n in wanted} == {n // unit for n in bytes_of(result)}


@given(extents, extents)
def test_subtract_and_intersect_are_those_of_sets(left_raw: list[Extent], right_raw: list[Extent]) -> None:
    left, right = normalise(left_raw, SIZE), normalise(right_raw, SIZE)
    assert bytes_of(subtract(left, right)) == bytes_of(left) - bytes_of(right)
    assert bytes_of(intersect(left, right)) == bytes_of(left) & bytes_of(right)
    assert total_bytes(subtract(left, right)) + total_bytes(intersect(left, right)) == total_bytes(left)


@given(extents, st.integers(1, 16))
def test_split_keeps_the_bytes_in_order_and_never_crosses_a_unit(raw: list[Extent], unit: int) -> None:
    whole = normalise(raw, SIZE)
    parts = list(split(whole, unit))
    assert [n for e in parts for n in range(e.offset, e.end)] == sorted(bytes_of(whole))
    assert all(e.offset // unit == (e.end - 1) // unit for e in parts)


@given(st.lists(st.builds(Extent, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=5))
def test_packing_keeps_every_pair_in_order(items: list[Extent]) -> None:
    assert unpack_extents(pack_extents(items)) == tuple(items)
