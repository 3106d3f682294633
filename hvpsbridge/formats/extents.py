"""Extents: half-open byte ranges of a disk, and the arithmetic on sorted sets of them.

All numbers are integers. A set of extents is a sequence sorted by offset, whose members neither overlap nor
touch; :func:`normalise` makes one from any answer of a host.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_PAIR = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """Bytes ``offset`` to ``offset + length`` (exclusive) of a disk. Both are in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """First byte after the extent."""
        return self.offset + self.length


def normalise(extents: Iterable[Extent], size_bytes: int) -> tuple[Extent, ...]:
    """The same bytes as a set: sorted, clipped to ``[0, size_bytes)``, overlaps and neighbours joined.

    Nothing guarantees the order of a change query's answer, or that its last range ends within the disk, so
    neither is assumed (docs/hyperv-facts.md#changed-ranges).
    """
    clipped = ((max(extent.offset, 0), min(extent.end, size_bytes)) for extent in sorted(extents))
    return tuple(joined(Extent(start, end - start) for start, end in clipped if start < end))


def joined(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The same bytes as a set, from extents in ascending order of offset; read as the result is."""
    current: Extent | None = None
    for extent in extents:
        if current is None:
            current = extent
        elif extent.offset <= current.end:
            current = Extent(current.offset, max(current.end, extent.end) - current.offset)
        else:
            yield current
            current = extent
    if current is not None:
        yield current


def align(extents: Iterable[Extent], unit_bytes: int, size_bytes: int) -> tuple[Extent, ...]:
    """The set that covers ``extents``, with every edge moved outward to a multiple of ``unit_bytes``.

    The end of the disk is not moved; it is a multiple of the logical sector size anyway.
    """
    return normalise(
        (
            Extent(start, -(-extent.end // unit_bytes) * unit_bytes - start)
            for extent in normalise(extents, size_bytes)
            for start in (extent.offset // unit_bytes * unit_bytes,)
        ),
        size_bytes,
    )


def total_bytes(extents: Iterable[Extent]) -> int:
    """Sum of the lengths."""
    return sum(extent.length for extent in extents)


def subtract(extents: Sequence[Extent], removed: Sequence[Extent]) -> tuple[Extent, ...]:
    """Bytes of the set ``extents`` that are not in the set ``removed``. Takes linear time."""
    kept: list[Extent] = []
    index = 0
    for extent in extents:
        start = extent.offset
        while index < len(removed) and removed[index].end <= start:
            index += 1
        probe = index
        while probe < len(removed) and removed[probe].offset < extent.end:
            if removed[probe].offset > start:
                kept.append(Extent(start, removed[probe].offset - start))
            start = max(start, removed[probe].end)
            probe += 1
        if start < extent.end:
            kept.append(Extent(start, extent.end - start))
    return tuple(kept)


def intersect(left: Sequence[Extent], right: Sequence[Extent]) -> tuple[Extent, ...]:
    """Bytes that are in both sets. Takes linear time."""
    common: list[Extent] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i].offset, right[j].offset), min(left[i].end, right[j].end)
        if start < end:
            common.append(Extent(start, end - start))
        if left[i].end < right[j].end:
            i += 1
        else:
            j += 1
    return tuple(common)


def split(extents: Iterable[Extent], unit_bytes: int) -> Iterator[Extent]:
    """The same bytes in order, cut at every multiple of ``unit_bytes``."""
    for extent in extents:
        start = extent.offset
        while start < extent.end:
            end = min(extent.end, (start // unit_bytes + 1) * unit_bytes)
            yield Extent(start, end - start)
            start = end


def pack_extents(extents: Iterable[Extent]) -> bytes:
    """Extents as little-endian pairs of u64 (offset, length), as scripts send and take them."""
    return b"".join(_PAIR.pack(extent.offset, extent.length) for extent in extents)


def unpack_extents(data: bytes | bytearray | memoryview) -> tuple[Extent, ...]:
    """Extents from the bytes of :func:`pack_extents`, in their order.

    Raises:
        ValueError: the length is not a multiple of 16.
    """
    if len(data) % _PAIR.size:
        raise ValueError(f"{len(data)} bytes are not a whole number of extents of {_PAIR.size} bytes")
    return tuple(Extent(offset, length) for offset, length in _PAIR.iter_unpack(data))
