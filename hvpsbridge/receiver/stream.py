"""One reader pipeline's conversation, without I/O: what was asked, what came, what is still owed.

Rule: nothing here opens, waits or sleeps. Bytes of requests come out, bytes of blocks go in, and every
block is held against what was asked: its place in the sequence, its extents against the bytes still
owed, its digest (``formats.wire``). A reply that was lost, doubled, cut, altered or reordered therefore
shows at the first block it touches, and :attr:`BlockStream.owed` says exactly which bytes to ask again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block, BlockError, Request, decode_block


class StreamBroken(BlockError):
    """A block that is sound in itself does not belong here; the pipeline is given up."""


@dataclass(slots=True)
class _Pending:
    """A request under way: its extents and the cursor up to which its bytes have come."""

    number: int
    extents: tuple[Extent, ...]
    index: int = 0
    position: int = 0

    def rest(self) -> list[Extent]:
        """What has not come yet, in the order asked."""
        if self.index == len(self.extents):
            return []
        current = self.extents[self.index]
        first = Extent(current.offset + self.position, current.length - self.position)
        return [first, *self.extents[self.index + 1 :]]


class BlockStream:
    """The state of one pipeline; used by one thread.

    Args:
        size_bytes: size of the frozen disk; nothing beyond it is asked or taken.
        grid: the repository's grid, sent with each request.
        block_bytes: raw bytes one answering block may hold.
        want_chunk_digests: ask for the digest of every whole chunk that is touched.
        allow_deflate: let the host deflate.
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
    def outstanding(self) -> int:
        """Requests that have not been answered in full."""
        return len(self._pending)

    @property
    def owed(self) -> tuple[Extent, ...]:
        """The bytes asked for that have not come, as a sorted set."""
        return normalise((extent for pending in self._pending for extent in pending.rest()), self._size_bytes)

    def request(self, extents: Sequence[Extent]) -> bytes:
        """Packed next request for ``extents``, which count as owed from now on.

        Extents that touch are asked for as one: a host may answer them with one piece.

        Raises:
            ValueError: no extents, or one is empty or passes the disk's end.
        """
        if not extents:
            raise ValueError("a request asks for at least one extent")
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
        self._pending.append(_Pending(request.number, request.extents))
        self._requests += 1
        return request.pack()

    def feed(self, data: bytes | bytearray | memoryview) -> Block:
        """The block in ``data``, verified and counted as received.

        Pieces may be views of ``data``, which the caller leaves unchanged while they live.

        Raises:
            BlockError: the block is cut or altered.
            StreamBroken: it is not the next one, or carries bytes that are not owed next. Nothing of it
                is counted; the stream cannot be used any further.
        """
        block = decode_block(data)
        if block.number != self._blocks:
            raise StreamBroken(f"block {block.number} came where block {self._blocks} was due")
        if not self._pending:
            raise StreamBroken(f"block {block.number} answers nothing that was asked")
        pending = self._pending[0]
        if block.request != pending.number:
            raise StreamBroken(f"block {block.number} answers request {block.request}, not {pending.number}")
        index, position = self._advance(pending, block)
        finished = index == len(pending.extents)
        if block.last != finished:
            state = "ends" if block.last else "does not end"
            raise StreamBroken(f"block {block.number} {state} request {pending.number}, against its bytes")
        self._check_digests(pending, block)
        self._blocks += 1
        pending.index, pending.position = index, position
        if finished:
            self._pending.popleft()
        return block

    def _advance(self, pending: _Pending, block: Block) -> tuple[int, int]:
        """Where the cursor of ``pending`` stands after ``block``'s extents."""
        index, position = pending.index, pending.position
        for piece in block.pieces:
            if index == len(pending.extents):
                raise StreamBroken(f"block {block.number} carries more than request {pending.number} asked")
            current = pending.extents[index]
            if piece.extent.offset != current.offset + position:
                raise StreamBroken(
                    f"block {block.number} has bytes from {piece.extent.offset}, "
                    f"due were those from {current.offset + position}"
                )
            position += piece.extent.length
            if not piece.extent.length or position > current.length:
                raise StreamBroken(f"block {block.number}: {piece.extent} does not fit into {current}")
            if position == current.length:
                index, position = index + 1, 0
        return index, position

    def _check_digests(self, pending: _Pending, block: Block) -> None:
        if not block.chunk_digests:
            return
        if not self._want_chunk_digests:
            raise StreamBroken(f"block {block.number} carries digests nobody asked for")
        touched = set(self._grid.touched(sorted(pending.extents)))
        for entry in block.chunk_digests:
            if entry.number not in touched:
                raise StreamBroken(f"block {block.number} has a digest of chunk {entry.number}, never asked")
