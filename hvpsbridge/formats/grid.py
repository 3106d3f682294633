"""The chunk grid: how disks are cut into chunks. A repository has one, which never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent
from hvpsbridge.units import KIB, MIB

MIN_CHUNK_BYTES = 64 * KIB
MAX_CHUNK_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """Arithmetic on chunks. Chunk ``n`` begins at byte ``n * chunk_bytes``; the last one ends with the disk.

    Raises:
        ValueError: ``chunk_bytes`` is not a power of two from 64 KiB to 1 MiB.
    """

    chunk_bytes: int

    def __post_init__(self) -> None:
        size = self.chunk_bytes
        if not MIN_CHUNK_BYTES <= size <= MAX_CHUNK_BYTES or size & (size - 1):
            raise ValueError(f"chunk size must be a power of two from 64 KiB to 1 MiB, not {size} bytes")

    def count(self, size_bytes: int) -> int:
        """How many chunks a disk of ``size_bytes`` has."""
        return -(-size_bytes // self.chunk_bytes)

    def extent(self, number: int, size_bytes: int) -> Extent:
        """Extent of chunk ``number`` of a disk of ``size_bytes``.

        Raises:
            IndexError: the disk has no such chunk.
        """
        start = number * self.chunk_bytes
        if not 0 <= start < size_bytes:
            raise IndexError(f"a disk of {size_bytes} bytes has no chunk {number}")
        return Extent(start, min(self.chunk_bytes, size_bytes - start))

    def number(self, offset: int) -> int:
        """Number of the chunk that holds byte ``offset``."""
        return offset // self.chunk_bytes

    def touched(self, extents: Iterable[Extent]) -> Iterator[int]:
        """Numbers of the chunks that a sorted set of extents touches; ascending, without duplicates."""
        following = 0
        for extent in extents:
            if extent.length:
                first = max(extent.offset // self.chunk_bytes, following)
                following = -(-extent.end // self.chunk_bytes)
                yield from range(first, following)
