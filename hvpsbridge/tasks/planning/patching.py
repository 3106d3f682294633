"""Decides whether to read only the changed extents of a chunk, or all of it. Pure.

A chunk can be put together from its base and what changed, at the cost of reading the base, or be read
whole, at the cost of sending the unchanged bytes, too. A local repository gives the base faster than a host
could send these bytes; from a remote one, every base chunk is a request with a round trip that transfers
about as many bytes as are saved. In both cases the host's digest of the whole frozen chunk tells whether the
result is right, so a decision here cannot make a point wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent, split
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.units import MIB

# Cost of an extent by itself: its entry in the request and in the block.
EXTENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class BaseCost:
    """Cost of reading a base chunk, in bytes that a host could have sent in that time.

    Attributes:
        request_bytes: of the request.
        part: of each byte of the chunk.
    """

    request_bytes: int = 0
    part: float = 0.0

    def of(self, length: int) -> float:
        """The cost of a chunk of ``length`` bytes."""
        return self.request_bytes + self.part * length


# A host sends 65 MB/s (docs/performance.md). Reading and unpacking chunks locally is about 8 times as fast.
LOCAL = BaseCost(part=1 / 8)
# A request to S3 takes about 20 ms, in which a host sends 1 MiB; then the chunk crosses a network as well.
REMOTE = BaseCost(request_bytes=1 * MIB, part=1.0)
# Zeros are not read at all.
FREE = BaseCost()


def patch_pays(changed: Iterable[Extent], length: int, cost: BaseCost) -> bool:
    """Whether reading only ``changed`` of a chunk of ``length`` bytes is cheaper than reading all of it."""
    patch = 0
    for extent in changed:
        patch += extent.length + EXTENT_BYTES
    return patch + cost.of(length) < length + EXTENT_BYTES


def owed_extents(
    changes: Iterable[Extent], grid: ChunkGrid, size_bytes: int, cost: Callable[[int], BaseCost]
) -> tuple[Extent, ...]:
    """What to read: of each chunk the changed extents, or all of it where that is cheaper.

    Args:
        changes: a sorted set.
        grid: the chunk grid.
        size_bytes: size of the disk.
        cost: of the base of a chunk, by number; not called for chunks that changed as a whole.

    Returns:
        A sorted set that contains ``changes`` and touches no other chunks.
    """
    owed: list[Extent] = []
    for number, pieces in _by_chunk(changes, grid):
        chunk = grid.extent(number, size_bytes)
        if pieces[0] != chunk and not patch_pays(pieces, chunk.length, cost(number)):
            pieces = [chunk]
        for piece in pieces:
            if owed and owed[-1].end == piece.offset:
                piece = Extent(owed[-1].offset, owed.pop().length + piece.length)
            owed.append(piece)
    return tuple(owed)


def _by_chunk(changes: Iterable[Extent], grid: ChunkGrid) -> Iterator[tuple[int, list[Extent]]]:
    pieces: list[Extent] = []
    for piece in split(changes, grid.chunk_bytes):
        if pieces and grid.number(pieces[0].offset) != grid.number(piece.offset):
            yield grid.number(pieces[0].offset), pieces
            pieces = []
        pieces.append(piece)
    if pieces:
        yield grid.number(pieces[0].offset), pieces
