"""The chunk index on the client: a SQLite file made only from published index objects.

It may be deleted at any time; the next use rebuilds it from the repository. Rows of a writer's own packs that
are not in a published index yet are in a temporary table of its connection, so none remain after a crash. Any
number of processes may use the file; each brings it up to date before.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.pack import PackEntry

logger = logging.getLogger(__name__)

SCHEMA = 1
BUSY_SECONDS = 120.0
_TABLES = f"""
PRAGMA user_version = {SCHEMA};
CREATE TABLE indexes (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE packs (number INTEGER PRIMARY KEY, name BLOB NOT NULL, kind INTEGER NOT NULL,
                    bytes INTEGER NOT NULL, source INTEGER NOT NULL);
CREATE INDEX packs_source ON packs (source);
CREATE TABLE chunks (number INTEGER PRIMARY KEY, id BLOB NOT NULL, pack INTEGER NOT NULL,
                     offset INTEGER NOT NULL, frame INTEGER NOT NULL, raw INTEGER NOT NULL);
CREATE INDEX chunks_id ON chunks (id);
CREATE INDEX chunks_pack ON chunks (pack);
"""
_OWN = """
CREATE TEMP TABLE own (id BLOB NOT NULL, run INTEGER NOT NULL, kind INTEGER NOT NULL,
                       pack BLOB NOT NULL, offset INTEGER NOT NULL, frame INTEGER NOT NULL,
                       raw INTEGER NOT NULL, PRIMARY KEY (id, run, kind)) WITHOUT ROWID;
CREATE INDEX own_pack ON own (pack);
CREATE TEMP TABLE bad (id BLOB, pack BLOB, PRIMARY KEY (id, pack)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a frame is. Numbers are dense, for bitmaps; -1 in a pack that is not published."""

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


class IndexCache:
    """One connection to the cache. Thread-safe: one statement at a time.

    Args:
        path: the SQLite file; created, with its folder, if it is missing. None for a cache in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        try:
            self._connection = self._prepare()
        except (sqlite3.DatabaseError, OSError) as err:
            # No rights or no space there. The next run will have to rebuild it.
            logger.warning("cannot use the index cache %s (%s); using memory instead", path, err)
            self._path = None
            self._connection = self._open()

    def _prepare(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._open()
        except sqlite3.DatabaseError as err:
            # Nothing is lost: all of it can be read from the repository again.
            logger.warning("index cache %s cannot be used (%s); rebuilding it", self._path, err)
            self._discard()
            return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:" if self._path is None else self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # With a write-ahead log, a power loss undoes only whole transactions, so an index object is never
            # there in part.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("BEGIN EXCLUSIVE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
            elif version != SCHEMA:
                raise sqlite3.DatabaseError(f"schema {version}")
            connection.execute("COMMIT")
            connection.executescript(_OWN)
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Lock the connection, and turn errors of SQLite into those of a store."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as err:
                kind = NoSpace if "full" in str(err) else StoreError
                reason = f"{err}; it may be deleted and will be rebuilt"
                raise kind(str(self._path or "memory"), "use", "the index cache", reason) from err

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._using():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # when the disk is full, SQLite rolls back itself
                    self._connection.execute("ROLLBACK")
                raise

    def synchronise(self, names: Iterable[bytes], load: Callable[[bytes], IndexObject | None]) -> None:
        """Update the cache to exactly the index objects ``names``.

        Args:
            names: the current index objects.
            load: returns the content of one; None if it is gone since the listing, or cannot be read.
        """
        listed = set(names)
        try:
            self._synchronise(listed, load)
        except StoreError as err:
            if type(err.__cause__) is not sqlite3.DatabaseError or self._holds_own():
                raise
            # The file is corrupt somewhere in the middle, which does not show when it is opened.
            logger.warning("%s", err)
            with self._lock:
                self._connection.close()
                self._discard()
                self._connection = self._open()
            self._synchronise(listed, load)

    def _holds_own(self) -> bool:
        with self._using():
            return self._connection.execute("SELECT 1 FROM own LIMIT 1").fetchone() is not None

    def _synchronise(self, listed: set[bytes], load: Callable[[bytes], IndexObject | None]) -> None:
        with self._using():
            known = {bytes(name) for (name,) in self._connection.execute("SELECT name FROM indexes")}
        if listed == known:
            return
        # Fetched one at a time outside the transaction, for which other processes may be waiting.
        for name in sorted(listed - known):
            content = load(name)
            if content is not None:
                self.add(name, content)
        gone = known - listed
        if gone:
            with self._transaction() as connection:
                for name in gone:
                    _remove(connection, name)

    def add(self, name: bytes, content: IndexObject) -> None:
        """Add a published index object, unless it is there already."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM indexes WHERE name = ?", (name,)).fetchone():
                return  # another process has added it
            source = connection.execute("INSERT INTO indexes (name) VALUES (?)", (name,)).lastrowid
            for pack in content.packs:
                number = connection.execute(
                    "INSERT INTO packs (name, kind, bytes, source) VALUES (?, ?, ?, ?)",
                    (pack.name, int(pack.kind), pack.pack_bytes, source),
                ).lastrowid
                connection.executemany(
                    "INSERT INTO chunks (id, pack, offset, frame, raw) VALUES (?, ?, ?, ?, ?)",
                    ((e.id, number, e.offset, e.frame_bytes, e.raw_bytes) for e in pack.entries),
                )

    def matches(self, name: bytes, content: IndexObject) -> bool:
        """Whether the rows of a published index object are equal to its content."""
        with self._using():
            rows = self._connection.execute(
                "SELECT p.number, p.name, p.kind, p.bytes FROM packs p JOIN indexes i ON p.source = i.number "
                "WHERE i.name = ? ORDER BY p.number",
                (name,),
            ).fetchall()
            if [tuple(row[1:]) for row in rows] != [(p.name, p.kind, p.pack_bytes) for p in content.packs]:
                return False
            query = "SELECT id, offset, frame, raw FROM chunks WHERE pack = ? ORDER BY number"
            return all(
                self._connection.execute(query, row[:1]).fetchall()
                == [(e.id, e.offset, e.frame_bytes, e.raw_bytes) for e in pack.entries]
                for row, pack in zip(rows, content.packs, strict=True)
            )

    def correct(self, name: bytes, content: IndexObject) -> None:
        """Replace the rows of a published index object by its content."""
        with self._transaction() as connection:
            _remove(connection, name)
        self.add(name, content)

    # -- looking up ---------------------------------------------------------------------------------

    def find(self, identity: bytes) -> tuple[Location, ...]:
        """All places of the frame ``identity``, unpublished ones first."""
        with self._using():
            own = self._connection.execute(
                "SELECT id, kind, pack, offset, frame, raw, -1 FROM own WHERE id = ?", (identity,)
            ).fetchall()
            published = self._connection.execute(
                "SELECT c.id, p.kind, p.name, c.offset, c.frame, c.raw, c.number "
                "FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = ?",
                (identity,),
            ).fetchall()
        return tuple(_location(row) for row in (*own, *published))

    def holds(self, identity: bytes, kind: Kind, run: int) -> bool:
        """Whether writer ``run`` need not store a frame because it is stored already.

        Frames listed as bad do not count, nor do those of other writers that are in no published index: if
        that writer died, they could not be found.
        """
        with self._using():
            if self._connection.execute(
                "SELECT 1 FROM own WHERE id = ? AND run = ? AND kind = ?", (identity, run, int(kind))
            ).fetchone():
                return True
            found = self._connection.execute(
                "SELECT 1 FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = ? AND p.kind = ? "
                "AND NOT EXISTS (SELECT 1 FROM bad b WHERE b.id = c.id AND b.pack = p.name) LIMIT 1",
                (identity, int(kind)),
            ).fetchone()
        return found is not None

    def packs(self) -> tuple[KnownPack, ...]:
        """Packs of all published index objects."""
        with self._using():
            rows = self._connection.execute("SELECT number, name, kind, bytes FROM packs").fetchall()
        return tuple(KnownPack(number, bytes(name), Kind(kind), size) for number, name, kind, size in rows)

    def pack_entries(self, number: int) -> tuple[Location, ...]:
        """Frames of a pack, in their order."""
        with self._using():
            rows = self._connection.execute(
                "SELECT c.id, p.kind, p.name, c.offset, c.frame, c.raw, c.number "
                "FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.pack = ? ORDER BY c.offset",
                (number,),
            ).fetchall()
        return tuple(_location(row) for row in rows)

    def frames_of(self, pack: bytes) -> tuple[Location, ...]:
        """Frames of the pack of this name, according to published index objects."""
        numbers = [known.number for known in self.packs() if known.name == pack]
        return tuple(place for number in numbers[:1] for place in self.pack_entries(number))

    def highest_number(self) -> int:
        """The largest number of a location; 0 when there is none."""
        with self._using():
            (highest,) = self._connection.execute("SELECT COALESCE(MAX(number), 0) FROM chunks").fetchone()
        return int(highest)

    # -- a writer's own packs -------------------------------------------------------------------------

    def add_own(self, pack: IndexedPack, run: int) -> None:
        """Add a pack that writer ``run`` has stored, but that is in no published index yet."""
        with self._using():
            self._connection.execute("BEGIN")  # no other process uses temporary tables
            self._connection.executemany(
                "INSERT OR IGNORE INTO own (id, run, kind, pack, offset, frame, raw) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (e.id, run, int(pack.kind), pack.name, e.offset, e.frame_bytes, e.raw_bytes)
                    for e in pack.entries
                ),
            )
            self._connection.execute("COMMIT")

    def drop_own(self, packs: Sequence[bytes]) -> None:
        """Remove packs added by :meth:`add_own`: they are in a published index now, or abandoned."""
        with self._using():
            self._connection.executemany("DELETE FROM own WHERE pack = ?", ((name,) for name in packs))

    def lost(self) -> frozenset[bytes]:
        """Ids of chunks and nodes that are listed as bad and have no good copy."""
        with self._using():
            rows = self._connection.execute(
                "SELECT DISTINCT id FROM bad WHERE NOT EXISTS ("
                "  SELECT 1 FROM chunks c JOIN packs p ON p.number = c.pack WHERE c.id = bad.id"
                "  AND NOT EXISTS (SELECT 1 FROM bad b WHERE b.id = c.id AND b.pack = p.name))"
            ).fetchall()
        return frozenset(bytes(identity) for (identity,) in rows)

    def set_bad(self, frames: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the frames (id, pack name) that are listed as bad; deduplication ignores them."""
        with self._using():
            self._connection.execute("DELETE FROM bad")
            self._connection.executemany("INSERT OR IGNORE INTO bad (id, pack) VALUES (?, ?)", frames)


def _remove(connection: sqlite3.Connection, name: bytes) -> None:
    row = connection.execute("SELECT number FROM indexes WHERE name = ?", (name,)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM chunks WHERE pack IN (SELECT number FROM packs WHERE source = ?)", row)
    connection.execute("DELETE FROM packs WHERE source = ?", row)
    connection.execute("DELETE FROM indexes WHERE number = ?", row)


def _location(row: tuple[bytes, int, bytes, int, int, int, int]) -> Location:
    identity, kind, pack, offset, frame, raw, number = row
    return Location(
        id=bytes(identity),
        kind=Kind(kind),
        pack=bytes(pack),
        offset=offset,
        frame_bytes=frame,
        raw_bytes=raw,
        number=number,
    )


__all__ = ["IndexCache", "KnownPack", "Location", "PackEntry"]
