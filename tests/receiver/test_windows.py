"""Windows have every byte once and no chunk twice, and keep their limits."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.receiver.windows import windows
from hvpsbridge.units import KIB, MIB, TIB

GRID = ChunkGrid(64 * KIB)
SIZE = 8 * MIB + 5000

sets = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, MIB)), max_size=30).map(
    lambda pairs: normalise((Extent(*pair) for pair in pairs), SIZE)
)


@given(
    sets, st.sampled_from([64 * KIB, 200 * KIB, MIB]), st.integers(1, 8), st.sampled_from([128 * KIB, MIB])
)
def test_every_byte_is_in_one_window_and_every_chunk_too(
    extents: tuple[Extent, ...], window_bytes: int, max_extents: int, hashed_bytes: int
) -> None:
    groups = list(
        windows(extents, GRID, window_bytes=window_bytes, max_extents=max_extents, hashed_bytes=hashed_bytes)
    )
    assert normalise(itertools.chain(*groups), SIZE) == extents
    assert sum(total_bytes(group) for group in groups) == total_bytes(extents)
    chunks = [set(GRID.touched(group)) for group in groups]
    for earlier, later in itertools.pairwise(chunks):
        assert max(earlier) < min(later)
    for group, touched in zip(groups, chunks, strict=True):
        if len(touched) > 1:
            assert total_bytes(group) <= window_bytes
            assert len(group) <= max_extents or max_extents == 1
            assert len(touched) * GRID.chunk_bytes <= max(hashed_bytes, window_bytes)


def test_a_huge_extent_is_cut_as_it_is_asked_for_not_before() -> None:
    groups = windows([Extent(0, 64 * TIB)], GRID, window_bytes=4 * MIB)
    assert [total_bytes(group) for group in itertools.islice(groups, 3)] == [4 * MIB] * 3
