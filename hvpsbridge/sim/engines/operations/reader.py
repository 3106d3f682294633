"""``Read-HvpsExtent``: the reader pipeline, equivalent to the C# reader (``formats.wire``)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hvpsbridge.contract import readings
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import BlockError, ChunkDigest, Request, encode_block
from hvpsbridge.sim.engines.failure import failure
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.engines.operations.disks import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES
from hvpsbridge.sim.engines.readers import Disk
from hvpsbridge.units import MIB

MIN_BLOCK_BYTES = 4096
MAX_BLOCK_BYTES = 16 * MIB
MOST_ENTRIES = 16384
READ_BYTES = 1 * MIB
# As in the C# reader: a body is deflated if three samples save three tenths of one.
SAMPLE_BYTES = 16384
MIN_DEFLATE_BYTES = 512


def read_extent(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """Blocks for every request, until the input ends."""
    readers = context.process.readers
    with readers.use(given["Path"]) as disk:
        size = disk.size_bytes
    number = given.get("FirstBlock", 0)
    for item in context.inputs():
        request = _parse(item, size)
        making = _Blocks(request=request, number=number)
        for piece in making.pieces():
            context.check()
            with readers.use(given["Path"]) as disk:
                blocks = making.take(disk, piece)
            for block in blocks:
                yield readings.BlockMessage(block)
        yield readings.BlockMessage(making.finish())
        number = making.number


def _parse(item: object, size: int) -> Request:
    try:
        request = Request.unpack(item if isinstance(item, bytes) else b"")
    except BlockError as err:
        raise failure("Hvps.BadRequest", f"unusable request: {err}") from err
    chunk = request.chunk_bytes
    trouble = None
    if not MIN_CHUNK_BYTES <= chunk <= MAX_CHUNK_BYTES or chunk & (chunk - 1):
        trouble = f"chunks of {chunk} bytes"
    elif not MIN_BLOCK_BYTES <= request.block_bytes <= MAX_BLOCK_BYTES:
        trouble = f"blocks of {request.block_bytes} bytes"
    else:
        for extent in request.extents:
            if not 0 < extent.length < 1 << 31 or extent.end > size:
                trouble = f"{extent.length} bytes at {extent.offset} of {size}"
                break
    if trouble:
        raise failure("Hvps.BadRequest", f"unusable request: {trouble}")
    return request


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of an extent that is within one chunk and fits into a block."""

    extent: Extent
    ends_chunk: bool


@dataclass(slots=True, kw_only=True)
class _Blocks:
    """Builds the blocks for one request.

    Attributes:
        number: number of the current block.
    """

    request: Request
    number: int
    _entries: list[tuple[Extent, bytes | None]] = field(default_factory=list)
    _digests: list[ChunkDigest] = field(default_factory=list)
    _body_bytes: int = 0
    # Offset and bytes of the last read, so that adjacent pieces share one read.
    _read: tuple[int, bytes] = (0, b"")

    def pieces(self) -> Sequence[_Piece]:
        """The request's extents, cut at chunk boundaries so that zero chunks are found."""
        chunk, block = self.request.chunk_bytes, self.request.block_bytes
        cut: list[Extent] = []
        for extent in self.request.extents:
            at = extent.offset
            while at < extent.end:
                length = min(extent.end - at, (at // chunk + 1) * chunk - at, block)
                cut.append(Extent(at, length))
                at += length
        last_of_chunk = {extent.offset // chunk: index for index, extent in enumerate(cut)}
        wanted = self.request.want_chunk_digests
        return [
            _Piece(extent, wanted and last_of_chunk[extent.offset // chunk] == index)
            for index, extent in enumerate(cut)
        ]

    def take(self, disk: Disk, piece: _Piece) -> list[bytes]:
        """Read a piece into the current block. Returns the block before it if that one is full."""
        full = (
            self._body_bytes + piece.extent.length > self.request.block_bytes
            or len(self._entries) >= MOST_ENTRIES
            or len(self._digests) >= MOST_ENTRIES
        )
        done = [self._emit(last=False)] if full else []
        data: bytes | None = self._bytes(disk, piece.extent)
        assert data is not None
        if not any(data[:64]) and data.count(0) == len(data):
            data = None
        else:
            self._body_bytes += len(data)
        self._entries.append((piece.extent, data))
        if piece.ends_chunk:
            chunk = self.request.chunk_bytes
            number = piece.extent.offset // chunk
            whole = self._chunk(disk, number)
            self._digests.append(ChunkDigest(number, hashlib.sha256(whole).digest()))
        return done

    def finish(self) -> bytes:
        """The last block, which may be empty."""
        return self._emit(last=True)

    def _bytes(self, disk: Disk, extent: Extent) -> bytes:
        if self.request.want_chunk_digests:
            chunk = self.request.chunk_bytes
            number = extent.offset // chunk
            return self._chunk(disk, number)[extent.offset - number * chunk :][: extent.length]
        start, held = self._read
        if not (start <= extent.offset and extent.end <= start + len(held)):
            # Adjacent pieces are read together, up to the size of one read.
            ends = self._run_end(extent)
            start, held = extent.offset, disk.read(extent.offset, ends - extent.offset)
            self._read = (start, held)
        return held[extent.offset - start :][: extent.length]

    def _run_end(self, extent: Extent) -> int:
        for whole in self.request.extents:
            if whole.offset <= extent.offset < whole.end:
                return max(extent.end, min(whole.end, extent.offset + READ_BYTES))
        return extent.end

    def _chunk(self, disk: Disk, number: int) -> bytes:
        chunk = self.request.chunk_bytes
        start, held = self._read
        if start != number * chunk or not held:
            start = number * chunk
            held = disk.read(start, min(chunk, disk.size_bytes - start))
            self._read = (start, held)
        return held

    def _emit(self, *, last: bool) -> bytes:
        body = b"".join(data for _, data in self._entries if data is not None)
        block = encode_block(
            self.request.number,
            self.number,
            _merged(self._entries),
            last=last,
            chunk_digests=self._digests,
            deflate=self.request.allow_deflate and _pays(body),
        )
        self._entries, self._digests, self._body_bytes = [], [], 0
        self.number += 1
        return block


def _merged(entries: Sequence[tuple[Extent, bytes | None]]) -> list[tuple[Extent, bytes | None]]:
    """Adjacent pieces of the same kind as one entry; their bytes are adjacent in the body."""
    merged: list[tuple[Extent, list[bytes] | None]] = []
    for extent, data in entries:
        if merged:
            before, held = merged[-1]
            if before.end == extent.offset and (held is None) == (data is None):
                if held is not None and data is not None:
                    held.append(data)
                merged[-1] = (Extent(before.offset, before.length + extent.length), held)
                continue
        merged.append((extent, None if data is None else [data]))
    return [(extent, None if held is None else b"".join(held)) for extent, held in merged]


def _pays(body: bytes) -> bool:
    if len(body) < MIN_DEFLATE_BYTES:
        return False
    sample = min(SAMPLE_BYTES, len(body) // 3)
    spread = (len(body) - sample) // 2
    gained = sum(
        sample - len(zlib.compress(body[start : start + sample], 1, wbits=-15))
        for start in (0, spread, 2 * spread)
    )
    return gained >= sample * 3 // 10
