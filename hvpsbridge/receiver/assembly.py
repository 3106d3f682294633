"""Blocks become chunks: whole ones as they come, patched ones on top of their base.

Two sinks for a pump. :class:`WholeChunks` takes blocks of whole chunks. :class:`PatchedChunks` takes the
changed extents of chunks together with the host's digest of each whole frozen chunk: base plus changes
must arrive at that digest, else the chunk is left out and named in ``refused``, to be read whole. So a
wrong base, or tracking that missed something within a touched chunk, never gets into a point.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block, Piece


class ChunkTarget(Protocol):
    """Where chunks go; safe for several threads."""

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        """Store the bytes of chunk ``number``; None means all zero."""
        ...


class PatchTarget(ChunkTarget, Protocol):
    """Where patched chunks come from and go."""

    def base_chunk(self, number: int) -> bytes | None:
        """Bytes of the base's chunk, as long as the chunk is; None when they cannot be had intact."""
        ...


@dataclass(slots=True)
class _Partial:
    """A chunk some of whose bytes have come."""

    missing_bytes: int
    pieces: list[Piece] = field(default_factory=list)


class WholeChunks:
    """Sink for whole chunks.

    Args:
        store: takes finished chunks.
        grid: the repository's grid.
        size_bytes: size of the disk.
        zeros_known: the store holds zeros wherever nothing is put, so zero chunks are not even told.
    """

    def __init__(
        self, store: ChunkTarget, grid: ChunkGrid, size_bytes: int, *, zeros_known: bool = False
    ) -> None:
        self._store = store
        self._grid = grid
        self._size_bytes = size_bytes
        self._zeros_known = zeros_known
        self._partial: dict[int, _Partial] = {}
        self._lock = threading.Lock()

    @property
    def unfinished(self) -> int:
        """Chunks of which only a part has come; 0 after a pump that was asked for whole chunks."""
        return len(self._partial)

    def deliver(self, block: Block) -> None:
        """Take a block of any part of whole chunks; put each chunk that it completes."""
        for piece in block.pieces:
            for number, part in self._parts(piece):
                self._take(number, part)

    def _parts(self, piece: Piece) -> Iterator[tuple[int, Piece]]:
        """``piece`` cut at chunk boundaries. Whole zero chunks are left out where zeros are known."""
        chunk_bytes = self._grid.chunk_bytes
        start = piece.extent.offset
        while start < piece.extent.end:
            number = start // chunk_bytes
            if piece.data is None and self._zeros_known and start % chunk_bytes == 0:
                whole_end = (
                    piece.extent.end
                    if piece.extent.end == self._size_bytes
                    else piece.extent.end // chunk_bytes * chunk_bytes
                )
                if whole_end > start:
                    start = whole_end
                    continue
            end = min((number + 1) * chunk_bytes, piece.extent.end)
            data = piece.data
            if data is not None:
                data = data[start - piece.extent.offset : end - piece.extent.offset]
            yield number, Piece(Extent(start, end - start), data)
            start = end

    def _take(self, number: int, part: Piece) -> None:
        extent = self._grid.extent(number, self._size_bytes)
        if part.extent == extent:
            self._store.put(number, part.data)
            return
        with self._lock:
            partial = self._partial.setdefault(number, _Partial(extent.length))
            partial.pieces.append(part)
            partial.missing_bytes -= part.extent.length
            if partial.missing_bytes:
                return
            del self._partial[number]
        if all(piece.data is None for piece in partial.pieces):
            self._store.put(number, None)
            return
        chunk = bytearray(extent.length)
        _lay(partial.pieces, chunk, extent.offset)
        self._store.put(number, chunk)


class PatchedChunks:
    """Sink for changed extents with digests of whole chunks."""

    def __init__(self, store: PatchTarget, grid: ChunkGrid, size_bytes: int) -> None:
        self._store = store
        self._grid = grid
        self._size_bytes = size_bytes
        self._pieces: dict[int, list[Piece]] = {}
        self._lock = threading.Lock()
        self._refused: list[int] = []

    @property
    def refused(self) -> tuple[int, ...]:
        """Chunks that did not arrive at the host's digest, ascending; read them whole."""
        with self._lock:
            return tuple(sorted(self._refused))

    @property
    def unfinished(self) -> int:
        """Chunks whose digest never came; they count as not delivered."""
        return len(self._pieces)

    def take_unfinished(self) -> tuple[int, ...]:
        """The chunks whose digest never came, ascending, and forget them; to be read whole."""
        with self._lock:
            numbers = tuple(sorted(self._pieces))
            self._pieces.clear()
            return numbers

    def deliver(self, block: Block) -> None:
        """Take a block; finish each chunk whose digest it carries."""
        chunk_bytes = self._grid.chunk_bytes
        with self._lock:
            for piece in block.pieces:
                start = piece.extent.offset
                while start < piece.extent.end:
                    number = start // chunk_bytes
                    end = min((number + 1) * chunk_bytes, piece.extent.end)
                    data = piece.data
                    if data is not None:
                        data = data[start - piece.extent.offset : end - piece.extent.offset]
                    self._pieces.setdefault(number, []).append(Piece(Extent(start, end - start), data))
                    start = end
            finished = [
                (entry, self._pieces.pop(entry.number))
                for entry in block.chunk_digests
                if entry.number in self._pieces
            ]
        for entry, pieces in finished:
            if not self._finish(entry.number, entry.digest, pieces):
                with self._lock:
                    self._refused.append(entry.number)

    def _finish(self, number: int, digest: bytes, pieces: list[Piece]) -> bool:
        """Put the chunk when its bytes have ``digest``; whether they had."""
        extent = self._grid.extent(number, self._size_bytes)
        if sum(piece.extent.length for piece in pieces) == extent.length:
            chunk = bytearray(extent.length)
        else:
            base = self._store.base_chunk(number)
            if base is None or len(base) != extent.length:
                return False
            chunk = bytearray(base)
        _lay(pieces, chunk, extent.offset)
        if hashlib.sha256(chunk).digest() != digest:
            return False
        self._store.put(number, None if digest == zero_digest(extent.length) else chunk)
        return True


@lru_cache(maxsize=16)
def zero_digest(length: int) -> bytes:
    """SHA-256 of ``length`` zero bytes. A disk has two lengths of chunk: the grid's and the last one's."""
    return hashlib.sha256(bytes(length)).digest()


def _lay(pieces: list[Piece], chunk: bytearray, chunk_offset: int) -> None:
    """Write ``pieces`` over ``chunk``, whose first byte is ``chunk_offset`` of the disk."""
    for piece in pieces:
        start = piece.extent.offset - chunk_offset
        chunk[start : start + piece.extent.length] = (
            bytes(piece.extent.length) if piece.data is None else piece.data
        )
