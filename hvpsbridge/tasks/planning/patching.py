"""Whether the changed extents of a chunk travel, or all of it: what a base chunk costs to read. Pure.

A chunk can be made of its base and what changed, which costs a read of the base, or be asked for whole, which
costs the bytes that did not change on the wire. From a local repository the base is had sooner than its bytes
could have come from a host; from a remote one every base chunk is a request with its round trip, and brings
about as many bytes as are saved. Either way the host's digest of the whole frozen chunk decides whether what
was made is right; nothing here can make a point wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent, split
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.units import MIB

# What an extent costs by itself: its place in the request and in the block.
EXTENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class BaseCost:
    """What reading a base chunk costs, in bytes that a host could have sent in that time.

    Attributes:
        request_bytes: for asking, whatever the length.
        part: for each byte of the chunk.
    """

    request_bytes: int = 0
    part: float = 0.0

    def of(self, length: int) -> float:
        """The cost of a chunk of ``length`` bytes."""
        return self.request_bytes + self.part * length


# A host gives 65 MB/s (reference, transport); a local disk read, opened and unpacked some eight times that.
LOCAL = BaseCost(part=1 / 8)
# A request to S3 takes some 20 ms, in which a host gives a MiB, and then come the bytes over a network, too.
REMOTE = BaseCost(request_bytes=1 * MIB, part=1.0)
# Zeros are not read at all.
FREE = BaseCost()


def patch_pays(changed: Iterable[Extent], length: int, cost: BaseCost) -> bool:
    """Whether sending only ``changed`` of a chunk of ``length`` bytes is cheaper than sending it whole."""
    patch = 0
    for extent in changed:
        patch += extent.length + EXTENT_BYTES
    return patch + cost.of(length) < length + EXTENT_BYTES


def owed_extents(
    changes: Iterable[Extent], grid: ChunkGrid, size_bytes: int, cost: Callable[[int], BaseCost]
) -> tuple[Extent, ...]:
    """What is to be asked for: of each chunk the changed extents, or all of it where that is cheaper.

    Args:
        changes: a sorted set.
        grid: the chunk grid.
        size_bytes: of the disk.
        cost: of a chunk's base, by the chunk's number; not asked for chunks that changed throughout.

    Returns:
        A sorted set that holds all of ``changes``; chunks they do not touch are left alone.
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
