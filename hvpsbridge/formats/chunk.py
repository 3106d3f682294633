"""A stored chunk or node: one frame of a pack.

A frame holds everything needed to read it, so repacking copies its bytes, and a pack whose footer is lost
can be read from its start. Encrypted frames have random nonces. Their associated data is kind, id, codec,
epoch and raw length, so one frame cannot replace another.

    0   32 id: SHA-256 of the raw bytes; in encrypted repositories HMAC-SHA-256(id key, that SHA-256)
    32  1  kind: 1 chunk, 2 node
    33  1  codec: 0 raw, 1 zstd
    34  1  seal: 0 plain, 1 AES-256-GCM
    35  1  zero
    36  4  key epoch; 0 when plain
    40  4  raw bytes
    44  4  stored bytes: the body that follows, tag included
    48  12 nonce; zero when plain
    60  -  body
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache

from hvpsbridge.formats.envelope import NO_NONCE, TAG_BYTES, Codec, Kind, Seal
from hvpsbridge.formats.malformed import Malformed

ID_BYTES = 32
ZERO_ID = bytes(ID_BYTES)

_FRAME = struct.Struct("<32sBBBxIII12s")
_ASSOCIATED = struct.Struct("<B32sBII")
FRAME_BYTES = _FRAME.size
_PAD_AT = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Header of a frame; ``kind`` is ``DATA_PACK`` for a chunk and ``NODE_PACK`` for a node."""

    id: bytes
    kind: Kind
    codec: Codec
    seal: Seal
    epoch: int
    raw_bytes: int
    stored_bytes: int
    nonce: bytes = NO_NONCE

    def pack(self) -> bytes:
        """The header's bytes; the body follows them."""
        return _FRAME.pack(
            self.id,
            self.kind,
            self.codec,
            self.seal,
            self.epoch,
            self.raw_bytes,
            self.stored_bytes,
            self.nonce,
        )

    def associated(self) -> bytes:
        """What is authenticated besides the body."""
        return _ASSOCIATED.pack(self.kind, self.id, self.codec, self.epoch, self.raw_bytes)


def unpack_frame(data: bytes | bytearray | memoryview, max_raw_bytes: int) -> tuple[Frame, memoryview]:
    """Header and body of the frame that fills ``data``; the body is a view of it.

    Raises:
        Malformed: the lengths, the kind or the codec are not valid.
    """
    if len(data) < FRAME_BYTES:
        raise Malformed(f"a frame of {len(data)} bytes is shorter than its header")
    identity, kind, codec, seal, epoch, raw, stored, nonce = _FRAME.unpack_from(data)
    try:
        frame = Frame(
            id=identity,
            kind=Kind(kind),
            codec=Codec(codec),
            seal=Seal(seal),
            epoch=epoch,
            raw_bytes=raw,
            stored_bytes=stored,
            nonce=nonce,
        )
    except ValueError as err:
        raise Malformed(str(err)) from err
    if frame.kind not in (Kind.DATA_PACK, Kind.NODE_PACK):
        raise Malformed(f"unexpected kind {kind} of a frame")
    if data[_PAD_AT] or (seal == Seal.PLAIN and (epoch or nonce != NO_NONCE)):
        raise Malformed("reserved bytes are not zero")
    if len(data) != FRAME_BYTES + stored:
        raise Malformed(f"the frame header says {stored} bytes, but {len(data) - FRAME_BYTES} follow")
    if raw > max_raw_bytes or (seal == Seal.AES_256_GCM and stored < TAG_BYTES):
        raise Malformed(f"invalid lengths: {raw} bytes raw, {stored} stored")
    return frame, memoryview(data)[FRAME_BYTES:]


@lru_cache(maxsize=16)
def zero_digest(length: int) -> bytes:
    """SHA-256 of ``length`` zero bytes. A disk has two lengths of chunk: the grid's and the last one's."""
    return hashlib.sha256(bytes(length)).digest()


def is_zeros(raw: bytes) -> bool:
    """Whether all bytes are zero."""
    return raw == _zeros(len(raw))


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    return bytes(length)
