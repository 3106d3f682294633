"""Finds out which packs and frames points need, and which are bad.

Needed chunks are marked in a bitmap of the dense numbers of the index cache, so it takes one bit per chunk,
however many points there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository import layout
from hvpsbridge.repository.cache import IndexCache, KnownPack, Location
from hvpsbridge.repository.check.footers import footer_fault
from hvpsbridge.repository.frames import FrameReader, label
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.objects import Objects

# In a list of bad frames, the pack of a chunk that is in no index.
NO_PACK = bytes(16)


class Scan:
    """Scans packs and frames for one verification.

    Attributes:
        chunks: how many distinct chunks are marked.
        hashed_frames, hashed_bytes: how many were read and are good.
        bad: chunks and nodes (id, pack name) that are bad.
    """

    def __init__(self, objects: Objects, cache: IndexCache, frames: FrameReader) -> None:
        self._objects = objects
        self._cache = cache
        self._frames = frames
        self._packs = cache.packs()
        # One listing instead of a request for each pack.
        self._sizes = {
            info.name: info.size_bytes
            for folder in layout.PACK_FOLDERS.values()
            for info in objects.list(folder)
        }
        self._marks = bytearray(cache.highest_number() // 8 + 1)
        self._pack_faults = {
            pack.name: fault for pack in self._packs if (fault := self._pack_fault(pack)) is not None
        }
        self._needed_packs: set[bytes] = set()
        # Chunks with a bad copy, and why. They are lost only if there is no good copy.
        self._suspects: dict[bytes, str] = {}
        self._healthy: set[bytes] = set()
        self._unneeded: list[tuple[str, str]] = []
        self.chunks = 0
        self.hashed_frames = 0
        self.hashed_bytes = 0
        self.bad: list[tuple[bytes, bytes]] = []

    def mark(self, identity: bytes) -> None:
        """Mark a chunk that a point needs."""
        if identity in self._suspects:
            return
        try:
            places = self._frames.locate(identity, Kind.DATA_PACK)
        except Damaged as err:
            self.chunks += 1
            self._suspects[identity] = err.what
            self.bad.append((identity, NO_PACK))
            return
        if self._is_marked(places[0]):
            return
        self.chunks += 1
        for place in places:
            if place.number // 8 >= len(self._marks):  # published by another process since the start
                self._marks.extend(bytes(place.number // 8 + 1 - len(self._marks)))
            self._marks[place.number // 8] |= 1 << place.number % 8
            self._needed_packs.add(place.pack)
        faulty = [place for place in places if place.pack in self._pack_faults]
        if faulty:
            self.bad += [(identity, place.pack) for place in faulty]
            where = pack_name(Kind.DATA_PACK, faulty[0].pack)
            self._suspects[identity] = f"{where}: {self._pack_faults[faulty[0].pack]}"
            if len(faulty) < len(places):
                self._healthy.add(identity)

    def _is_marked(self, place: Location) -> bool:
        byte = place.number // 8
        return byte < len(self._marks) and bool(self._marks[byte] & (1 << place.number % 8))

    def hash_all(self, subset: tuple[int, int], *, marked_only: bool) -> None:
        """Read and check frames: only marked chunks, or all chunks and nodes."""
        part, count = subset
        for pack in self._packs:
            if pack.name in self._pack_faults or (marked_only and pack.kind is Kind.NODE_PACK):
                continue
            wanted = [
                place
                for place in self._cache.pack_entries(pack.number)
                if (not marked_only or self._is_marked(place))
                and int.from_bytes(place.id[:8], "big") % count == part - 1
            ]
            self._hash_pack(wanted)
            if not marked_only and (fault := self._structure_fault(pack)) is not None:
                self._unneeded.append((pack_name(pack.kind, pack.name), fault))

    def _hash_pack(self, wanted: list[Location]) -> None:
        for place, found in self._frames.read_all(wanted):
            if not isinstance(found, Damaged):
                self.hashed_frames += 1
                self.hashed_bytes += len(found)
                if place.kind is Kind.DATA_PACK and self._has_copies(place):
                    self._healthy.add(place.id)
                continue
            self.bad.append((place.id, place.pack))
            if place.kind is Kind.DATA_PACK and self._is_marked(place):
                self._suspects.setdefault(place.id, f"{found.name}: {found.what}")
            else:
                self._unneeded.append((label(place.kind, place.id), f"{found.name}: {found.what}"))

    def _has_copies(self, place: Location) -> bool:
        return len(self._cache.find(place.id)) > 1

    def faults(self) -> dict[bytes, str]:
        """Marked chunks that have no good copy, and what is wrong with one of the copies."""
        return {identity: what for identity, what in self._suspects.items() if identity not in self._healthy}

    def pack_problems(self, everything: bool) -> Iterator[tuple[str, str]]:
        """Bad packs without marked chunks, and bad frames that no point needs."""
        if not everything:
            return
        yield from self._unneeded
        for pack in self._packs:
            if pack.name in self._pack_faults and pack.name not in self._needed_packs:
                yield pack_name(pack.kind, pack.name), self._pack_faults[pack.name]
        # A chunk with another good copy is not lost, but worth reporting.
        for identity in self._healthy & self._suspects.keys():
            yield label(Kind.DATA_PACK, identity), f"{self._suspects[identity]}; another copy is good"

    def _pack_fault(self, pack: KnownPack) -> str | None:
        size = self._sizes.get(pack_name(pack.kind, pack.name))
        if size is None:
            return "the pack is missing"
        return (
            None if size == pack.pack_bytes else f"it has {size} bytes, but the index says {pack.pack_bytes}"
        )

    def _structure_fault(self, pack: KnownPack) -> str | None:
        """What is wrong with a pack's header, footer or trailer. Readers need them only if the index is
        lost."""
        known = [(p.id, p.offset, p.frame_bytes) for p in self._cache.pack_entries(pack.number)]
        name = pack_name(pack.kind, pack.name)
        return footer_fault(self._objects, name, pack.kind, pack.pack_bytes, known)
