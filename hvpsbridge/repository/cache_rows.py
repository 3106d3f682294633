"""What the index cache returns: places of frames, and packs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.pack import PackEntry

# Calling the class takes several times as long, and there may be 655,360 packs.
_KINDS = {int(kind): kind for kind in Kind}


class Location(NamedTuple):
    """Where a frame is. Numbers are dense, for bitmaps; -1 in a pack that is not published.

    A tuple, because it is made for each chunk: a frozen dataclass takes three times as long.
    """

    id: bytes
    kind: Kind
    pack: bytes
    offset: int
    frame_bytes: int
    raw_bytes: int
    number: int = -1


@dataclass(frozen=True, slots=True)
class KnownPack:
    """A pack in a published index."""

    number: int
    name: bytes
    kind: Kind
    pack_bytes: int


def place_in(pack: IndexedPack, entry: PackEntry) -> Location:
    """Where a frame of a pack is, without a number."""
    return Location(entry.id, pack.kind, pack.name, entry.offset, entry.frame_bytes, entry.raw_bytes)


def places_in(pack: IndexedPack) -> list[Location]:
    """Where the frames of a pack are, without numbers, in the order of its entries."""
    return [place_in(pack, entry) for entry in pack.entries]


def kind_of(value: int) -> Kind:
    """The kind of a pack, as a row of a table has it."""
    return _KINDS.get(value) or Kind(value)
