"""The state of one reader pipeline, without I/O: what was requested, what came, what is still owed.

Requests come out as bytes and blocks go in as bytes. Every block is checked: its number, its extents against
those that are owed next, and its digest (``formats.wire``). So a lost, duplicated, truncated, changed or
reordered reply is found at the first block it affects, and ``BlockStream.owed`` is exactly what to request
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block, BlockError, Request, decode_block


class StreamBroken(BlockError):
    """An intact block is not the one that is due; the pipeline cannot be used any more."""


@dataclass(slots=True)
class _Pending:
    """A request that is not fully answered, and the position up to which its bytes have come.

    Attributes:
        undigested: chunks whose digest has not come; empty if none were requested.
    """

    number: int
    extents: tuple[Extent, ...]
    undigested: set[int]
    index: int = 0
    position: int = 0

    def rest(self) -> list[Extent]:
        """What has not come yet, in the order of the request."""
        if self.index == len(self.extents):
            return []
        current = self.extents[self.index]
        first = Extent(current.offset + self.position, current.length - self.position)
        return [first, *self.extents[self.index + 1 :]]


class BlockStream:
    """The state of one pipeline. For one thread.

    Args:
        size_bytes: size of the frozen disk; nothing beyond it is requested or accepted.
        grid: the repository's grid, sent with each request.
        block_bytes: raw bytes that one block may hold.
        want_chunk_digests: request the digest of every whole chunk that is touched.
        allow_deflate: let the host compress blocks.
    """

    def __init__(
        self,
        size_bytes: int,
        grid: ChunkGrid,
        *,
        block_bytes: int,
        want_chunk_digests: bool = False,
        allow_deflate: bool = True,
    ) -> None:
        self._size_bytes = size_bytes
        self._grid = grid
        self._block_bytes = block_bytes
        self._want_chunk_digests = want_chunk_digests
        self._allow_deflate = allow_deflate
        self._requests = 0
        self._blocks = 0
        self._pending: deque[_Pending] = deque()

    @property
    def owed(self) -> tuple[Extent, ...]:
        """Requested bytes that have not come, as a sorted set."""
        return normalise((extent for pending in self._pending for extent in pending.rest()), self._size_bytes)

    def request(self, extents: Sequence[Extent]) -> bytes:
        """The next request, packed; ``extents`` are owed from now on.

        Neighbouring extents are joined, since the host may answer them with one piece.

        Raises:
            ValueError: there are no extents, or one is empty or exceeds the disk.
        """
        if not extents:
            raise ValueError("a request needs at least one extent")
        for extent in extents:
            if extent.length <= 0 or extent.offset < 0 or extent.end > self._size_bytes:
                raise ValueError(f"{extent} is not within a disk of {self._size_bytes} bytes")
        request = Request(
            number=self._requests,
            extents=normalise(extents, self._size_bytes),
            chunk_bytes=self._grid.chunk_bytes,
            block_bytes=self._block_bytes,
            want_chunk_digests=self._want_chunk_digests,
            allow_deflate=self._allow_deflate,
        )
        wanted = self._grid.touched(sorted(request.extents)) if self._want_chunk_digests else ()
        self._pending.append(_Pending(request.number, request.extents, set(wanted)))
        self._requests += 1
        return request.pack()

    def feed(self, data: bytes | bytearray | memoryview) -> Block:
        """The block in ``data``, verified and counted as received.

        Pieces may be views of ``data``, which must not change while they are used.

        Raises:
            BlockError: the block is truncated or changed.
            StreamBroken: it is not the next block, brings nothing, or has bytes that are not owed next.
                Nothing of it counts as received, and the stream cannot be used any more.
        """
        block = decode_block(data, self._block_bytes)
        if block.number != self._blocks:
            raise StreamBroken(f"block {block.number} came instead of block {self._blocks}")
        if not self._pending:
            raise StreamBroken(f"block {block.number} answers no request")
        pending = self._pending[0]
        if block.request != pending.number:
            raise StreamBroken(f"block {block.number} answers request {block.request}, not {pending.number}")
        if not block.pieces and not block.last:
            raise StreamBroken(f"block {block.number} is empty and not the last of request {pending.number}")
        index, position = self._advance(pending, block)
        finished = index == len(pending.extents)
        if block.last != finished:
            state = "is" if block.last else "is not"
            raise StreamBroken(
                f"block {block.number} {state} marked as the last of request {pending.number}, "
                "which contradicts its bytes"
            )
        self._take_digests(pending, block, None if finished else pending.extents[index].offset + position)
        self._blocks += 1
        pending.index, pending.position = index, position
        if finished:
            self._pending.popleft()
        return block

    def _advance(self, pending: _Pending, block: Block) -> tuple[int, int]:
        """The position in ``pending`` after the extents of ``block``."""
        index, position = pending.index, pending.position
        for piece in block.pieces:
            if index == len(pending.extents):
                raise StreamBroken(f"block {block.number} has more than request {pending.number} wants")
            current = pending.extents[index]
            if piece.extent.offset != current.offset + position:
                raise StreamBroken(
                    f"block {block.number} has bytes from {piece.extent.offset} "
                    f"instead of {current.offset + position}"
                )
            position += piece.extent.length
            if not piece.extent.length or position > current.length:
                raise StreamBroken(f"block {block.number}: {piece.extent} does not fit into {current}")
            if position == current.length:
                index, position = index + 1, 0
        return index, position

    def _take_digests(self, pending: _Pending, block: Block, following: int | None) -> None:
        """Count the digests of ``block``; ``following`` is the offset of the next bytes, None at the end.

        A digest without the last bytes of its chunk, or the reverse, would make the sink keep these bytes.
        """
        for entry in block.chunk_digests:
            if entry.number not in pending.undigested:
                raise StreamBroken(
                    f"block {block.number} has a digest of chunk {entry.number}, which was not requested"
                )
            if following is not None and (entry.number + 1) * self._grid.chunk_bytes > following:
                raise StreamBroken(f"block {block.number} has the digest of chunk {entry.number} too early")
            pending.undigested.remove(entry.number)
        if following is None and pending.undigested:
            raise StreamBroken(f"request {pending.number} ended without {len(pending.undigested)} digests")
