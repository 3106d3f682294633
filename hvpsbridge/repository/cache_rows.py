"""Rows of the index cache: written from index objects, and read as locations and packs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject

# Looking up a value in an enumeration takes longer.
_KINDS = {int(kind): kind for kind in Kind}


class Location(NamedTuple):
    """Where a frame is. Numbers are dense, for bitmaps; -1 in a pack that is not published.

    A tuple, because it is made for each chunk: a frozen dataclass takes three times as long.
    """

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


def add(connection: sqlite3.Connection, name: bytes, content: IndexObject) -> None:
    """Add the rows of a published index object, unless they are there."""
    if connection.execute("SELECT 1 FROM indexes WHERE name = ?", (name,)).fetchone():
        return  # another process has added it
    source = connection.execute("INSERT INTO indexes (name) VALUES (?)", (name,)).lastrowid
    old = [(each, source) for each in content.supersedes if each != name]
    connection.executemany("INSERT INTO superseded (name, source) VALUES (?, ?)", old)
    for pack in content.packs:
        number = connection.execute(
            "INSERT INTO packs (name, kind, bytes, source) VALUES (?, ?, ?, ?)",
            (pack.name, int(pack.kind), pack.pack_bytes, source),
        ).lastrowid
        connection.executemany(
            "INSERT INTO chunks (id, pack, offset, frame, raw) VALUES (?, ?, ?, ?, ?)",
            ((e.id, number, e.offset, e.frame_bytes, e.raw_bytes) for e in pack.entries),
        )


def add_own(connection: sqlite3.Connection, packs: Sequence[tuple[IndexedPack, int]]) -> None:
    """Add rows of packs that their writers have not published."""
    connection.executemany(
        "INSERT OR IGNORE INTO own (id, run, kind, pack, offset, frame, raw) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (e.id, run, int(pack.kind), pack.name, e.offset, e.frame_bytes, e.raw_bytes)
            for pack, run in packs
            for e in pack.entries
        ),
    )


def set_bad(connection: sqlite3.Connection, frames: Iterable[tuple[bytes, bytes]]) -> None:
    """Replace the frames (id, pack name) that are listed as bad."""
    connection.execute("DELETE FROM bad")
    connection.executemany("INSERT OR IGNORE INTO bad (id, pack) VALUES (?, ?)", frames)


def remove(connection: sqlite3.Connection, names: Sequence[object]) -> None:
    """Remove all rows of index objects, by name."""
    for name in names:
        row = connection.execute("SELECT number FROM indexes WHERE name = ?", (name,)).fetchone()
        if row is None:
            continue
        connection.execute(
            "DELETE FROM chunks WHERE pack IN (SELECT number FROM packs WHERE source = ?)", row
        )
        connection.execute("DELETE FROM packs WHERE source = ?", row)
        connection.execute("DELETE FROM superseded WHERE source = ?", row)
        connection.execute("DELETE FROM indexes WHERE number = ?", row)


def location(row: tuple[bytes, int, bytes, int, int, int, int]) -> Location:
    """The place of a frame: id, kind, pack name, offset, stored and raw length, number."""
    identity, kind, pack, offset, frame, raw, number = row
    return Location(
        blob(identity),
        _KINDS.get(kind) or Kind(kind),
        blob(pack),
        count(offset),
        count(frame),
        count(raw),
        number,
    )


def blob(value: object) -> bytes:
    """A value that must be bytes; a corrupt file may give it another type.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} in place of bytes")
    return value


def count(value: object) -> int:
    """A value that must be a count.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} in place of a count")
    return value
