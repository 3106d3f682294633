"""The chunk index on the client, made only from published index objects.

It may be deleted at any time; the next use rebuilds it from the repository, and so does whatever meets a file
that is corrupt. Rows of a writer's own packs that are not in a published index yet are in memory, so none
remain after a crash. Any number of processes may use the files; each brings them up to date before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.index_table import IndexTable, Rows, table_of
from hvpsbridge.formats.pack import PackEntry
from hvpsbridge.repository.cache_file import CacheFile, Corrupt
from hvpsbridge.repository.cache_rows import KnownPack, Location, place_in
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.marks import Marked, Marks, live_bytes
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES, halves

T = TypeVar("T")
# Files that are corrupt so often are on a disk that fails.
MAX_RENEWALS = 3
# How often index objects are listed again because one of them was replaced since.
MAX_LISTINGS = 5
# Ids in one query.
FIND_AT_ONCE = 500
# Chunks of index objects that are added at once; some 300 bytes each while they are sorted.
ADD_AT_ONCE = 500_000
# Packs whose entries are kept, for look-ups of their neighbours: some 60 KB each.
PACKS_KEPT = 64
# Calling the class takes several times as long, and there may be 655,360 packs.
_KINDS = {int(kind): kind for kind in Kind}


class Source(Protocol):
    """What a cache is made from: the index objects of a repository."""

    def index_names(self) -> Sequence[bytes]:
        """Names of the current index objects."""

    def load_index(self, name: bytes) -> IndexTable | IndexObject | None:
        """The content of one; None if it is gone since the listing, or cannot be read."""


class Renumbered(Exception):
    """Packs have other numbers than those that were asked for: ``IndexCache.renewals`` has changed."""


@dataclass(frozen=True, slots=True)
class _Pack:
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
        return Location(
            identity, self.kind, self.name, self.offsets[at], self.frames[at], self.raws[at], self.first + at
        )


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
        self._loaders = loaders
        self._source = source
        self._lock = threading.RLock()
        self._keyed = keyed
        self._file = CacheFile(folder, keyed)
        self._epoch = self._file.index.epoch
        self._own: dict[bytes, IndexedPack] = {}
        self._own_frames: dict[bytes, list[tuple[int, IndexedPack, PackEntry]]] = {}
        self._bad: frozenset[tuple[bytes, bytes]] = frozenset()
        self._doomed: frozenset[bytes] = frozenset()
        self._packs: OrderedDict[int, _Pack] = OrderedDict()
        # Ids of packs that are kept.
        self._near: dict[bytes, int] = {}
        self._table: tuple[bytes, IndexTable] | None = None
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
            self._near.clear()

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
            if not unread or unread <= frozenset(self._source.index_names()):
                return

    def _follow_source(self) -> frozenset[bytes]:
        """Update the cache to what is listed now; names of index objects that were not read."""
        self._do(lambda index: index.reload())
        # Before the listing, so that what another process adds after it does not seem to be gone.
        known = self._do(lambda index: index.names)
        listed = frozenset(self._source.index_names())
        gathered: list[tuple[bytes, IndexTable]] = []
        # Fetched outside the lock of the files, for which other processes may be waiting.
        vanished = known - listed
        unread: set[bytes] = set()
        for name, content in self._loaded(sorted(listed - known - self._superseded(vanished))):
            if content is None:
                unread.add(name)
            else:
                gathered.append((name, _table(content)))
            if sum(len(table.entries) for _, table in gathered) >= ADD_AT_ONCE:
                self._add_all(gathered)
                gathered = []
        self._add_all(gathered)
        # Last, so that packs that are listed by another index object now are there all the time.
        gone = vanished | self._superseded(vanished)
        self._do(lambda index: index.drop(gone))
        self._do(lambda index: index.tidy(quickly=False))
        return frozenset(unread)

    def _loaded(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, IndexTable | IndexObject | None]]:
        if self._loaders < 2 or len(names) < 2:
            yield from ((name, self._source.load_index(name)) for name in names)
            return
        with ThreadPoolExecutor(self._loaders, thread_name_prefix="index") as pool:
            # Some at a time, so that not all wait in memory.
            for at in range(0, len(names), 2 * self._loaders):
                some = names[at : at + 2 * self._loaders]
                yield from zip(some, pool.map(self._source.load_index, some), strict=True)

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
        self._add_all([(name, _table(content))])
        self._do(lambda index: index.tidy(quickly=True))

    def check(self) -> None:
        """Compare the files with their checksums; rebuild them if they differ."""
        self._do(lambda index: index.check())

    def matches(self, name: bytes, content: IndexObject | IndexTable) -> bool:
        """Whether the rows of a published index object are equal to its content."""
        table = _table(content)
        return self._do(lambda index: index.lists(name, table))

    def correct(self, name: bytes, content: IndexObject | IndexTable) -> None:
        """Replace the rows of a published index object by its content. Rows that are right keep numbers."""
        self._do(lambda index: index.drop(frozenset({name})))
        self._add_all([(name, _table(content))])

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
            found = {
                identity: [place_in(pack, entry) for _, pack, entry in own]
                for identity in identities
                if (own := self._own_frames.get(identity))
            }
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
            if each and (places := list(self._places(index, identity, each))):
                found[identity] = places
        return found

    def _places(self, index: ChunkIndex, identity: bytes, numbers: Sequence[int]) -> Iterator[Location]:
        for number in sorted(numbers):
            at = index.tables.pack_of(number)
            if not index.tables.alive[at]:
                continue
            pack = self._pack(index, at)
            known = pack.ids[number - pack.first]
            if identity.startswith(known):
                yield pack.location(number - pack.first, identity)
            elif known[:SHORT_ID_BYTES] != identity[:SHORT_ID_BYTES]:
                raise ValueError("a run leads to another chunk")

    def _pack(self, index: ChunkIndex, number: int) -> _Pack:
        pack = self._packs.get(number)
        if pack is not None:
            self._packs.move_to_end(number)
            return pack
        row, rows = index.tables.packs[number], index.tables.pack_rows(number)
        pack = _Pack(
            number,
            int(row["first"]),
            row["name"].tobytes(),
            _kind(int(row["kind"])),
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

    def holder(self, identity: bytes, kind: Kind, run: int) -> bytes | None:
        """Name of a pack that has a frame, so that writer ``run`` need not store it; None without one.

        Frames listed as bad do not count, nor do those in doomed packs, nor those of other writers that are
        in no published index: if that writer died, they could not be found.
        """

        with self._lock:
            for writer, pack, _ in self._own_frames.get(identity, ()):
                if writer == run and pack.kind is kind:
                    return pack.name
            return self._do(lambda index: self._pack_with(index, identity, kind, self._usable))

    def _usable(self, identity: bytes, pack: bytes) -> bool:
        return pack not in self._doomed and (identity, pack) not in self._bad

    def _pack_with(
        self, index: ChunkIndex, identity: bytes, kind: Kind, usable: Callable[[bytes, bytes], bool]
    ) -> bytes | None:
        """Name of the first pack that has a frame and is usable; packs that are kept come first."""
        near = self._near.get(identity[:SHORT_ID_BYTES] if self._keyed else identity)
        if near is not None and index.tables.alive[near]:
            pack = self._packs[near]
            if pack.kind is kind and usable(identity, pack.name):
                return pack.name
        for place in self._places(index, identity, index.find(identity)):
            if place.kind is kind and usable(identity, place.pack):
                return place.pack
        return None

    def packs(self) -> tuple[KnownPack, ...]:
        """Packs of all published index objects."""
        return self._do(lambda index: _known_packs(index, np.flatnonzero(index.tables.alive)))

    def pack_names(self) -> bytes:
        """Names of the packs of all published index objects, one after another."""
        return self._do(lambda index: index.tables.packs["name"][index.tables.alive].tobytes())

    def packs_with(self, identities: Iterable[bytes], kind: Kind) -> set[bytes]:
        """Names of packs that have the frames, one for each; without frames that are nowhere."""

        def look(index: ChunkIndex) -> set[bytes]:
            packs = (self._pack_with(index, identity, kind, lambda *_: True) for identity in identities)
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

        def look(index: ChunkIndex) -> tuple[_Pack, list[bytes]]:
            if number >= len(index.tables.packs):
                raise Renumbered
            sources = index.tables.listings["source"][index.tables.listings["pack"] == number]
            names = [index.manifest.sources[source].name for source in sources.tolist()]
            return self._pack(index, number), [bytes.fromhex(name) for name in names if name]

        with self._lock:
            pack, sources = self._do(look)
            ids = pack.ids
            if self._keyed:
                ids = self._whole_ids(pack, sources) or ids
            places = [pack.location(at, identity) for at, identity in enumerate(ids)]
        return tuple(sorted(places, key=lambda place: place.offset))

    def _whole_ids(self, pack: _Pack, sources: Sequence[bytes]) -> list[bytes] | None:
        for source in sources:
            if self._table is None or self._table[0] != source:
                content = self._source.load_index(source)
                if content is None:
                    continue
                self._table = (source, _table(content))
            table = self._table[1]
            for at, row in enumerate(table.packs):
                if row["name"].tobytes() == pack.name and row["count"] == len(pack.ids):
                    return [entry.id for entry in table.pack(at).entries]
        return None

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
                pack = self._pack(index, index.tables.pack_of(number))
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
            self._own[pack.name] = pack
            for entry in pack.entries:
                self._own_frames.setdefault(entry.id, []).append((run, pack, entry))

    def drop_own(self, packs: Sequence[bytes]) -> None:
        """Remove packs added by :meth:`add_own`: they are in a published index now, or abandoned."""
        with self._lock:
            for name in packs:
                pack = self._own.pop(name, None)
                for entry in pack.entries if pack else ():
                    left = [each for each in self._own_frames.get(entry.id, ()) if each[1].name != name]
                    if left:
                        self._own_frames[entry.id] = left
                    else:
                        self._own_frames.pop(entry.id, None)

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


def _table(content: IndexObject | IndexTable) -> IndexTable:
    return content if isinstance(content, IndexTable) else table_of(content)


def _known_packs(index: ChunkIndex, numbers: Rows) -> tuple[KnownPack, ...]:
    rows = index.tables.packs[numbers]
    names, kinds, sizes = rows["name"].tobytes(), rows["kind"].tolist(), rows["bytes"].tolist()
    return tuple(
        KnownPack(number, names[16 * at : 16 * at + 16], _kind(kinds[at]), sizes[at])
        for at, number in enumerate(numbers.tolist())
    )


def _kind(value: int) -> Kind:
    return _KINDS.get(value) or Kind(value)
