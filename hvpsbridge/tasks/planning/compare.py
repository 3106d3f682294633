"""Finds what differs between a stored disk and a frozen one, by digests taken on the host.

It is used when change tracking is lost, in doubt, or reports no changes; to audit chunks that were reported
unchanged; to prove that a point equals the frozen disk; and to check tracking that is distrusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from hvpsbridge.contract.readings import DigestPage
from hvpsbridge.errors import Damaged
from hvpsbridge.formats.extents import Extent, align, intersect, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.repository.disk import DiskWriter
from hvpsbridge.units import GIB, MIB

# How much of a disk is compared at a time: a quarter of a million chunks of 64 KiB, so that the worst case,
# in which every other chunk differs, takes about 10 MiB of memory.
REGION_BYTES = 16 * GIB
# Ranges closer together than this are hashed in one call, which costs less than a second call.
JOIN_BYTES = 64 * MIB


def regions(ranges: Iterable[Extent], region_bytes: int = REGION_BYTES) -> Iterator[Extent]:
    """The sorted ranges with small gaps closed, cut to at most ``region_bytes`` each."""
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
    """Where the two disks can differ: where the host's files hold data, or data is stored.

    Everything else is zero on both sides.

    Args:
        size_bytes: size of the disk.
        grid: the chunk grid; the ranges are whole chunks.
        allocation: where the host's files hold data; None if unknown, and then the whole disk can differ.
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
    """Whole chunks of ``region`` whose digest on the host differs from the stored one; a sorted set.

    A stored chunk whose id cannot be read counts as different.

    Args:
        digests: asks the host for the digests of an extent, given the chunk size; all of them, in order.
        region: whole chunks, or up to the end of the disk.
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
