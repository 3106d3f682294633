"""The SQLite file of an index cache: opened, checked, and replaced when it is corrupt.

Nothing is lost with the file, since all of it can be read from the repository again. So whatever shows that
it is not what hvps wrote (an error of SQLite, rows of the wrong type) is answered by making it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.files import FOLDER_MODE

logger = logging.getLogger(__name__)
T = TypeVar("T")

FILE_NAME = "index.sqlite"
PLACE_DIGITS = 16
SCHEMA = 2
BUSY_SECONDS = 120.0
SUFFIXES = ("", "-wal", "-shm", "-journal")
_TABLES = f"""
PRAGMA user_version = {SCHEMA};
CREATE TABLE indexes (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE superseded (name BLOB NOT NULL, source INTEGER NOT NULL);
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
# Results of SQLite that say nothing about the file: it is locked, the disk or the memory is full, a signal.
_FULL = sqlite3.SQLITE_FULL
# What comes of text and numbers that hvps did not write, in rows or in the schema.
ROTTEN_ROWS = (ValueError, TypeError, OverflowError)
_NOT_CORRUPT = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, _FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}
)


def place_folder(cache_folder: Path | None, repository_id: UUID, place: str) -> Path | None:
    """The folder for a repository at one place (see ``Store.place``); None without a ``cache_folder``.

    A copy of the repository (made with rsync, or a snapshot) has the same id, and lacks what was written to
    the original since. With one cache for both, a backup into the copy would leave out chunks that only the
    original has.
    """
    if cache_folder is None:
        return None
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return cache_folder / str(repository_id) / digest[:PLACE_DIGITS]


class Corrupt(Exception):
    """The file is not what hvps wrote, or cannot be read."""


def _code(err: sqlite3.Error) -> int:
    """Primary result code; that of a corrupt file if the module itself raised the error."""
    return getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def _is_corruption(err: sqlite3.Error) -> bool:
    # ProgrammingError: the connection was closed.
    return not isinstance(err, sqlite3.ProgrammingError) and _code(err) not in _NOT_CORRUPT


class CacheFile:
    """A connection to the file, with the tables of the cache. Not thread-safe.

    Args:
        path: the file; created, with its folder, if it is missing. None for memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self.connection = self._prepare()
        except (sqlite3.Error, OSError, *ROTTEN_ROWS) as err:
            # No rights or no space there. The next run will have to rebuild it.
            self._use_memory(err)

    def close(self) -> None:
        """Close the connection. Never raises."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()

    def renew(self, reason: object) -> None:
        """Replace the file by an empty one, or by memory if that fails, too."""
        logger.warning("the index cache %s is corrupt (%s); rebuilding it", self._where(), reason)
        self.close()
        try:
            self._discard()
            self.connection = self._open()
        except (sqlite3.Error, OSError, *ROTTEN_ROWS) as err:
            self._use_memory(err)

    def _use_memory(self, reason: object) -> None:
        logger.warning("cannot use the index cache %s (%s); using memory instead", self._path, reason)
        self._path = None
        self.connection = self._open()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors into :class:`Corrupt`, or into those of a store if the file is not to blame."""
        try:
            yield
        except sqlite3.Error as err:
            if _is_corruption(err):
                raise Corrupt(str(err)) from err
            raise self._failure(NoSpace if _code(err) == _FULL else StoreError, err) from err
        except ROTTEN_ROWS as err:
            raise Corrupt(f"{type(err).__name__}: {err}") from err

    def failure(self, err: Corrupt) -> StoreError:
        """The error for a cache that stays corrupt although it was rebuilt."""
        return self._failure(StoreError, err)

    def _failure(self, kind: type[StoreError], err: object) -> StoreError:
        return kind(self._where(), "use", "the index cache", f"{err}; it may be deleted and will be rebuilt")

    def _where(self) -> str:
        return str(self._path or "in memory")

    def transact(self, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN IMMEDIATE") -> T:
        """Do ``work`` in a transaction."""
        self.connection.execute(begin)
        try:
            result = work(self.connection)
            self.connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self.connection.in_transaction:  # when the disk is full, SQLite rolls back itself
                    self.connection.execute("ROLLBACK")
            raise
        return result

    # -- opening --------------------------------------------------------------------------------------

    def _prepare(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _remove(self._path.parent.parent / FILE_NAME)  # of an hvps that had one cache for all places
        try:
            return self._open()
        except (sqlite3.Error, *ROTTEN_ROWS) as err:
            if isinstance(err, sqlite3.Error) and not _is_corruption(err):
                raise
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
                raise sqlite3.DatabaseError(f"schema {version}")  # has no code
            connection.execute("COMMIT")
            connection.executescript(_OWN)
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        if self._path is not None:
            _remove(self._path)


def _remove(path: Path) -> None:
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
