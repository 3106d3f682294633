"""Turns blocks into chunks.

There are two sinks for a pump. :class:`WholeChunks` takes blocks of whole chunks. :class:`PatchedChunks`
takes the changed extents of chunks together with the host's digest of each whole frozen chunk. Base plus
changes must have that digest; otherwise the chunk is not stored but listed in ``refused``, to be read whole.
So a wrong base, or a change that tracking missed within a touched chunk, never gets into a recovery point.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hvpsbridge.formats.chunk import zero_digest
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block, Piece


class ChunkTarget(Protocol):
    """Stores chunks; safe for several threads."""

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        """Store the bytes of chunk ``number``; None for zeros."""
        ...


class PatchTarget(ChunkTarget, Protocol):
    """Stores chunks and provides those of the base."""

    def base_chunk(self, number: int) -> bytes | None:
        """Bytes of the base's chunk, as long as the chunk is; None if they cannot be read intact."""
        ...


class _Part(NamedTuple):
    """Bytes ``start`` to ``stop`` of a chunk; ``data`` is None for zeros."""

    start: int
    stop: int
    data: memoryview | None


@dataclass(slots=True)
class _Partial:
    """A chunk of which some bytes have come."""

    missing_bytes: int
    parts: list[_Part] = field(default_factory=list)


class WholeChunks:
    """Sink for whole chunks.

    Args:
        target: takes finished chunks.
        grid: the repository's grid.
        size_bytes: size of the disk.
        zeros_known: the target holds zeros wherever nothing is put, so whole zero chunks are not put.
    """

    def __init__(
        self, target: ChunkTarget, grid: ChunkGrid, size_bytes: int, *, zeros_known: bool = False
    ) -> None:
        self._target = target
        self._chunk_bytes = grid.chunk_bytes
        self._size_bytes = size_bytes
        self._zeros_known = zeros_known
        self._partial: dict[int, _Partial] = {}
        self._lock = threading.Lock()

    @property
    def unfinished(self) -> int:
        """Chunks of which only a part has come; 0 after a pump that was asked for whole chunks."""
        return len(self._partial)

    def deliver(self, block: Block) -> None:
        """Take a block with any parts of whole chunks; put each chunk that it completes."""
        for piece in block.pieces:
            self._take(piece)

    def _take(self, piece: Piece) -> None:
        chunk_bytes = self._chunk_bytes
        first = start = piece.extent.offset
        end = first + piece.extent.length
        while start < end:
            number = start // chunk_bytes
            chunk_start = number * chunk_bytes
            if piece.data is None and self._zeros_known and start == chunk_start:
                whole_end = end if end == self._size_bytes else end // chunk_bytes * chunk_bytes
                if whole_end > start:
                    start = whole_end
                    continue
            chunk_end = min(chunk_start + chunk_bytes, self._size_bytes)
            stop = min(chunk_end, end)
            data = None if piece.data is None else piece.data[start - first : stop - first]
            if start == chunk_start and stop == chunk_end:
                self._target.put(number, data)
            else:
                part = _Part(start - chunk_start, stop - chunk_start, data)
                self._take_part(number, part, chunk_end - chunk_start)
            start = stop

    def _take_part(self, number: int, part: _Part, length: int) -> None:
        with self._lock:
            partial = self._partial.setdefault(number, _Partial(length))
            partial.parts.append(part)
            partial.missing_bytes -= part.stop - part.start
            if partial.missing_bytes:
                return
            del self._partial[number]
        if all(each.data is None for each in partial.parts):
            self._target.put(number, None)
            return
        chunk = bytearray(length)
        _write(partial.parts, chunk)
        self._target.put(number, chunk)


class PatchedChunks:
    """Sink for changed extents with digests of whole chunks.

    Args:
        target: takes finished chunks, and has those of the base.
        grid: the repository's grid.
        size_bytes: size of the disk.
    """

    def __init__(self, target: PatchTarget, grid: ChunkGrid, size_bytes: int) -> None:
        self._target = target
        self._chunk_bytes = grid.chunk_bytes
        self._size_bytes = size_bytes
        self._parts: dict[int, list[_Part]] = {}
        self._lock = threading.Lock()
        self._refused: list[int] = []

    @property
    def refused(self) -> tuple[int, ...]:
        """Chunks that did not have the host's digest, ascending; read them whole."""
        with self._lock:
            return tuple(sorted(self._refused))

    @property
    def unfinished(self) -> int:
        """Chunks whose digest has not come; they count as not delivered."""
        return len(self._parts)

    def take_unfinished(self) -> tuple[int, ...]:
        """Drop the chunks whose digest has not come; their numbers, ascending, to be read whole."""
        with self._lock:
            numbers = tuple(sorted(self._parts))
            self._parts.clear()
            return numbers

    def deliver(self, block: Block) -> None:
        """Take a block; finish each chunk whose digest it carries."""
        with self._lock:
            for piece in block.pieces:
                self._take(piece)
            finished = [
                (entry, self._parts.pop(entry.number))
                for entry in block.chunk_digests
                if entry.number in self._parts
            ]
        for entry, parts in finished:
            if not self._finish(entry.number, entry.digest, parts):
                with self._lock:
                    self._refused.append(entry.number)

    def _take(self, piece: Piece) -> None:
        first = start = piece.extent.offset
        end = first + piece.extent.length
        while start < end:
            number = start // self._chunk_bytes
            chunk_start = number * self._chunk_bytes
            stop = min(chunk_start + self._chunk_bytes, end)
            data = None if piece.data is None else piece.data[start - first : stop - first]
            part = _Part(start - chunk_start, stop - chunk_start, data)
            self._parts.setdefault(number, []).append(part)
            start = stop

    def _finish(self, number: int, digest: bytes, parts: list[_Part]) -> bool:
        """Put the chunk if its bytes have ``digest``; whether they have."""
        length = min(self._chunk_bytes, self._size_bytes - number * self._chunk_bytes)
        if sum(part.stop - part.start for part in parts) == length:
            chunk = bytearray(length)
        else:
            base = self._target.base_chunk(number)
            if base is None or len(base) != length:
                return False
            chunk = bytearray(base)
        _write(parts, chunk)
        if hashlib.sha256(chunk).digest() != digest:
            return False
        self._target.put(number, None if digest == zero_digest(length) else chunk)
        return True


def _write(parts: list[_Part], chunk: bytearray) -> None:
    """Write ``parts`` into ``chunk``."""
    for start, stop, data in parts:
        chunk[start:stop] = bytes(stop - start) if data is None else data
