"""The arithmetic of the grid, compared with counting."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.units import KIB, MIB

GRID = ChunkGrid(64 * KIB)


@pytest.mark.parametrize("size", [0, 1, 32 * KIB, 96 * KIB, 2 * MIB, -64 * KIB])
def test_a_grid_outside_the_allowed_powers_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ChunkGrid(size)


@given(st.integers(1, 8 * MIB))
def test_chunks_tile_the_disk(size: int) -> None:
    count = GRID.count(size)
    pieces = [GRID.extent(n, size) for n in range(count)]
    assert pieces[0].offset == 0
    assert pieces[-1].end == size
    assert all(a.end == b.offset for a, b in pairwise(pieces))
    with pytest.raises(IndexError):
        GRID.extent(count, size)


@given(st.lists(st.builds(Extent, st.integers(0, 4 * MIB), st.integers(0, MIB)), max_size=8))
def test_touched_names_each_chunk_with_a_byte_in_the_set_once_ascending(raw: list[Extent]) -> None:
    extents = normalise(raw, 4 * MIB)
    touched = list(GRID.touched(extents))
    assert touched == sorted(set(touched))
    wanted = {
        n for e in extents for n in range(e.offset // GRID.chunk_bytes, (e.end - 1) // GRID.chunk_bytes + 1)
    }
    assert set(touched) == wanted
