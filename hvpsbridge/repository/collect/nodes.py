"""Reads many nodes of trees at once."""

from __future__ import annotations

from collections.abc import Sequence

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.node import NODE_BYTES
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.frames import FrameReader, label


class NodeReader:
    """Reads nodes whose entries in the index are known."""

    def __init__(self, cache: IndexCache, frames: FrameReader) -> None:
        self._cache = cache
        self._frames = frames

    def read(self, identities: Sequence[bytes], numbers: Sequence[int]) -> dict[bytes, bytes]:
        """Nodes by id.

        Args:
            identities: their ids.
            numbers: of their entries.

        Raises:
            Damaged: there is no good copy of one.
        """
        places = self._cache.locations(identities, numbers)
        found: dict[bytes, bytes] = {}
        for place, node in self._frames.read_all(places):
            if isinstance(node, Damaged):
                node = self._frames.read(place.id, Kind.NODE_PACK)
            if len(node) != NODE_BYTES:
                what = f"it is {len(node)} bytes long"
                raise self._frames.damaged(label(Kind.NODE_PACK, place.id), what)
            found[place.id] = node
        return found
