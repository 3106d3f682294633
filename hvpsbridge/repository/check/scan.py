"""Finds out which packs and frames points need, and which are bad.

Needed chunks are marked in a bitmap of the dense numbers of the index cache, so it takes one bit per chunk,
however many points there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.cache_rows import KnownPack, Location
from hvpsbridge.repository.check.footers import footer_fault
from hvpsbridge.repository.frames import FrameReader, label
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stored_packs import pack_sizes, size_fault

# In a list of bad frames, the pack of a chunk that is in no index.
NO_PACK = bytes(16)


@dataclass(frozen=True, slots=True)
class PackProblem:
    """A problem that touches no point.

    Attributes:
        recorded: whether all of its frames are listed as bad, so that no later backup uses them.
    """

    name: str
    what: str
    recorded: bool


class Scan:
    """Scans packs and frames for one verification.

    Args:
        objects, cache, frames: of the repository.
        listed: frames (id, pack name) that are listed as bad. No backup uses them, so they are only noted if
            no point needs them, or there is another copy.

    Attributes:
        chunks: how many distinct chunks are marked.
        hashed_frames, hashed_bytes: how many were read and are good.
        bad: chunks and nodes (id, pack name) that are bad.
    """

    def __init__(
        self,
        objects: Objects,
        cache: IndexCache,
        frames: FrameReader,
        listed: frozenset[tuple[bytes, bytes]] = frozenset(),
    ) -> None:
        self._listed = listed
        self._objects = objects
        self._cache = cache
        self._frames = frames
        self._packs = cache.packs()
        # One listing instead of a request for each pack.
        sizes = pack_sizes(objects)
        self._marks = bytearray(cache.highest_number() // 8 + 1)
        self._pack_faults = {
            pack.name: fault
            for pack in self._packs
            if (fault := size_fault(sizes.get(pack_name(pack.kind, pack.name)), pack.pack_bytes)) is not None
        }
        self._needed_packs: set[bytes] = set()
        # Chunks with a bad copy, and why. They are lost only if there is no good copy.
        self._suspects: dict[bytes, str] = {}
        self._unneeded: list[PackProblem] = []
        # The pack whose frames are being checked.
        self._current: bytes | None = None
        self.chunks = 0
        self.hashed_frames = 0
        self.hashed_bytes = 0
        self.bad: list[tuple[bytes, bytes]] = []

    def mark(self, identities: Sequence[bytes]) -> None:
        """Mark chunks that a point needs."""
        found = self._frames.locate_all(identities, Kind.DATA_PACK)
        for identity in identities:
            self._mark(identity, found.get(identity))

    def _mark(self, identity: bytes, found: tuple[Location, ...] | None) -> None:
        if identity in self._suspects:
            return
        try:
            places = found or self._frames.locate(identity, Kind.DATA_PACK)
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

    def _is_marked(self, place: Location) -> bool:
        byte = place.number // 8
        return byte < len(self._marks) and bool(self._marks[byte] & (1 << place.number % 8))

    def packs(self, nodes: Iterable[bytes] | None = None) -> list[KnownPack]:
        """Packs that are there: all, or with ``nodes`` those that have marked chunks or one of the nodes."""
        there = [pack for pack in self._packs if pack.name not in self._pack_faults]
        if nodes is None:
            return there
        needed = self._needed_packs | self._cache.packs_with(nodes, Kind.NODE_PACK)
        return [pack for pack in there if pack.name in needed]

    def hash_all(self, subset: tuple[int, int], *, marked_only: bool) -> None:
        """Read and check frames: only marked chunks, or all chunks and nodes."""
        structure: list[PackProblem] = []
        self._hash(self._wanted(subset, marked_only, structure))
        self._unneeded += structure

    def hash_packs(self, packs: Iterable[KnownPack]) -> None:
        """Read and check all frames of packs, which are taken one by one."""
        structure: list[PackProblem] = []
        self._hash(place for pack in packs for place in self._whole_pack(pack, structure))
        self._unneeded += structure

    def _whole_pack(self, pack: KnownPack, structure: list[PackProblem]) -> Iterator[Location]:
        places = self._cache.pack_entries(pack.number)
        yield from places
        if (fault := self._structure_fault(pack, places)) is not None:
            structure.append(PackProblem(pack_name(pack.kind, pack.name), fault, recorded=False))

    def finished(self, packs: Sequence[KnownPack]) -> list[KnownPack]:
        """Those of ``packs``, which are read in this order, that were checked before the one in progress."""
        names = [pack.name for pack in packs]
        return list(packs[: names.index(self._current)]) if self._current in names else []

    def faulty(self) -> set[bytes]:
        """Names of packs that are not what was written, unless all that is wrong is listed as bad already and
        has other good copies, or is not needed."""
        lost = self.faults()
        found = {
            pack for identity, pack in self.bad if identity in lost or (identity, pack) not in self._listed
        }
        names = {problem.name for problem in self._unneeded if not problem.recorded}
        return found | {pack.name for pack in self._packs if pack_name(pack.kind, pack.name) in names}

    def _hash(self, places: Iterable[Location]) -> None:
        for place, found in self._frames.read_ordered(places):
            self._current = place.pack
            if not isinstance(found, Damaged):
                self.hashed_frames += 1
                self.hashed_bytes += len(found)
                continue
            self.bad.append((place.id, place.pack))
            if place.kind is Kind.DATA_PACK and self._is_marked(place):
                self._suspects.setdefault(place.id, f"{found.name}: {found.what}")
            else:
                name, what = label(place.kind, place.id), f"{found.name}: {found.what}"
                recorded = (place.id, place.pack) in self._listed
                self._unneeded.append(PackProblem(name, what, recorded=recorded))

    def _wanted(
        self, subset: tuple[int, int], marked_only: bool, structure: list[PackProblem]
    ) -> Iterator[Location]:
        """Frames to hash, pack by pack; what is wrong with the structure of packs is added to a list."""
        part, count = subset
        for pack in self._packs:
            if pack.name in self._pack_faults or (marked_only and pack.kind is Kind.NODE_PACK):
                continue
            places = self._cache.pack_entries(pack.number)
            for place in places:
                if marked_only and not self._is_marked(place):
                    continue
                if count == 1 or int.from_bytes(place.id[:8], "big") % count == part - 1:
                    yield place
            if not marked_only and (fault := self._structure_fault(pack, places)) is not None:
                structure.append(PackProblem(pack_name(pack.kind, pack.name), fault, recorded=False))

    def _healthy(self) -> set[bytes]:
        """Marked chunks with a bad copy that have another one in which nothing bad was found."""
        bad = set(self.bad)
        return {
            identity
            for identity in self._suspects
            if any(
                place.kind is Kind.DATA_PACK
                and place.pack not in self._pack_faults
                and (identity, place.pack) not in bad
                for place in self._cache.find(identity)
            )
        }

    def faults(self) -> dict[bytes, str]:
        """Marked chunks that have no good copy, and what is wrong with one of the copies."""
        healthy = self._healthy()
        return {identity: what for identity, what in self._suspects.items() if identity not in healthy}

    def pack_problems(self, everything: bool) -> Iterator[PackProblem]:
        """Bad packs without marked chunks, and bad frames that no point needs; the frames become bad ones."""
        if not everything:
            return
        yield from self._unneeded
        for pack in self._packs:
            if pack.name in self._pack_faults and pack.name not in self._needed_packs:
                # Listed as bad, so that no backup takes its chunks for stored.
                frames = {(place.id, pack.name) for place in self._cache.pack_entries(pack.number)}
                self.bad += sorted(frames)
                name, what = pack_name(pack.kind, pack.name), self._pack_faults[pack.name]
                yield PackProblem(name, what, recorded=frames <= self._listed)
        # A chunk with another good copy is not lost.
        bad: dict[bytes, set[tuple[bytes, bytes]]] = {}
        for identity, pack_id in self.bad:
            bad.setdefault(identity, set()).add((identity, pack_id))
        for identity in self._healthy():
            what = f"{self._suspects[identity]}; another copy is good"
            recorded = bad.get(identity, set()) <= self._listed
            yield PackProblem(label(Kind.DATA_PACK, identity), what, recorded=recorded)

    def _structure_fault(self, pack: KnownPack, places: Sequence[Location]) -> str | None:
        """What is wrong with a pack's header, footer or trailer. Readers need them only if the index is
        lost."""
        known = [(place.id, place.offset, place.frame_bytes) for place in places]
        name = pack_name(pack.kind, pack.name)
        return footer_fault(self._objects, name, pack.kind, pack.pack_bytes, known)
