"""Requests and blocks: what a reader pipeline on a host takes and gives.

``ps_scripts/lib/reader/`` is the other end of this format. All integers are little endian. A request asks for
extents of one frozen disk. The host answers it with one or more blocks in the order of the extents, and flags
the last one. Each source numbers its requests and its blocks from 0, so that lost, duplicated and reordered
replies are detected. When a source replaces its pipeline (WinRM limits the input of one), the new one
continues these numbers.

Request::

    0   2  magic "HQ"
    2   1  version (1)
    3   1  flags: 1 = whole-chunk digests wanted, 2 = deflate allowed
    4   4  request number
    8   4  chunk bytes of the repository's grid
    12  4  raw bytes a block may hold
    16  4  count of extents
    20  -  extents: u64 offset, u32 length

Block::

    0   2  magic "HB"
    2   1  version (1)
    3   1  flags: 1 = last block of its request
    4   4  request number
    8   4  block number
    12  1  encoding of the body: 0 raw, 1 deflate (RFC 1951, no wrapper)
    13  3  zero
    16  4  raw body bytes
    20  4  encoded body bytes
    24  4  count of extents
    28  4  count of chunk digests
    32  32 SHA-256 over bytes 0..31, the extent and digest tables, and the raw body
    64  -  extents: u64 offset, u32 length with bit 31 set when all zero (no body bytes)
    -   -  chunk digests: u64 chunk number, 32 bytes SHA-256 of the whole frozen chunk
    -   -  encoded body: the bytes of the extents that are not zero, in order

The digest of a chunk is in the block with the last extent of that chunk in the request. All extents of a
chunk must be in one request.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hvpsbridge.formats.extents import Extent

VERSION = 1
REQUEST_MAGIC = b"HQ"
BLOCK_MAGIC = b"HB"
WANT_CHUNK_DIGESTS = 1
ALLOW_DEFLATE = 2
LAST_OF_REQUEST = 1
ZERO_EXTENT = 1 << 31
DIGEST_BYTES = 32
# Bounds of the reader on the host: body bytes of any block, and entries of each of its tables.
MAX_BLOCK_BYTES = 16 << 20
MAX_ENTRIES = 16384

_REQUEST = struct.Struct("<2sBBIIII")
_BLOCK = struct.Struct("<2sBBIIB3xIIII")
_EXTENT = struct.Struct("<QI")
_CHUNK_DIGEST = struct.Struct("<Q32s")
HEADER_BYTES = _BLOCK.size + DIGEST_BYTES


class BlockError(ValueError):
    """A block is not what a reader sent: its form or its digest is wrong."""


class Encoding(IntEnum):
    """How a block's body is encoded."""

    RAW = 0
    DEFLATE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a reader pipeline.

    Attributes:
        number: counts up by one within a pipeline, from 0.
        extents: what to read; each at least one byte and less than 2 GiB long.
        chunk_bytes: chunk size of the repository's grid.
        block_bytes: how many raw bytes a block may hold.
        want_chunk_digests: whether to send the SHA-256 of each whole chunk that the extents touch.
        allow_deflate: whether the host may compress bodies, where a sample shows that it pays.
    """

    number: int
    extents: tuple[Extent, ...]
    chunk_bytes: int
    block_bytes: int
    want_chunk_digests: bool = False
    allow_deflate: bool = True

    def pack(self) -> bytes:
        """The request's bytes."""
        flags = (WANT_CHUNK_DIGESTS if self.want_chunk_digests else 0) | (
            ALLOW_DEFLATE if self.allow_deflate else 0
        )
        head = _REQUEST.pack(
            REQUEST_MAGIC, VERSION, flags, self.number, self.chunk_bytes, self.block_bytes, len(self.extents)
        )
        return head + b"".join(_EXTENT.pack(extent.offset, extent.length) for extent in self.extents)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Request:
        """The request in ``data``; the simulated host reads it.

        Raises:
            BlockError: it is not a request.
        """
        if len(data) < _REQUEST.size:
            raise BlockError(f"a request of {len(data)} bytes is shorter than its header")
        magic, version, flags, number, chunk_bytes, block_bytes, count = _REQUEST.unpack_from(data)
        if magic != REQUEST_MAGIC or version != VERSION:
            raise BlockError(f"the request starts with {magic!r} version {version}")
        if len(data) != _REQUEST.size + count * _EXTENT.size:
            raise BlockError(f"a request with {count} extents cannot have {len(data)} bytes")
        extents = tuple(Extent(*pair) for pair in _EXTENT.iter_unpack(data[_REQUEST.size :]))
        return cls(
            number=number,
            extents=extents,
            chunk_bytes=chunk_bytes,
            block_bytes=block_bytes,
            want_chunk_digests=bool(flags & WANT_CHUNK_DIGESTS),
            allow_deflate=bool(flags & ALLOW_DEFLATE),
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one extent in a block; ``data`` is None when they are all zero.

    ``data`` is a view of the block's raw body, valid as long as the body is.
    """

    extent: Extent
    data: memoryview | None


@dataclass(frozen=True, slots=True)
class ChunkDigest:
    """SHA-256 of the whole frozen chunk ``number``, computed on the host."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A decoded and verified block.

    Attributes:
        request: number of the request it answers.
        number: its own number within the pipeline.
        last: whether it is the last block of its request.
        pieces: in the order of the extents that were requested.
        chunk_digests: of whole frozen chunks, if they were requested.
        raw_bytes: length of all pieces.
        data_bytes: length of the pieces that are not zero.
        wire_bytes: length of the encoded block.
    """

    request: int
    number: int
    last: bool
    pieces: tuple[Piece, ...]
    chunk_digests: tuple[ChunkDigest, ...]
    raw_bytes: int
    data_bytes: int
    wire_bytes: int


def requested_block_bytes(request: bytes) -> int:
    """The size of a block that a packed request asks for; the largest one for other bytes."""
    if len(request) < _REQUEST.size or not request.startswith(REQUEST_MAGIC):
        return MAX_BLOCK_BYTES
    return min(int(_REQUEST.unpack_from(request)[5]), MAX_BLOCK_BYTES)


def block_bound(body_bytes: int) -> int:
    """The longest block with a body of that many bytes."""
    return HEADER_BYTES + MAX_ENTRIES * (_EXTENT.size + _CHUNK_DIGEST.size) + body_bytes


def decode_block(data: bytes | bytearray | memoryview, max_body_bytes: int = MAX_BLOCK_BYTES) -> Block:
    """The block in ``data``, verified by its digest.

    Pieces of a raw body are views of ``data``, which must not change while they are used.

    Args:
        data: the block.
        max_body_bytes: the block size that was requested; nothing larger is inflated.

    Raises:
        BlockError: the form is wrong, the body is larger than requested or does not inflate to the stated
            size, or the digest is wrong.
    """
    view = memoryview(data)
    if len(view) < HEADER_BYTES:
        raise BlockError(f"a block of {len(view)} bytes is shorter than its header")
    magic, version, flags, request, number, encoding, raw, encoded, extents, digests = _BLOCK.unpack_from(
        view
    )
    if magic != BLOCK_MAGIC or version != VERSION:
        raise BlockError(f"the block starts with {magic!r} version {version}")
    if raw > max_body_bytes:
        raise BlockError(f"block {number}: {raw} raw bytes, but at most {max_body_bytes} were requested")
    if extents > MAX_ENTRIES or digests > MAX_ENTRIES:
        raise BlockError(f"block {number}: {extents} extents and {digests} digests are too many")
    tables_end = HEADER_BYTES + extents * _EXTENT.size + digests * _CHUNK_DIGEST.size
    if tables_end + encoded != len(view):
        raise BlockError(
            f"block {number}: the header says {tables_end + encoded} bytes, but there are {len(view)}"
        )
    body = _raw_body(view[tables_end:], encoding, raw, number)
    sha = hashlib.sha256(view[: _BLOCK.size])
    sha.update(view[HEADER_BYTES:tables_end])
    sha.update(body)
    if sha.digest() != view[_BLOCK.size : HEADER_BYTES]:
        raise BlockError(f"block {number}: the digest does not match")
    extents_end = HEADER_BYTES + extents * _EXTENT.size
    pieces, raw_bytes = _pieces(view[HEADER_BYTES:extents_end], body, number)
    return Block(
        request=request,
        number=number,
        last=bool(flags & LAST_OF_REQUEST),
        pieces=pieces,
        chunk_digests=tuple(
            ChunkDigest(*entry) for entry in _CHUNK_DIGEST.iter_unpack(view[extents_end:tables_end])
        ),
        raw_bytes=raw_bytes,
        data_bytes=len(body),
        wire_bytes=len(view),
    )


def _raw_body(encoded: memoryview, encoding: int, raw_bytes: int, number: int) -> memoryview:
    if encoding == Encoding.RAW:
        if len(encoded) != raw_bytes:
            raise BlockError(f"block {number}: {len(encoded)} raw bytes, but the header says {raw_bytes}")
        return encoded
    if encoding != Encoding.DEFLATE:
        raise BlockError(f"block {number}: unknown encoding {encoding}")
    inflater = zlib.decompressobj(wbits=-15)
    try:
        # One byte more than stated, to detect a longer stream; not more, since the size is the limit.
        body = inflater.decompress(encoded, raw_bytes + 1)
    except zlib.error as err:
        raise BlockError(f"block {number}: {err}") from err
    if len(body) != raw_bytes or not inflater.eof or inflater.unused_data:
        raise BlockError(f"block {number}: inflates to {len(body)} bytes, but the header says {raw_bytes}")
    return memoryview(body)


def _pieces(table: memoryview, body: memoryview, number: int) -> tuple[tuple[Piece, ...], int]:
    """The pieces, and the sum of their lengths."""
    pieces: list[Piece] = []
    position = raw_bytes = 0
    for offset, tagged in _EXTENT.iter_unpack(table):
        length = tagged & (ZERO_EXTENT - 1)
        raw_bytes += length
        if tagged & ZERO_EXTENT:
            pieces.append(Piece(Extent(offset, length), None))
            continue
        pieces.append(Piece(Extent(offset, length), body[position : position + length]))
        position += length
        if position > len(body):
            raise BlockError(f"block {number}: extents exceed the end of the body")
    if position != len(body):
        raise BlockError(f"block {number}: extents cover {position} of {len(body)} body bytes")
    return tuple(pieces), raw_bytes


def encode_block(
    request: int,
    number: int,
    pieces: Sequence[tuple[Extent, bytes | memoryview | None]],
    *,
    last: bool,
    chunk_digests: Sequence[ChunkDigest] = (),
    deflate: bool = False,
) -> bytes:
    """The bytes of a block; for the simulated host's builtin engine and for tests.

    Args:
        request: number of the request.
        number: number of this block in its pipeline.
        pieces: extents with their bytes, or None for zeros.
        last: whether it is the last one of its request.
        chunk_digests: digests to send along.
        deflate: whether to compress the body.
    """
    body = b"".join(data for _, data in pieces if data is not None)
    encoded, encoding = body, Encoding.RAW
    if deflate and body:
        deflater = zlib.compressobj(1, wbits=-15)
        encoded, encoding = deflater.compress(body) + deflater.flush(), Encoding.DEFLATE
    tables = b"".join(
        _EXTENT.pack(extent.offset, extent.length | (ZERO_EXTENT if data is None else 0))
        for extent, data in pieces
    ) + b"".join(_CHUNK_DIGEST.pack(entry.number, entry.digest) for entry in chunk_digests)
    head = _BLOCK.pack(
        BLOCK_MAGIC,
        VERSION,
        LAST_OF_REQUEST if last else 0,
        request,
        number,
        encoding,
        len(body),
        len(encoded),
        len(pieces),
        len(chunk_digests),
    )
    return head + hashlib.sha256(head + tables + body).digest() + tables + encoded
