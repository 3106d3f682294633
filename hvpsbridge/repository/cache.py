"""The chunk index on the client, made only from published index objects.

It may be deleted at any time; the next use rebuilds it from the repository, and so does whatever meets a file
that is corrupt. Rows of a writer's own packs that are not in a published index yet are in memory, so none
remain after a crash. Any number of processes may use the files; each brings them up to date before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.index_table import IndexTable, Rows
from hvpsbridge.repository.cache_file import CacheFile, Corrupt
from hvpsbridge.repository.cache_packs import KeptPack, KeptPacks
from hvpsbridge.repository.cache_rows import KnownPack, Location, kind_of
from hvpsbridge.repository.cache_source import IndexLoader, Source, as_table
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.marks import Marked, Marks, live_bytes
from hvpsbridge.repository.chunk_index.runs import halves
from hvpsbridge.repository.own_packs import OwnPacks

T = TypeVar("T")
# Files that are corrupt so often are on a disk that fails.
MAX_RENEWALS = 3
# How often index objects are listed again because one of them was replaced since.
MAX_LISTINGS = 5
# Ids in one query.
FIND_AT_ONCE = 500
# Chunks of index objects that are added at once; some 300 bytes each while they are sorted.
ADD_AT_ONCE = 500_000


class Renumbered(Exception):
    """Packs have other numbers than those that were asked for: ``IndexCache.renewals`` has changed."""


class IndexCache:
    """One view of the cache. Thread-safe: one operation at a time.

    Args:
        folder: of its files; made if it is missing. None for a cache in memory.
        source: what it is made from.
        keyed: whether ids are keyed. The files then have 16 bytes of each, otherwise all 32.
        loaders: index objects that are loaded at a time, by threads if more than one.

    Attributes:
        renewals: how often numbers of locations and packs changed: it was rebuilt because it was corrupt, or
            rows of packs that are gone were removed.
    """

    def __init__(self, folder: Path | None, source: Source, *, keyed: bool = False, loaders: int = 1) -> None:
        self._loader = IndexLoader(source, loaders)
        self._lock = threading.RLock()
        self._keyed = keyed
        self._file = CacheFile(folder, keyed)
        self._epoch = self._file.index.epoch
        self._own = OwnPacks()
        self._bad: frozenset[tuple[bytes, bytes]] = frozenset()
        self._doomed: frozenset[bytes] = frozenset()
        self._packs = KeptPacks(keyed)
        self._rebuilt = 0
        self.renewals = 0

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._file.close()

    def _do(self, work: Callable[[ChunkIndex], T]) -> T:
        """The result of ``work``; if a file is corrupt, all are rebuilt and ``work`` is done again."""
        with self._lock:
            while True:
                try:
                    with self._file.errors():
                        result = work(self._file.index)
                        self._follow()
                        return result
                except Corrupt as err:
                    self._renew(err)

    def _follow(self) -> None:
        """Forget numbers of another epoch."""
        if self._file.index.epoch != self._epoch:
            self._epoch = self._file.index.epoch
            self.renewals += 1
            self._packs.clear()

    def _renew(self, reason: Corrupt) -> None:
        if self._rebuilt >= MAX_RENEWALS:
            raise self._file.failure(reason)
        self._rebuilt += 1
        self._file.renew(reason)
        self._follow()
        self.synchronise()

    # -- keeping it up to date ------------------------------------------------------------------------

    def synchronise(self) -> None:
        """Update the cache to exactly the current index objects, without those that others supersede.

        An index object that is superseded remains if the store refuses to delete it.
        """
        for _ in range(MAX_LISTINGS):
            unread = self._follow_source()
            # One that is gone was replaced since the listing, by one that was not in it yet.
            if not unread or unread <= self._loader.names():
                return

    def _follow_source(self) -> frozenset[bytes]:
        """Update the cache to what is listed now; names of index objects that were not read."""
        self._do(lambda index: index.reload())
        # Before the listing, so that what another process adds after it does not seem to be gone.
        known = self._do(lambda index: index.names)
        listed = self._loader.names()
        gathered: list[tuple[bytes, IndexTable]] = []
        # Fetched outside the lock of the files, for which other processes may be waiting.
        vanished = known - listed
        unread: set[bytes] = set()
        for name, table in self._loader.load_all(sorted(listed - known - self._superseded(vanished))):
            if table is None:
                unread.add(name)
            else:
                gathered.append((name, table))
            if sum(len(each.entries) for _, each in gathered) >= ADD_AT_ONCE:
                self._add_all(gathered)
                gathered = []
        self._add_all(gathered)
        # Last, so that packs that are listed by another index object now are there all the time.
        gone = vanished | self._superseded(vanished)
        self._do(lambda index: index.drop(gone))
        self._do(lambda index: index.tidy(quickly=False))
        return frozenset(unread)

    def _add_all(self, objects: Sequence[tuple[bytes, IndexTable]]) -> None:
        if objects:
            self._do(lambda index: index.add(objects))

    def superseded(self) -> frozenset[bytes]:
        """Names of index objects that others supersede."""
        return self._superseded(frozenset())

    def _superseded(self, vanished: frozenset[bytes]) -> frozenset[bytes]:
        """Names of index objects that others supersede, without those that have vanished."""
        return self._do(lambda index: index.superseded(vanished))

    def add(self, name: bytes, content: IndexObject | IndexTable) -> None:
        """Add a published index object, unless it is there already."""
        self._add_all([(name, as_table(content))])
        self._do(lambda index: index.tidy(quickly=True))

    def check(self) -> None:
        """Compare the files with their checksums; rebuild them if they differ."""
        self._do(lambda index: index.check())

    def matches(self, name: bytes, content: IndexObject | IndexTable) -> bool:
        """Whether the rows of a published index object are equal to its content."""
        table = as_table(content)
        return self._do(lambda index: index.lists(name, table))

    def correct(self, name: bytes, content: IndexObject | IndexTable) -> None:
        """Replace the rows of a published index object by its content. Rows that are right keep numbers."""
        self._do(lambda index: index.drop(frozenset({name})))
        self._add_all([(name, as_table(content))])

    # -- looking up ---------------------------------------------------------------------------------

    @property
    def look_ups(self) -> int:
        """How many ids were looked for in the whole index; neighbours of what was found are not."""
        return self._file.index.look_ups

    def find(self, identity: bytes) -> tuple[Location, ...]:
        """All places of the frame ``identity``, unpublished ones first."""
        return tuple(self.find_all([identity]).get(identity, ()))

    def find_all(self, identities: Sequence[bytes]) -> dict[bytes, list[Location]]:
        """All places of frames by id, unpublished ones first; nothing for ids that are nowhere."""
        with self._lock:
            found = {identity: own for identity in identities if (own := self._own.places(identity))}
            for identity, places in self._do(lambda index: self._published(index, identities)).items():
                found.setdefault(identity, []).extend(places)
            return found

    def _published(self, index: ChunkIndex, identities: Sequence[bytes]) -> dict[bytes, list[Location]]:
        # One by one is faster up to some ids.
        if len(identities) < 8:
            numbers = [index.find(identity) for identity in identities]
        else:
            numbers = index.find_all(identities)
        found: dict[bytes, list[Location]] = {}
        for identity, each in zip(identities, numbers, strict=True):
            if each and (places := list(self._packs.places(index, identity, each))):
                found[identity] = places
        return found

    def holder(self, identity: bytes, kind: Kind, run: int) -> bytes | None:
        """Name of a pack that has a frame, so that writer ``run`` need not store it; None without one.

        Frames listed as bad do not count, nor do those in doomed packs, nor those of other writers that are
        in no published index: if that writer died, they could not be found.
        """
        with self._lock:
            own = self._own.holder(identity, kind, run)
            return own or self._do(lambda index: self._packs.holder(index, identity, kind, self._usable))

    def _usable(self, identity: bytes, pack: bytes) -> bool:
        return pack not in self._doomed and (identity, pack) not in self._bad

    def packs(self) -> tuple[KnownPack, ...]:
        """Packs of all published index objects."""
        return self._do(lambda index: _known_packs(index, np.flatnonzero(index.tables.alive)))

    def pack_names(self) -> bytes:
        """Names of the packs of all published index objects, one after another."""
        return self._do(lambda index: index.tables.packs["name"][index.tables.alive].tobytes())

    def packs_with(self, identities: Iterable[bytes], kind: Kind) -> set[bytes]:
        """Names of packs that have the frames, one for each; without frames that are nowhere."""

        def look(index: ChunkIndex) -> set[bytes]:
            packs = (self._packs.holder(index, identity, kind, lambda *_: True) for identity in identities)
            return {pack for pack in packs if pack is not None}

        return self._do(look)

    def packs_named(self, names: Collection[bytes]) -> tuple[KnownPack, ...]:
        """Packs of published index objects that have one of these names."""

        def look(index: ChunkIndex) -> tuple[KnownPack, ...]:
            wanted, _ = halves(np.frombuffer(b"".join(names), np.uint8))
            known, _ = halves(index.tables.packs["name"])
            found = np.flatnonzero(np.isin(known, wanted) & index.tables.alive)
            return tuple(pack for pack in _known_packs(index, found) if pack.name in names)

        return self._do(look)

    def pack_entries(self, number: int) -> tuple[Location, ...]:
        """Frames of a pack, in their order.

        Where ids are keyed, whole ones are read from an index object. If there is none that can be read,
        places have the first 16 bytes.

        Raises:
            Renumbered: no pack has this number any more.
        """

        def look(index: ChunkIndex) -> tuple[KeptPack, list[bytes]]:
            if number >= len(index.tables.packs):
                raise Renumbered
            sources = index.tables.listings["source"][index.tables.listings["pack"] == number]
            names = [index.manifest.sources[source].name for source in sources.tolist()]
            return self._packs.pack(index, number), [bytes.fromhex(name) for name in names if name]

        with self._lock:
            pack, sources = self._do(look)
            ids = pack.ids
            if self._keyed:
                ids = self._loader.whole_ids(pack.name, len(ids), sources) or ids
            places = [pack.location(at, identity) for at, identity in enumerate(ids)]
        return tuple(sorted(places, key=lambda place: place.offset))

    def frames_of(self, pack: bytes) -> tuple[Location, ...]:
        """Frames of the pack of this name, according to published index objects."""
        known = self.packs_named({pack})[:1]
        return tuple(place for each in known for place in self.pack_entries(each.number))

    def mark(self, marks: Marks, ids: bytes, kind: Kind) -> Marked:
        """Mark ids of 32 bytes, one after another; see :meth:`Marks.mark`."""
        return self._do(lambda index: marks.mark(index, ids, int(kind)))

    def live_bytes(self, bits: bytes) -> dict[int, tuple[int, int]]:
        """For each pack, by number: bytes of its frames, and of those that are marked in a bitmap."""

        def look(index: ChunkIndex) -> dict[int, tuple[int, int]]:
            whole, live = live_bytes(index, bits)
            return dict(enumerate(zip(whole.tolist(), live.tolist(), strict=True)))

        return self._do(look)

    def locations(self, identities: Sequence[bytes], numbers: Sequence[int]) -> list[Location]:
        """The places of ids whose numbers are known."""

        def look(index: ChunkIndex) -> list[Location]:
            found = []
            for identity, number in zip(identities, numbers, strict=True):
                pack = self._packs.pack(index, index.tables.pack_of(number))
                found.append(pack.location(number - pack.first, identity))
            return found

        return self._do(look)

    def highest_number(self) -> int:
        """The largest number of a location; 0 when there is none."""
        return self._do(lambda index: max(index.tables.entries - 1, 0))

    # -- a writer's own packs -------------------------------------------------------------------------

    def add_own(self, pack: IndexedPack, run: int) -> None:
        """Add a pack that writer ``run`` has stored, but that is in no published index yet."""
        with self._lock:
            self._own.add(pack, run)

    def drop_own(self, packs: Sequence[bytes]) -> None:
        """Remove packs added by :meth:`add_own`: they are in a published index now, or abandoned."""
        with self._lock:
            self._own.drop(packs)

    def lost(self, more: Iterable[tuple[bytes, bytes]] = ()) -> frozenset[bytes]:
        """Ids of chunks and nodes that are listed as bad, or in ``more``, and have no good copy."""
        with self._lock:
            bad = self._bad.union(more)
            ids = sorted({identity for identity, _ in bad})
            places = self._do(lambda index: self._published(index, ids)) if ids else {}
            return frozenset(
                identity
                for identity in ids
                if all((identity, place.pack) in bad for place in places.get(identity, ()))
            )

    def add_doomed(self, packs: Iterable[bytes]) -> None:
        """Add names of doomed packs; deduplication ignores them. Other writers may still have to ignore those
        that are in no list any more."""
        with self._lock:
            self._doomed |= frozenset(packs)

    def set_bad(self, frames: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the frames (id, pack name) that are listed as bad; deduplication ignores them."""
        with self._lock:
            self._bad = frozenset(frames)


def _known_packs(index: ChunkIndex, numbers: Rows) -> tuple[KnownPack, ...]:
    rows = index.tables.packs[numbers]
    names, kinds, sizes = rows["name"].tobytes(), rows["kind"].tolist(), rows["bytes"].tolist()
    return tuple(
        KnownPack(number, names[16 * at : 16 * at + 16], kind_of(kinds[at]), sizes[at])
        for at, number in enumerate(numbers.tolist())
    )
