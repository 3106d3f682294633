"""What differs between a stored disk and a frozen one, by digests taken on the host.

One operation with five uses: tracking lost or doubted, an empty answer, the audit of chunks that were
reported unchanged, the proof that a point equals the frozen disk, and the evidence a distrusted tracking
has to give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from hvpsbridge.contract.results import DigestPage
from hvpsbridge.errors import Damaged
from hvpsbridge.formats.extents import Extent, align, intersect, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.repository.writer import DiskWriter
from hvpsbridge.units import GIB, MIB

# Differences are gathered for so much of a disk at a time: at 64 KiB a chunk a quarter of a million
# chunks, so that the worst case (every other chunk differs) needs some 10 MiB.
REGION_BYTES = 16 * GIB
# Ranges nearer to each other than this are asked for in one call; a call costs more than these digests.
JOIN_BYTES = 64 * MIB


def regions(ranges: Iterable[Extent], region_bytes: int = REGION_BYTES) -> Iterator[Extent]:
    """The sorted ranges with small gaps closed, cut so that none is longer than ``region_bytes``."""
    current: Extent | None = None
    for extent in ranges:
        if current is not None and extent.offset - current.end < JOIN_BYTES:
            current = Extent(current.offset, extent.end - current.offset)
            continue
        if current is not None:
            yield from _cut(current, region_bytes)
        current = extent
    if current is not None:
        yield from _cut(current, region_bytes)


def _cut(extent: Extent, region_bytes: int) -> Iterator[Extent]:
    for start in range(extent.offset, extent.end, region_bytes):
        yield Extent(start, min(region_bytes, extent.end - start))


def ranges_to_compare(
    size_bytes: int,
    grid: ChunkGrid,
    allocation: Sequence[Extent] | None,
    stored: Iterable[Extent],
    within: Extent | None = None,
) -> tuple[Extent, ...]:
    """Where two versions of a disk can differ: what the host has data for, or what is stored.

    All else is zero on both sides. Without an ``allocation`` that is the whole disk.

    Args:
        size_bytes: of the disk.
        grid: the chunk grid; the ranges are whole chunks.
        allocation: what the host's files hold data for, None when unknown.
        stored: extents of the stored disk that are not zero.
        within: only this part of the disk, in whole chunks.
    """
    whole = (within or Extent(0, size_bytes),)
    if allocation is None:
        return normalise(whole, size_bytes)
    both = align([*allocation, *stored], grid.chunk_bytes, size_bytes)
    return intersect(both, whole)


def differing(
    digests: Callable[[int, Extent], Iterator[DigestPage]],
    region: Extent,
    stored: DiskWriter,
    grid: ChunkGrid,
    *,
    check: Callable[[], None],
    on_page: Callable[[int, int], None],
) -> tuple[Extent, ...]:
    """Whole chunks of ``region`` whose digest on the host is not the stored one, as a sorted set.

    A stored chunk whose id cannot be read counts as different.

    Args:
        digests: asks the host for an extent's digests, given the chunk size; they come in order, all.
        region: whole chunks, or up to the disk's end.
        stored: what to compare with.
        grid: the chunk grid.
        check: called for each page; may raise.
        on_page: called for each page with the bytes compared and the bytes of digests received.
    """
    found: list[Extent] = []
    for page in digests(grid.chunk_bytes, region):
        check()
        count = len(page.digests) // DIGEST_BYTES
        for index in range(count):
            number = page.first_chunk + index
            digest = page.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            if not _same(stored, number, digest):
                extent = grid.extent(number, stored.size_bytes)
                if found and found[-1].end == extent.offset:
                    found[-1] = Extent(found[-1].offset, found[-1].length + extent.length)
                else:
                    found.append(extent)
        on_page(count * grid.chunk_bytes, len(page.digests))
    return tuple(found)


def _same(stored: DiskWriter, number: int, digest: bytes) -> bool:
    try:
        return stored.matches(number, digest)
    except Damaged:
        return False
