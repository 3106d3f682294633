"""What an index cache is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from hvpsbridge.formats.index import IndexObject
from hvpsbridge.formats.index_table import IndexTable, table_of


class Source(Protocol):
    """What a cache is made from: the index objects of a repository."""

    def index_names(self) -> Sequence[bytes]:
        """Names of the current index objects."""

    def load_index(self, name: bytes) -> IndexTable | IndexObject | None:
        """The content of one; None if it is gone since the listing, or cannot be read."""


class IndexLoader:
    """Loads index objects of a source. Thread-safe, except for :meth:`whole_ids`.

    Args:
        source: their source.
        at_once: how many are loaded at a time, by threads if more than one.
    """

    def __init__(self, source: Source, at_once: int) -> None:
        self._source = source
        self._at_once = at_once
        self._last: tuple[bytes, IndexTable] | None = None

    def names(self) -> frozenset[bytes]:
        """Names of the current index objects."""
        return frozenset(self._source.index_names())

    def load(self, name: bytes) -> IndexTable | None:
        """The content of one; None if it is gone since the listing, or cannot be read."""
        content = self._source.load_index(name)
        return None if content is None else as_table(content)

    def load_all(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, IndexTable | None]]:
        """Names, each with what :meth:`load` returns."""
        if self._at_once < 2 or len(names) < 2:
            yield from ((name, self.load(name)) for name in names)
            return
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="index") as pool:
            # Some at a time, so that not all wait in memory.
            for at in range(0, len(names), 2 * self._at_once):
                some = names[at : at + 2 * self._at_once]
                yield from zip(some, pool.map(self.load, some), strict=True)

    def whole_ids(self, pack: bytes, count: int, names: Sequence[bytes]) -> list[bytes] | None:
        """Ids of a pack of ``count`` frames, from one of the named index objects; None if none has them."""
        for name in names:
            if self._last is None or self._last[0] != name:
                loaded = self.load(name)
                if loaded is None:
                    continue
                self._last = (name, loaded)
            table = self._last[1]
            for at, row in enumerate(table.packs):
                if row["name"].tobytes() == pack and row["count"] == count:
                    return [entry.id for entry in table.pack(at).entries]
        return None


def as_table(content: IndexObject | IndexTable) -> IndexTable:
    """The content of an index object as arrays."""
    return content if isinstance(content, IndexTable) else table_of(content)
