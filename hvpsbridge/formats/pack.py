"""A pack: many frames in one object, and a footer that lists them.

    0   4  magic "HVPK"
    4   1  version
    5   1  kind: 1 data pack, 2 node pack
    6   2  zero
    8   -  frames, one after the other
    -   -  footer: an envelope of the pack's kind under the pack's name
    -   4  bytes of the footer
    -   4  magic "HVPF"

The footer's payload is one entry per frame, in order::

    0   32 id
    32  4  offset of the frame in the pack
    36  4  bytes of the frame, head included
    40  4  raw bytes
    44  16 version 2: the first bytes of SHA-256 of the frame as stored

The checksum shows damage of a frame without the key that decrypts it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.envelope import TAG_BYTES, Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.units import MIB

PACK_MAGIC = b"HVPK"
FOOTER_MAGIC = b"HVPF"
_HEAD = struct.Struct("<4sBB2x")
_TRAILER = struct.Struct("<I4s")
_ENTRY = struct.Struct("<32sIII")
_CHECKED_ENTRY = struct.Struct("<32sIII16s")
HEAD_BYTES = _HEAD.size
TRAILER_BYTES = _TRAILER.size
ENTRY_BYTES = _ENTRY.size
CHECKED_ENTRY_BYTES = _CHECKED_ENTRY.size
FRAME_CHECK_BYTES = 16
# Packs of repositories of format 1 and 2. One of format 2 may have both, because it was upgraded.
PACK_VERSIONS = (1, 2)
# A pack is closed at 32 MiB; its last frame and its footer may exceed that.
MAX_PACK_BYTES = 64 * MIB
# What cannot be compressed is stored as it is.
MAX_FRAME_BYTES = FRAME_BYTES + MAX_CHUNK_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class PackEntry:
    """Where a frame is in its pack.

    Attributes:
        check: of the frame as stored, see :func:`frame_check`; empty in an index and in a pack of version 1.
    """

    id: bytes
    offset: int
    frame_bytes: int
    raw_bytes: int
    check: bytes = b""


def frame_check(*parts: bytes | memoryview) -> bytes:
    """Checksum of a frame as stored, given in one or more parts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.digest()[:FRAME_CHECK_BYTES]


def pack_head(kind: Kind, version: int) -> bytes:
    """First bytes of a pack."""
    return _HEAD.pack(PACK_MAGIC, version, kind)


def check_head(data: bytes | memoryview, kind: Kind) -> int:
    """The version of the pack of ``kind`` that begins with ``data``.

    Raises:
        UnknownVersion: a newer hvps wrote it.
        Malformed: it is not.
    """
    if len(data) < HEAD_BYTES:
        raise Malformed(f"a pack of {len(data)} bytes is shorter than its header")
    magic, version, found = _HEAD.unpack_from(data)
    if magic != PACK_MAGIC:
        raise Malformed(f"the pack starts with {magic!r}")
    if version not in PACK_VERSIONS:
        raise UnknownVersion(version, PACK_VERSIONS[-1])
    if found != kind:
        raise Malformed(f"a pack of kind {found} instead of {int(kind)}")
    if bytes(data[:HEAD_BYTES]) != pack_head(kind, version):
        raise Malformed("reserved bytes are not zero")
    return int(version)


def pack_trailer(footer_bytes: int) -> bytes:
    """Last bytes of a pack."""
    return _TRAILER.pack(footer_bytes, FOOTER_MAGIC)


def footer_bytes(trailer: bytes | memoryview) -> int:
    """Length of the footer in front of ``trailer``.

    Raises:
        Malformed: these are not the last bytes of a pack.
    """
    if len(trailer) != TRAILER_BYTES:
        raise Malformed(f"a pack trailer has {TRAILER_BYTES} bytes, not {len(trailer)}")
    length, magic = _TRAILER.unpack(trailer)
    if magic != FOOTER_MAGIC:
        raise Malformed(f"the pack ends with {magic!r}")
    return int(length)


def encode_footer(entries: Iterable[PackEntry], version: int) -> bytes:
    """The footer's payload in a pack of this version."""
    if version == 1:
        return encode_entries(entries)
    return b"".join(
        _CHECKED_ENTRY.pack(entry.id, entry.offset, entry.frame_bytes, entry.raw_bytes, entry.check)
        for entry in entries
    )


def decode_footer(payload: bytes | bytearray | memoryview, version: int) -> tuple[PackEntry, ...]:
    """Entries of a footer's payload in a pack of this version, in the order of the frames.

    Raises:
        Malformed: as with :func:`decode_entries`.
    """
    if version == 1:
        return decode_entries(payload)
    if len(payload) % CHECKED_ENTRY_BYTES:
        raise Malformed(f"{len(payload)} bytes are not a whole number of pack entries")
    return tuple(_entry(*fields) for fields in _CHECKED_ENTRY.iter_unpack(payload))


def encode_entries(entries: Iterable[PackEntry]) -> bytes:
    """Entries as an index has them."""
    return b"".join(
        _ENTRY.pack(entry.id, entry.offset, entry.frame_bytes, entry.raw_bytes) for entry in entries
    )


def decode_entries(payload: bytes | bytearray | memoryview) -> tuple[PackEntry, ...]:
    """Entries as an index has them, in the order of the frames.

    Raises:
        Malformed: it is not a whole number of entries, or an entry is of no frame that hvps writes.
    """
    if len(payload) % ENTRY_BYTES:
        raise Malformed(f"{len(payload)} bytes are not a whole number of pack entries")
    return tuple(_entry(*fields) for fields in _ENTRY.iter_unpack(payload))


def _entry(identity: bytes, offset: int, frame_bytes: int, raw_bytes: int, check: bytes = b"") -> PackEntry:
    if not (
        HEAD_BYTES <= offset <= MAX_PACK_BYTES - frame_bytes
        and FRAME_BYTES <= frame_bytes <= MAX_FRAME_BYTES
        and raw_bytes <= MAX_CHUNK_BYTES
    ):
        raise Malformed(f"a frame of {frame_bytes} bytes at {offset}, of {raw_bytes} bytes raw")
    return PackEntry(identity, offset, frame_bytes, raw_bytes, check)
