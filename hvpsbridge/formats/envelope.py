"""The envelope: how every stored object that is not a pack is written, and the footer of a pack.

The header is never encrypted, so that a reader always sees the format first. A plain envelope ends with a
SHA-256 over its context, header and payload. An encrypted one is authenticated by AES-256-GCM over the same
context and header. The context is the repository's id and the object's name, so an object that was moved to
another name or repository is rejected.

    0   4  magic "HVPS"
    4   1  version
    5   1  kind of object
    6   1  codec of the payload: 0 raw, 1 zstd
    7   1  seal: 0 plain, 1 AES-256-GCM
    8   4  key epoch; 0 when plain
    12  4  raw bytes of the payload
    16  4  stored bytes of the payload, without nonce and tag
    20  12 nonce; zero when plain
    32  -  payload as stored
    -   -  plain: 32 bytes SHA-256 of context, header and payload; encrypted: 16 bytes tag
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.units import KIB, MIB

# Repositories of every format are committed in tests/golden, and must always be readable. Format 2 added
# objects that older versions of hvps do not know, and must not write beside: doomed lists, fences, tags.
FORMATS = (1, 2)
# The format of new repositories. The envelope is the same in all formats.
FORMAT = 2
ENVELOPE_VERSION = 1
MAGIC = b"HVPS"
NONCE_BYTES = 12
TAG_BYTES = 16
CHECKSUM_BYTES = 32
NO_NONCE = bytes(NONCE_BYTES)
_HEADER = struct.Struct("<4sBBBBIII12s")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What an object is; part of what is authenticated."""

    DATA_PACK = 1
    NODE_PACK = 2
    INDEX = 3
    MANIFEST = 4
    IDS = 5
    LEDGER = 6
    LEASE = 7
    BAD_LIST = 8
    TOMBSTONE = 9
    PROOF = 10
    EXPORT = 11
    DOOMED = 12
    FENCE = 13
    TAG = 14
    UNFINISHED = 15
    VERIFIED = 16
    REPORT = 17
    TOMBSTONES = 18


# Largest payloads; neither writers nor readers exceed them. Anyone can make a small object that expands to
# gigabytes, and in a plain repository one that is valid. A pack has at most 16384 entries of 44 bytes, an
# index object 49152 of them, a bad list 16384 frames of 120 bytes. A manifest has the VM's definition.
_MAX_PAYLOAD_BYTES = {
    Kind.DATA_PACK: 4 * MIB,
    Kind.NODE_PACK: 4 * MIB,
    Kind.INDEX: 8 * MIB,
    Kind.MANIFEST: 8 * MIB,
    Kind.IDS: 1 * MIB,
    Kind.LEDGER: 1 * MIB,
    Kind.LEASE: 64 * KIB,
    Kind.BAD_LIST: 8 * MIB,
    Kind.TOMBSTONE: 64 * KIB,
    Kind.PROOF: 64 * KIB,
    Kind.EXPORT: 64 * KIB,
    Kind.DOOMED: 8 * MIB,
    Kind.FENCE: 8 * MIB,
    Kind.TAG: 64 * KIB,
    Kind.UNFINISHED: 8 * MIB,
    Kind.VERIFIED: 8 * MIB,
    Kind.REPORT: 8 * MIB,
    Kind.TOMBSTONES: 8 * MIB,
}


class Codec(IntEnum):
    """How a payload is encoded before encryption."""

    RAW = 0
    ZSTD = 1


class Seal(IntEnum):
    """How a payload is protected."""

    PLAIN = 0
    AES_256_GCM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First 32 bytes of an envelope."""

    kind: Kind
    codec: Codec
    seal: Seal
    epoch: int
    raw_bytes: int
    stored_bytes: int
    nonce: bytes = NO_NONCE

    def pack(self) -> bytes:
        """The header's bytes."""
        return _HEADER.pack(
            MAGIC,
            ENVELOPE_VERSION,
            self.kind,
            self.codec,
            self.seal,
            self.epoch,
            self.raw_bytes,
            self.stored_bytes,
            self.nonce,
        )

    @property
    def trailer_bytes(self) -> int:
        """How many bytes follow the payload."""
        return CHECKSUM_BYTES if self.seal is Seal.PLAIN else TAG_BYTES


def unpack_header(data: bytes | bytearray | memoryview) -> Header:
    """The header at the start of ``data``, whose whole length must be what the header says.

    Raises:
        UnknownVersion: a newer hvps wrote it.
        Malformed: anything else is wrong.
    """
    if len(data) < HEADER_BYTES:
        raise Malformed(f"an object of {len(data)} bytes is shorter than its header")
    magic, version, kind, codec, seal, epoch, raw, stored, nonce = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Malformed(f"it starts with {magic!r}")
    if version != ENVELOPE_VERSION:
        raise UnknownVersion(version, ENVELOPE_VERSION)
    try:
        header = Header(
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
    if raw > max_payload_bytes(header.kind):
        raise Malformed(f"its payload would have {raw} bytes, but may have {max_payload_bytes(header.kind)}")
    if len(data) != HEADER_BYTES + stored + header.trailer_bytes:
        raise Malformed(f"the header says {stored} payload bytes, but the object has {len(data)} bytes")
    return header


def max_payload_bytes(kind: Kind) -> int:
    """Largest payload that an object of ``kind`` may have."""
    return _MAX_PAYLOAD_BYTES[kind]


def max_envelope_bytes(kind: Kind) -> int:
    """Largest envelope of ``kind``: a payload that cannot be compressed is stored as it is."""
    return HEADER_BYTES + max_payload_bytes(kind) + CHECKSUM_BYTES


def context(repository_id: UUID, name: str) -> bytes:
    """What binds an object to its place: repository id (16 bytes) and object name, UTF-8."""
    return repository_id.bytes + name.encode()
