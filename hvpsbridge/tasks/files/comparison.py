"""Which entries of two file systems differ. Their paths are in a temporary file: there may be millions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from hvpsbridge.errors import MachineError
from hvpsbridge.filesystems.model import Entry, FileKind

_KEPT_KIB = 8192


class Change(StrEnum):
    """What happened to a file."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file that differs.

    Attributes:
        size_bytes: in the later point; of a removed file, in the earlier one.
    """

    change: Change
    path: bytes
    size_bytes: int


class ChangedFiles:
    """The entries that differ between two file systems, by path. Iterate it as often as needed.

    The file is SQLite's, has no name, and is gone with this object.

    Args:
        earlier, later: entries of the two; they are read here, the earlier ones first.

    Raises:
        MachineError: the temporary file cannot be written.
    """

    def __init__(self, earlier: Iterable[Entry] = (), later: Iterable[Entry] = ()) -> None:
        with _reported():
            self._database = sqlite3.connect("")
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_KEPT_KIB}"):
                self._database.execute(f"PRAGMA {pragma}")
            self._fill("earlier", earlier)
            self._fill("later", later)
            self._database.execute(_DIFFERENT)
            self._database.execute("DROP TABLE earlier")
            self._database.execute("DROP TABLE later")
            (self._count,) = self._database.execute("SELECT COUNT(*) FROM different").fetchone()

    def __len__(self) -> int:
        return int(self._count)

    def __iter__(self) -> Iterator[ChangedFile]:
        with _reported():
            for path, change, size in self._database.execute("SELECT * FROM different ORDER BY path"):
                yield ChangedFile(Change(change), path, int(size))

    def _fill(self, table: str, entries: Iterable[Entry]) -> None:
        # Numbers of file systems may be larger than SQLite's, so they are texts.
        columns = "path BLOB PRIMARY KEY, size TEXT, state TEXT"
        self._database.execute(f"CREATE TABLE {table} ({columns}) WITHOUT ROWID")
        rows = ((entry.path, str(entry.size_bytes), _state(entry)) for entry in entries)
        self._database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608 - a name of ours


_DIFFERENT = f"""
    CREATE TABLE different AS
    SELECT path, CASE WHEN earlier.path IS NULL THEN '{Change.ADDED}' ELSE '{Change.CHANGED}' END, later.size
    FROM later LEFT JOIN earlier USING (path)
    WHERE earlier.path IS NULL OR earlier.state != later.state
    UNION ALL
    SELECT path, '{Change.REMOVED}', earlier.size FROM earlier LEFT JOIN later USING (path)
    WHERE later.path IS NULL
"""  # noqa: S608 - words of Change


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as err:
        raise MachineError(
            f"the list of files to compare cannot be kept in a temporary file: {err}",
            "make room there, or set TMPDIR to another folder",
        ) from err


def _state(entry: Entry) -> str:
    """What is compared. The time and size of a folder change with what is in it."""
    is_folder = entry.kind is FileKind.FOLDER
    compared = (
        entry.kind.value,
        0 if is_folder else entry.size_bytes,
        None if is_folder else entry.modified_ns,
        entry.mode,
        entry.owner,
        entry.group,
        entry.target,
    )
    return repr(compared)
