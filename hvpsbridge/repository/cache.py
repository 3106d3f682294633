"""The chunk index on the client: a SQLite file made only from published index objects.

It may be deleted at any time; the next use rebuilds it from the repository, and so does whatever meets a file
that is corrupt. Rows of a writer's own packs that are not in a published index yet are in a temporary table
of its connection, so none remain after a crash. Any number of processes may use the file; each brings it up
to date before.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.repository import cache_rows
from hvpsbridge.repository.cache_file import CacheFile, Corrupt
from hvpsbridge.repository.cache_rows import KnownPack, Location

T = TypeVar("T")
# A file that is corrupt so often is on a disk that fails.
MAX_RENEWALS = 3
# Ids in one query; SQLite before 3.32 takes 999.
FIND_AT_ONCE = 500


class Source(Protocol):
    """What a cache is made from: the index objects of a repository."""

    def index_names(self) -> Sequence[bytes]:
        """Names of the current index objects."""

    def load_index(self, name: bytes) -> IndexObject | None:
        """The content of one; None if it is gone since the listing, or cannot be read."""


class IndexCache:
    """One connection to the cache. Thread-safe: one statement at a time.

    Args:
        path: the SQLite file; created, with its folder, if it is missing. None for a cache in memory.
        source: what it is made from.

    Attributes:
        renewals: how often it was rebuilt because it was corrupt. Numbers of locations and packs change then.
    """

    def __init__(self, path: Path | None, source: Source) -> None:
        self._source = source
        self._lock = threading.RLock()
        self._file = CacheFile(path)
        # What is only in temporary tables, to rebuild them.
        self._own: dict[bytes, tuple[IndexedPack, int]] = {}
        self._bad: frozenset[tuple[bytes, bytes]] = frozenset()
        self._doomed: frozenset[bytes] = frozenset()
        self.renewals = 0

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._file.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of ``work``; if the file is corrupt, it is rebuilt and ``work`` is done again."""
        with self._lock:
            while True:
                try:
                    with self._file.errors():
                        return work(self._file.connection)
                except Corrupt as err:
                    self._renew(err)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._do(lambda connection: self._file.transact(work))

    def _renew(self, reason: Corrupt) -> None:
        if self.renewals >= MAX_RENEWALS:
            raise self._file.failure(reason)
        self.renewals += 1
        self._file.renew(reason)
        self._do(self._fill_temporary)
        self.synchronise()

    def _fill_temporary(self, connection: sqlite3.Connection) -> None:
        self._file.transact(
            lambda connection: cache_rows.add_own(connection, list(self._own.values())), "BEGIN"
        )
        cache_rows.set_bad(connection, self._bad)

    # -- keeping it up to date ------------------------------------------------------------------------

    def synchronise(self) -> None:
        """Update the cache to exactly the current index objects, without those that others supersede.

        An index object that is superseded remains if the store refuses to delete it.
        """
        listed = set(self._source.index_names())
        self._drop(lambda name: name not in listed)
        known = self._names()
        # Fetched one at a time outside the transaction, for which other processes may be waiting.
        for name in sorted(listed - known - self.superseded()):
            content = self._source.load_index(name)
            if content is not None:
                self.add(name, content)
        superseded = self.superseded()
        self._drop(lambda name: name in superseded)

    def _names(self) -> set[object]:
        query = "SELECT name FROM indexes"
        return self._do(lambda connection: {name for (name,) in connection.execute(query)})

    def _drop(self, is_old: Callable[[object], bool]) -> None:
        old = [name for name in self._names() if is_old(name)]
        if old:
            self._transact(lambda connection: cache_rows.remove(connection, old))

    def superseded(self) -> frozenset[bytes]:
        """Names of index objects that others supersede."""
        query = "SELECT name FROM superseded"
        return self._do(
            lambda connection: frozenset(cache_rows.blob(name) for (name,) in connection.execute(query))
        )

    def add(self, name: bytes, content: IndexObject) -> None:
        """Add a published index object, unless it is there already."""
        self._transact(lambda connection: cache_rows.add(connection, name, content))

    def matches(self, name: bytes, content: IndexObject) -> bool:
        """Whether the rows of a published index object are equal to its content."""

        def compare(connection: sqlite3.Connection) -> bool:
            rows = connection.execute(
                "SELECT p.number, p.name, p.kind, p.bytes FROM packs p JOIN indexes i ON p.source = i.number "
                "WHERE i.name = ? ORDER BY p.number",
                (name,),
            ).fetchall()
            if [tuple(row[1:]) for row in rows] != [(p.name, p.kind, p.pack_bytes) for p in content.packs]:
                return False
            query = "SELECT id, offset, frame, raw FROM chunks WHERE pack = ? ORDER BY number"
            return all(
                connection.execute(query, row[:1]).fetchall()
                == [(e.id, e.offset, e.frame_bytes, e.raw_bytes) for e in pack.entries]
                for row, pack in zip(rows, content.packs, strict=True)
            )

        return self._do(compare)

    def correct(self, name: bytes, content: IndexObject) -> None:
        """Replace the rows of a published index object by its content."""

        def replace(connection: sqlite3.Connection) -> None:
            cache_rows.remove(connection, [name])
            cache_rows.add(connection, name, content)

        self._transact(replace)

    # -- looking up ---------------------------------------------------------------------------------

    def find(self, identity: bytes) -> tuple[Location, ...]:
        """All places of the frame ``identity``, unpublished ones first."""

        def look(connection: sqlite3.Connection) -> tuple[Location, ...]:
            own = connection.execute(
                "SELECT id, kind, pack, offset, frame, raw, -1 FROM own WHERE id = ?", (identity,)
            ).fetchall()
            published = connection.execute(
                "SELECT c.id, p.kind, p.name, c.offset, c.frame, c.raw, c.number "
                "FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = ?",
                (identity,),
            ).fetchall()
            return tuple(cache_rows.location(row) for row in (*own, *published))

        return self._do(look)

    def find_all(self, identities: Sequence[bytes]) -> dict[bytes, list[Location]]:
        """All places of frames by id, unpublished ones first; nothing for ids that are nowhere."""
        found: dict[bytes, list[Location]] = {}

        def look(connection: sqlite3.Connection) -> None:
            found.clear()  # of a file that was corrupt
            for start in range(0, len(identities), FIND_AT_ONCE):
                some = identities[start : start + FIND_AT_ONCE]
                marks = ",".join("?" * len(some))
                for query in (
                    "SELECT id, kind, pack, offset, frame, raw, -1 FROM own WHERE id IN",
                    "SELECT c.id, p.kind, p.name, c.offset, c.frame, c.raw, c.number "
                    "FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id IN",
                ):
                    for row in connection.execute(f"{query} ({marks})", some):
                        place = cache_rows.location(row)
                        found.setdefault(place.id, []).append(place)

        self._do(look)
        return found

    def holder(self, identity: bytes, kind: Kind, run: int) -> bytes | None:
        """Name of a pack that has a frame, so that writer ``run`` need not store it; None without one.

        Frames listed as bad do not count, nor do those in doomed packs, nor those of other writers that are
        in no published index: if that writer died, they could not be found.
        """

        def look(connection: sqlite3.Connection) -> bytes | None:
            own = connection.execute(
                "SELECT pack FROM own WHERE id = ? AND run = ? AND kind = ?", (identity, run, int(kind))
            ).fetchone()
            if own is not None:
                return cache_rows.blob(own[0])
            found = connection.execute(
                "SELECT p.name FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = ? AND p.kind = ? "
                "AND NOT EXISTS (SELECT 1 FROM bad b WHERE b.id = c.id AND b.pack = p.name)",
                (identity, int(kind)),
            )
            return next((name for (name,) in found if name not in self._doomed), None)

        return self._do(look)

    def packs(self) -> tuple[KnownPack, ...]:
        """Packs of all published index objects."""

        def look(connection: sqlite3.Connection) -> tuple[KnownPack, ...]:
            rows = connection.execute("SELECT number, name, kind, bytes FROM packs")
            return tuple(
                KnownPack(number, cache_rows.blob(name), Kind(kind), cache_rows.count(size))
                for number, name, kind, size in rows
            )

        return self._do(look)

    def pack_entries(self, number: int) -> tuple[Location, ...]:
        """Frames of a pack, in their order."""

        def look(connection: sqlite3.Connection) -> tuple[Location, ...]:
            rows = connection.execute(
                "SELECT c.id, p.kind, p.name, c.offset, c.frame, c.raw, c.number "
                "FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.pack = ? ORDER BY c.offset",
                (number,),
            )
            return tuple(cache_rows.location(row) for row in rows)

        return self._do(look)

    def frames_of(self, pack: bytes) -> tuple[Location, ...]:
        """Frames of the pack of this name, according to published index objects."""
        numbers = [known.number for known in self.packs() if known.name == pack]
        return tuple(place for number in numbers[:1] for place in self.pack_entries(number))

    def highest_number(self) -> int:
        """The largest number of a location; 0 when there is none."""
        query = "SELECT COALESCE(MAX(number), 0) FROM chunks"
        return self._do(lambda connection: cache_rows.count(connection.execute(query).fetchone()[0]))

    # -- a writer's own packs -------------------------------------------------------------------------

    def add_own(self, pack: IndexedPack, run: int) -> None:
        """Add a pack that writer ``run`` has stored, but that is in no published index yet."""
        with self._lock:
            self._own[pack.name] = (pack, run)

            def add(connection: sqlite3.Connection) -> None:
                # Not IMMEDIATE: no other process uses temporary tables, so none has to wait.
                self._file.transact(lambda connection: cache_rows.add_own(connection, [(pack, run)]), "BEGIN")

            self._do(add)

    def drop_own(self, packs: Sequence[bytes]) -> None:
        """Remove packs added by :meth:`add_own`: they are in a published index now, or abandoned."""
        with self._lock:
            for name in packs:
                self._own.pop(name, None)
            names = [(name,) for name in packs]
            self._do(lambda connection: connection.executemany("DELETE FROM own WHERE pack = ?", names))

    def lost(self) -> frozenset[bytes]:
        """Ids of chunks and nodes that are listed as bad and have no good copy."""

        def look(connection: sqlite3.Connection) -> frozenset[bytes]:
            rows = connection.execute(
                "SELECT DISTINCT id FROM bad WHERE NOT EXISTS ("
                "  SELECT 1 FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = bad.id"
                "  AND NOT EXISTS (SELECT 1 FROM bad b WHERE b.id = c.id AND b.pack = p.name))"
            )
            return frozenset(cache_rows.blob(identity) for (identity,) in rows)

        return self._do(look)

    def set_doomed(self, packs: Iterable[bytes]) -> None:
        """Set the names of the doomed packs; deduplication ignores them."""
        self._doomed = frozenset(packs)

    def set_bad(self, frames: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the frames (id, pack name) that are listed as bad; deduplication ignores them."""
        with self._lock:
            self._bad = frozenset(frames)
            self._do(lambda connection: cache_rows.set_bad(connection, self._bad))
