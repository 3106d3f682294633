"""How much to ask for at once: sets of extents cut into requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.receiver.settings import WINDOW_BYTES
from hvpsbridge.units import MIB

# A request with digests makes the host read each touched chunk whole, however little of it travels.
# This bounds its time: half a second on a disk of 128 MB/s.
HASHED_BYTES = 64 * MIB
# 12 bytes each: 48 KiB a request, so that a pipeline's 50 MB inbound limit is a thousand requests away.
MAX_EXTENTS = 4096


def windows(
    extents: Iterable[Extent],
    grid: ChunkGrid,
    *,
    window_bytes: int | Callable[[], int] = WINDOW_BYTES,
    hashed_bytes: int = HASHED_BYTES,
    max_extents: int = MAX_EXTENTS,
) -> Iterator[tuple[Extent, ...]]:
    """Groups of extents, one per request, in order; lazily, so that a set of any size costs nothing.

    All bytes of one chunk are in one group, so that the chunk's digest and its bytes come together. A
    group holds at most ``window_bytes`` and ``max_extents`` unless a single chunk needs more.

    Args:
        extents: a sorted set.
        grid: the chunk grid.
        window_bytes: raw bytes of a group; asked for each group anew when it can be called.
        hashed_bytes: bytes of the whole chunks a group touches.
        max_extents: extents of a group.
    """
    group: list[Extent] = []
    grouped_bytes = 0
    touched_bytes = 0
    last_chunk = -1
    most = window_bytes if callable(window_bytes) else lambda: window_bytes
    for run in _runs(extents, grid, most):
        first = grid.number(run[0].offset)
        final = grid.number(run[-1].end - 1)
        length = sum(extent.length for extent in run)
        chunks_bytes = (final - max(first, last_chunk + 1) + 1) * grid.chunk_bytes
        full = (
            grouped_bytes + length > most()
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


def _runs(extents: Iterable[Extent], grid: ChunkGrid, most: Callable[[], int]) -> Iterator[list[Extent]]:
    """Extents gathered so that no chunk is in two runs; a long extent is cut at chunk boundaries.

    A run is either everything asked of one chunk, or a stretch of whole chunks.
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
                step = max(most() // grid.chunk_bytes, 1) * grid.chunk_bytes
                end = min(start + step, whole_end)
                yield [Extent(start, end - start)]
            else:
                end = min(boundary, extent.end)
                run.append(Extent(start, end - start))
                run_chunk = chunk
            start = end
    if run:
        yield run
