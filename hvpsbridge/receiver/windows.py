"""Cuts sets of extents into requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.receiver.settings import WINDOW_BYTES
from hvpsbridge.units import MIB

# With digests the host reads each touched chunk whole, however little of it is sent. This bounds the time of
# a request: half a second on a disk of 128 MB/s.
HASHED_BYTES = 64 * MIB
# 12 bytes each, 48 KiB per request: a thousand requests fit into the 50 MB that a pipeline may receive.
MAX_EXTENTS = 4096


def windows(
    extents: Iterable[Extent],
    grid: ChunkGrid,
    *,
    window_bytes: int | Callable[[], int] = WINDOW_BYTES,
    hashed_bytes: int = HASHED_BYTES,
    max_extents: int = MAX_EXTENTS,
) -> Iterator[tuple[Extent, ...]]:
    """Groups of extents in order, one per request, produced lazily.

    All bytes of a chunk are in one group, so that they come together with its digest. A group has at most
    ``window_bytes`` and ``max_extents`` unless a single chunk has more.

    Args:
        extents: a sorted set.
        grid: the chunk grid.
        window_bytes: raw bytes of a group, or a function that is called for each group.
        hashed_bytes: bytes of the whole chunks that a group touches.
        max_extents: extents of a group.
    """
    group: list[Extent] = []
    grouped_bytes = 0
    touched_bytes = 0
    last_chunk = -1
    limit = window_bytes if callable(window_bytes) else lambda: window_bytes
    for run in _runs(extents, grid, limit):
        first = grid.number(run[0].offset)
        final = grid.number(run[-1].end - 1)
        length = sum(extent.length for extent in run)
        chunks_bytes = (final - max(first, last_chunk + 1) + 1) * grid.chunk_bytes
        full = (
            grouped_bytes + length > limit()
            or touched_bytes + chunks_bytes > hashed_bytes
            or len(group) + len(run) > max_extents
        )
        if group and full:
            yield tuple(group)
            group, grouped_bytes, touched_bytes = [], 0, 0
        group.extend(run)
        grouped_bytes += length
        touched_bytes += chunks_bytes
        last_chunk = final
    if group:
        yield tuple(group)


def _runs(extents: Iterable[Extent], grid: ChunkGrid, limit: Callable[[], int]) -> Iterator[list[Extent]]:
    """Runs of extents such that no chunk is in two runs; long extents are cut at chunk boundaries.

    A run is either everything wanted of one chunk, or a sequence of whole chunks.
    """
    run: list[Extent] = []
    run_chunk = -1
    for extent in extents:
        start = extent.offset
        while start < extent.end:
            chunk = grid.number(start)
            boundary = (chunk + 1) * grid.chunk_bytes
            whole_end = extent.end // grid.chunk_bytes * grid.chunk_bytes
            if run and chunk != run_chunk:
                yield run
                run = []
            if not run and start == boundary - grid.chunk_bytes and whole_end > start:
                step = max(limit() // grid.chunk_bytes, 1) * grid.chunk_bytes
                end = min(start + step, whole_end)
                yield [Extent(start, end - start)]
            else:
                end = min(boundary, extent.end)
                run.append(Extent(start, end - start))
                run_chunk = chunk
            start = end
    if run:
        yield run
