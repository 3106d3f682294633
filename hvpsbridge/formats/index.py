"""An index object: where the chunks and nodes of one commit are in its packs.

Payload of an envelope of kind INDEX::

    0   4  count of index objects that this one supersedes
    4   4  count of packs
    8   -  superseded objects: their names, 16 bytes each
    -   -  packs: 16 bytes name, 1 kind (1 data, 2 node), 3 zero, 4 count of entries, 8 bytes of the pack
    -   -  entries of the packs, in the packs' order, as in a pack's footer of version 1
    -   16 format 2: the run object of the writer; nothing if no run stored the packs, as after a collect
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import ENTRY_BYTES, MAX_PACK_BYTES, PackEntry, decode_entries, encode_entries

NAME_BYTES = 16
_COUNTS = struct.Struct("<II")
_PACK = struct.Struct("<16sB3xIQ")


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack and its entries. ``name`` is 16 random bytes; the object's name is their hex."""

    name: bytes
    kind: Kind
    pack_bytes: int
    entries: tuple[PackEntry, ...]


@dataclass(frozen=True, slots=True)
class IndexObject:
    """Content of one index object.

    Attributes:
        run: the run object of the writer that stored the packs; None if a collect or a repair listed them,
            and in format 1.
    """

    supersedes: tuple[bytes, ...]
    packs: tuple[IndexedPack, ...]
    run: UUID | None = None


def encode_index(index: IndexObject) -> bytes:
    """The payload's bytes."""
    parts = [_COUNTS.pack(len(index.supersedes), len(index.packs)), *index.supersedes]
    parts += [_PACK.pack(pack.name, pack.kind, len(pack.entries), pack.pack_bytes) for pack in index.packs]
    parts += [encode_entries(pack.entries) for pack in index.packs]
    if index.run is not None:
        parts.append(index.run.bytes)
    return b"".join(parts)


class IndexParts(NamedTuple):
    """The parts of an index object's payload, which the views refer to.

    Attributes:
        packs, entries: whole rows; there are as many entries as the packs count.
    """

    supersedes: tuple[bytes, ...]
    packs: memoryview
    entries: memoryview
    run: UUID | None


def index_parts(payload: bytes | memoryview) -> IndexParts:
    """The parts of ``payload``; what is in the rows is not checked.

    Raises:
        Malformed: the counts do not match the length.
    """
    view = memoryview(payload)
    if len(view) < _COUNTS.size:
        raise Malformed(f"an index of {len(view)} bytes is too short")
    superseded, packs = _COUNTS.unpack_from(view)
    packs_at = _COUNTS.size + superseded * NAME_BYTES
    entries_at = packs_at + packs * _PACK.size
    if entries_at > len(view):
        raise Malformed(f"{packs} packs do not fit into {len(view)} bytes")
    names = tuple(bytes(view[at : at + NAME_BYTES]) for at in range(_COUNTS.size, packs_at, NAME_BYTES))
    table = view[packs_at:entries_at]
    end = entries_at + ENTRY_BYTES * sum(count for _, _, count, _ in _PACK.iter_unpack(table))
    if end > len(view):
        raise Malformed("entries exceed the end of the index")
    run = bytes(view[end:])
    if len(run) not in (0, NAME_BYTES):
        raise Malformed(f"{len(run)} bytes after the last entry")
    return IndexParts(names, table, view[entries_at:end], UUID(bytes=run) if run else None)


def decode_index(payload: bytes | memoryview) -> IndexObject:
    """The index in ``payload``.

    Raises:
        Malformed: the counts do not match the length, a kind is unknown, or a pack or frame has a size
            that hvps does not write.
    """
    parts = index_parts(payload)
    return IndexObject(parts.supersedes, tuple(_packs(parts)), parts.run)


def _packs(parts: IndexParts) -> Iterator[IndexedPack]:
    at = 0
    for name, kind, count, pack_bytes in _PACK.iter_unpack(parts.packs):
        if kind not in (Kind.DATA_PACK, Kind.NODE_PACK):
            raise Malformed(f"unexpected kind {kind} of a pack")
        end = at + count * ENTRY_BYTES
        entries = decode_entries(parts.entries[at:end])
        if pack_bytes > MAX_PACK_BYTES or any(e.offset + e.frame_bytes > pack_bytes for e in entries):
            raise Malformed(f"frames beyond the end of a pack of {pack_bytes} bytes")
        yield IndexedPack(name, Kind(kind), pack_bytes, entries)
        at = end
