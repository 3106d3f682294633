"""Packs whose entries an index cache keeps in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.cache_rows import Location, kind_of
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES

# Packs whose entries are kept, for look-ups of their neighbours: some 60 KB each.
PACKS_KEPT = 64


@dataclass(frozen=True, slots=True)
class KeptPack:
    """Entries of a pack.

    Attributes:
        number: of the pack.
        first: number of its first entry.
        ids: as whole as the index has them.
    """

    number: int
    first: int
    name: bytes
    kind: Kind
    ids: list[bytes]
    offsets: list[int]
    frames: list[int]
    raws: list[int]

    def location(self, at: int, identity: bytes) -> Location:
        """Where the frame ``identity`` is, which is the pack's entry ``at``."""
        return Location(
            identity, self.kind, self.name, self.offsets[at], self.frames[at], self.raws[at], self.first + at
        )


class KeptPacks:
    """The packs that were looked at last, since a frame's neighbours probably are in its pack.

    Not thread-safe. Numbers are those of one epoch of the index.

    Args:
        keyed: whether ids are keyed.
    """

    def __init__(self, keyed: bool) -> None:
        self._keyed = keyed
        self._packs: OrderedDict[int, KeptPack] = OrderedDict()
        # Ids of packs that are kept.
        self._near: dict[bytes, int] = {}

    def clear(self) -> None:
        """Forget all, because numbers have changed."""
        self._packs.clear()
        self._near.clear()

    def pack(self, index: ChunkIndex, number: int) -> KeptPack:
        """The pack of a number."""
        pack = self._packs.get(number)
        if pack is not None:
            self._packs.move_to_end(number)
            return pack
        row, rows = index.tables.packs[number], index.tables.pack_rows(number)
        pack = KeptPack(
            number,
            int(row["first"]),
            row["name"].tobytes(),
            kind_of(int(row["kind"])),
            rows.whole_ids(),
            rows.offset.tolist(),
            rows.frame.tolist(),
            rows.raw.tolist(),
        )
        self._packs[number] = pack
        self._near.update(dict.fromkeys(pack.ids, number))
        if len(self._packs) > PACKS_KEPT:
            _, old = self._packs.popitem(last=False)
            for identity in old.ids:
                if self._near.get(identity) == old.number:
                    del self._near[identity]
        return pack

    def places(self, index: ChunkIndex, identity: bytes, numbers: Sequence[int]) -> Iterator[Location]:
        """Where entries of these numbers are that have an id, without those in packs that are gone.

        Raises:
            ValueError: an entry is of another id.
        """
        for number in sorted(numbers):
            at = index.tables.pack_of(number)
            if not index.tables.alive[at]:
                continue
            pack = self.pack(index, at)
            known = pack.ids[number - pack.first]
            if identity.startswith(known):
                yield pack.location(number - pack.first, identity)
            elif known[:SHORT_ID_BYTES] != identity[:SHORT_ID_BYTES]:
                raise ValueError("a run leads to another chunk")

    def holder(
        self, index: ChunkIndex, identity: bytes, kind: Kind, usable: Callable[[bytes, bytes], bool]
    ) -> bytes | None:
        """Name of the first pack that has a frame and is usable; packs that are kept come first."""
        near = self._near.get(identity[:SHORT_ID_BYTES] if self._keyed else identity)
        if near is not None and index.tables.alive[near]:
            pack = self._packs[near]
            if pack.kind is kind and usable(identity, pack.name):
                return pack.name
        for place in self.places(index, identity, index.find(identity)):
            if place.kind is kind and usable(identity, place.pack):
                return place.pack
        return None
