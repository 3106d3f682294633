"""The chunk grid: how a disk of a given size is cut into chunks. One per repository, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent
from hvpsbridge.units import KIB, MIB

MIN_CHUNK_BYTES = 64 * KIB
MAX_CHUNK_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """All disk arithmetic on chunks. Chunk ``n`` holds bytes from ``n * chunk_bytes``.

    A disk's last chunk ends with the disk and may be short.

    Raises:
        ValueError: ``chunk_bytes`` is no power of two between 64 KiB and 1 MiB.
    """

    chunk_bytes: int

    def __post_init__(self) -> None:
        size = self.chunk_bytes
        if not MIN_CHUNK_BYTES <= size <= MAX_CHUNK_BYTES or size & (size - 1):
            raise ValueError(f"a chunk of {size} bytes is no power of two from 64 KiB to 1 MiB")

    def count(self, size_bytes: int) -> int:
        """Number of chunks of a disk of ``size_bytes``."""
        return -(-size_bytes // self.chunk_bytes)

    def extent(self, number: int, size_bytes: int) -> Extent:
        """Extent of chunk ``number`` of a disk of ``size_bytes``.

        Raises:
            IndexError: the disk has no such chunk.
        """
        start = number * self.chunk_bytes
        if not 0 <= start < size_bytes:
            raise IndexError(f"no chunk {number} in a disk of {size_bytes} bytes")
        return Extent(start, min(self.chunk_bytes, size_bytes - start))

    def number(self, offset: int) -> int:
        """Number of the chunk that holds byte ``offset``."""
        return offset // self.chunk_bytes

    def touched(self, extents: Iterable[Extent]) -> Iterator[int]:
        """Numbers of the chunks that a sorted set of extents touches, ascending, each once."""
        following = 0
        for extent in extents:
            if extent.length:
                first = max(extent.offset // self.chunk_bytes, following)
                following = -(-extent.end // self.chunk_bytes)
                yield from range(first, following)
