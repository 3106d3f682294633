"""A pack's footer: what the pack says of itself. Nobody needs it while the index is whole."""

from __future__ import annotations

from hvpsbridge.errors import Damaged, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import (
    HEAD_BYTES,
    TRAILER_BYTES,
    PackEntry,
    check_head,
    decode_entries,
    footer_bytes,
)
from hvpsbridge.repository.objects import Objects
from hvpsbridge.units import KIB

# The first read of a pack's end: holds the whole footer of a pack of usual chunks, so it is one request.
TAIL_BYTES = 64 * KIB


def read_footer(objects: Objects, name: str, kind: Kind, pack_bytes: int) -> tuple[PackEntry, ...]:
    """Entries of the footer of pack ``name``, which is ``pack_bytes`` long; its head is looked at too.

    Raises:
        Damaged: head, footer or trailer are not what was written.
        ObjectMissing: the pack is gone.
        StoreError: the store fails.
    """
    if pack_bytes < HEAD_BYTES + TRAILER_BYTES:
        raise objects.damaged(name, f"{pack_bytes} bytes are no pack")
    store = objects.store
    try:
        check_head(store.get_range(name, 0, HEAD_BYTES), kind)
        tail = store.get_range(name, at := max(0, pack_bytes - TAIL_BYTES), pack_bytes - at)
        start = pack_bytes - TRAILER_BYTES - footer_bytes(tail[-TRAILER_BYTES:])
        if start < HEAD_BYTES:
            raise objects.damaged(name, "its footer is longer than the pack")
        if start < at:
            tail = store.get_range(name, start, pack_bytes - start)
            at = start
        entries = decode_entries(objects.open(name, kind, tail[start - at : -TRAILER_BYTES]))
    except Malformed as err:
        raise objects.damaged(name, err) from err
    if any(entry.offset < HEAD_BYTES or entry.offset + entry.frame_bytes > start for entry in entries):
        raise objects.damaged(name, "its footer names frames outside of the pack")
    return entries


def footer_fault(
    objects: Objects, name: str, kind: Kind, pack_bytes: int, known: list[tuple[bytes, int, int]]
) -> str | None:
    """What is wrong with a pack's head, footer or trailer, or that it says otherwise than the index.

    Args:
        objects, name, kind, pack_bytes: the pack.
        known: id, offset and length of each frame, in order, as the index has them.
    """
    try:
        listed = [(e.id, e.offset, e.frame_bytes) for e in read_footer(objects, name, kind, pack_bytes)]
    except Damaged as err:
        return err.what
    except StoreError as err:
        return str(err)
    return None if listed == known else "its footer says otherwise than the index"
