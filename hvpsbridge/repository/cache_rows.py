"""What the index cache returns: places of frames, and packs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hvpsbridge.formats.envelope import Kind


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
