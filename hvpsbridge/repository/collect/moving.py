"""Moves frames to new packs as they are stored, after comparing each with its checksum.

No frame is decrypted, so this needs no data key. Packs of format 1 have no checksums: their frames are read
and checked by their ids instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hvpsbridge.errors import Damaged, NoDataKey, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.pack import MAX_PACK_BYTES, PackEntry, frame_check
from hvpsbridge.repository.cache_rows import KnownPack, Location
from hvpsbridge.repository.check.footers import read_footer
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.layout import PACK_FOLDERS, pack_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import PackWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WholePack:
    """A pack in memory, and its entries by id."""

    name: str
    data: memoryview
    entries: dict[bytes, PackEntry]


def read_whole(objects: Objects, kind: Kind, pack: bytes) -> WholePack:
    """Read a pack and its footer.

    Raises:
        Damaged: its head, footer or trailer is not what was written.
        ObjectMissing: it is gone.
    """
    name = pack_name(kind, pack)
    data = memoryview(objects.store.get(name, MAX_PACK_BYTES))
    entries = read_footer(objects, name, kind, len(data), data)
    return WholePack(name, data, {entry.id: entry for entry in entries})


class FrameCheck:
    """Compares frames with what was written."""

    def __init__(self, objects: Objects, frames: FrameReader) -> None:
        self._objects = objects
        self._frames = frames

    def stored(self, pack: WholePack, place: Location) -> memoryview:
        """The frame as stored, checked.

        Raises:
            Damaged: it is not what was written.
        """
        data = pack.data[place.offset : place.offset + place.frame_bytes]
        entry = pack.entries.get(place.id)
        if entry is None or (entry.offset, entry.frame_bytes) != (place.offset, place.frame_bytes):
            raise self._objects.damaged(pack.name, "its footer differs from the index")
        if not entry.check:
            self._frames.decode(place, data)
        elif frame_check(data) != entry.check:
            raise self._objects.damaged(pack.name, f"frame {place.id.hex()[:16]} does not match its checksum")
        return data

    def bad(self, kind: Kind, pack: bytes, places: Iterable[Location]) -> set[bytes]:
        """Ids of the frames of a pack that are not what was written."""
        wanted = list(places)
        try:
            whole = read_whole(self._objects, kind, pack)
        except (Damaged, ObjectMissing) as err:
            logger.error("%s", err)
            return {place.id for place in wanted}
        found = set()
        for place in wanted:
            try:
                self.stored(whole, place)
            except Damaged as err:
                logger.error("%s", err)
                found.add(place.id)
            except NoDataKey:  # a pack of format 1, which has no checksums
                found.add(place.id)
        return found


class Mover:
    """Moves frames to new packs.

    Args:
        objects, frames: of the repository.
        published: called with each new pack when it is stored.

    Attributes:
        moved_bytes: bytes of the frames that were moved.
        sources: by name of each new pack, the packs that its frames came from.
    """

    def __init__(
        self, objects: Objects, frames: FrameReader, published: Callable[[IndexedPack], None]
    ) -> None:
        self._objects = objects
        self._check = FrameCheck(objects, frames)
        self._published = published
        self._writers = {kind: PackWriter(objects, kind, self._stored) for kind in PACK_FOLDERS}
        self._open: dict[Kind, set[bytes]] = {kind: set() for kind in PACK_FOLDERS}
        self.moved_bytes = 0
        self.sources: dict[bytes, frozenset[bytes]] = {}

    def _stored(self, pack: IndexedPack) -> None:
        self.sources[pack.name] = frozenset(self._open[pack.kind])
        self._open[pack.kind].clear()
        self._published(pack)

    def move(self, pack: KnownPack, places: Sequence[Location]) -> None:
        """Store the frames of a pack at ``places`` again, in their order.

        Raises:
            Damaged: one of them is not what was written; nothing of the pack was moved.
        """
        whole = read_whole(self._objects, pack.kind, pack.name)
        frames = [(place, self._check.stored(whole, place)) for place in places]
        for place, data in frames:
            self._open[pack.kind].add(pack.name)
            self.moved_bytes += self._writers[pack.kind].append(place.id, place.raw_bytes, data)

    def flush(self) -> None:
        """Store the open packs."""
        for writer in self._writers.values():
            writer.flush()

    def abandon(self) -> None:
        """Discard the open packs."""
        for writer in self._writers.values():
            writer.abandon()
