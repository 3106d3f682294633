"""Footers of packs. They are needed when the index is damaged, and when a collect moves frames."""

from __future__ import annotations

from hvpsbridge.errors import Damaged, StoreError
from hvpsbridge.formats.envelope import Kind, max_envelope_bytes
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import (
    HEAD_BYTES,
    MAX_PACK_BYTES,
    TRAILER_BYTES,
    PackEntry,
    check_head,
    decode_footer,
    footer_bytes,
)
from hvpsbridge.repository.objects import Objects
from hvpsbridge.units import KIB

# How much of a pack's end is read at first. The footer of a usual pack fits, so it takes one request.
TAIL_BYTES = 64 * KIB


def read_footer(
    objects: Objects, name: str, kind: Kind, pack_bytes: int, data: memoryview | None = None
) -> tuple[PackEntry, ...]:
    """Entries of the footer of pack ``name``, which is ``pack_bytes`` long; its header is checked, too.

    Args:
        objects: the repository.
        name, kind, pack_bytes: of the pack.
        data: the whole pack, if it is in memory.

    Raises:
        Damaged: header, footer or trailer is not what was written.
        ObjectMissing: the pack does not exist.
        StoreError: the store fails.
    """
    if not HEAD_BYTES + TRAILER_BYTES <= pack_bytes <= MAX_PACK_BYTES:
        raise objects.damaged(name, f"a pack cannot have {pack_bytes} bytes")

    def part(offset: int, length: int) -> bytes:
        if data is not None:
            return bytes(data[offset : offset + length])
        return objects.store.get_range(name, offset, length)

    try:
        version = check_head(part(0, HEAD_BYTES), kind)
        tail = part(at := max(0, pack_bytes - TAIL_BYTES), pack_bytes - at)
        start = pack_bytes - TRAILER_BYTES - footer_bytes(tail[-TRAILER_BYTES:])
        if start < HEAD_BYTES:
            raise objects.damaged(name, "its footer is longer than the pack")
        if pack_bytes - start > max_envelope_bytes(kind) + TRAILER_BYTES:
            raise objects.damaged(name, "its footer is longer than a footer can be")
        if start < at:
            tail = part(start, pack_bytes - start)
            at = start
        entries = decode_footer(objects.open(name, kind, tail[start - at : -TRAILER_BYTES]), version)
    except Malformed as err:
        raise objects.damaged(name, err) from err
    if any(entry.offset < HEAD_BYTES or entry.offset + entry.frame_bytes > start for entry in entries):
        raise objects.damaged(name, "its footer lists frames outside of the pack")
    return entries


def footer_fault(
    objects: Objects, name: str, kind: Kind, pack_bytes: int, known: list[tuple[bytes, int, int]]
) -> str | None:
    """What is wrong with a pack's header, footer or trailer; None when they agree with the index.

    Args:
        objects: the repository.
        name, kind, pack_bytes: of the pack.
        known: id, offset and length of each frame in the index, in order.
    """
    try:
        listed = [(e.id, e.offset, e.frame_bytes) for e in read_footer(objects, name, kind, pack_bytes)]
    except Damaged as err:
        return err.what
    except StoreError as err:
        return str(err)
    return None if listed == known else "its footer differs from the index"
