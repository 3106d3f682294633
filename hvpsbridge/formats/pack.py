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
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.envelope import FORMAT, TAG_BYTES, Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.units import MIB

PACK_MAGIC = b"HVPK"
FOOTER_MAGIC = b"HVPF"
_HEAD = struct.Struct("<4sBB2x")
_TRAILER = struct.Struct("<I4s")
_ENTRY = struct.Struct("<32sIII")
HEAD_BYTES = _HEAD.size
TRAILER_BYTES = _TRAILER.size
ENTRY_BYTES = _ENTRY.size
# A pack is closed at 32 MiB; its last frame and its footer may exceed that.
MAX_PACK_BYTES = 64 * MIB
# What cannot be compressed is stored as it is.
MAX_FRAME_BYTES = FRAME_BYTES + MAX_CHUNK_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class PackEntry:
    """Where a frame is in its pack."""

    id: bytes
    offset: int
    frame_bytes: int
    raw_bytes: int


def pack_head(kind: Kind) -> bytes:
    """First bytes of a pack."""
    return _HEAD.pack(PACK_MAGIC, FORMAT, kind)


def check_head(data: bytes | memoryview, kind: Kind) -> None:
    """Check that ``data`` is the beginning of a pack of ``kind``.

    Raises:
        UnknownVersion: a newer hvps wrote it.
        Malformed: it is not.
    """
    if len(data) < HEAD_BYTES:
        raise Malformed(f"a pack of {len(data)} bytes is shorter than its header")
    magic, version, found = _HEAD.unpack_from(data)
    if magic != PACK_MAGIC:
        raise Malformed(f"the pack starts with {magic!r}")
    if version != FORMAT:
        raise UnknownVersion(version, FORMAT)
    if found != kind:
        raise Malformed(f"a pack of kind {found} instead of {int(kind)}")
    if bytes(data[:HEAD_BYTES]) != pack_head(kind):
        raise Malformed("reserved bytes are not zero")


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


def encode_entries(entries: Iterable[PackEntry]) -> bytes:
    """The footer's payload."""
    return b"".join(
        _ENTRY.pack(entry.id, entry.offset, entry.frame_bytes, entry.raw_bytes) for entry in entries
    )


def decode_entries(payload: bytes | bytearray | memoryview) -> tuple[PackEntry, ...]:
    """Entries of a footer's payload, in the order of the frames.

    Raises:
        Malformed: it is not a whole number of entries, or an entry is of no frame that hvps writes.
    """
    if len(payload) % ENTRY_BYTES:
        raise Malformed(f"{len(payload)} bytes are not a whole number of pack entries")
    return tuple(_entry(*fields) for fields in _ENTRY.iter_unpack(payload))


def _entry(identity: bytes, offset: int, frame_bytes: int, raw_bytes: int) -> PackEntry:
    if not (
        HEAD_BYTES <= offset <= MAX_PACK_BYTES - frame_bytes
        and FRAME_BYTES <= frame_bytes <= MAX_FRAME_BYTES
        and raw_bytes <= MAX_CHUNK_BYTES
    ):
        raise Malformed(f"a frame of {frame_bytes} bytes at {offset}, of {raw_bytes} bytes raw")
    return PackEntry(identity, offset, frame_bytes, raw_bytes)
