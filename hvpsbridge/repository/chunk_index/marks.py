"""Marks on entries of a chunk index: which chunks and nodes are needed, one bit for each.

Chunks that follow each other on a disk were stored one after another, so a pack that has one of them probably
has the next ones, too. Its entries are compared with all ids that are left, and only then the whole index is
asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hvpsbridge.formats.chunk import ID_BYTES
from hvpsbridge.formats.index_table import Rows
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES, halves

# Packs whose ids are kept, some 10 KB each.
PACKS_KEPT = 512
# Of these, the last ones that are compared before the index is asked.
RECENT = 4
PIECE_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class _Pack:
    """Ids of a pack, sorted.

    Attributes:
        high, low, tails: the first 24 bytes of the ids; ``tails`` are 0 where 16 bytes are enough.
        numbers: of the entries.
    """

    high: Rows
    low: Rows
    tails: Rows
    numbers: Rows


@dataclass(frozen=True, slots=True)
class Marked:
    """What came of marking ids; a row for each.

    Attributes:
        numbers: of the entries; -1 without one.
        new: whether it was marked now.
        unclear: whether the caller has to choose, because there are several copies, or none.
    """

    numbers: Rows
    new: Rows
    unclear: Rows


class _Asked:
    """Ids that are looked for, each once, and what was found.

    Attributes:
        wanted: rows of those that are not zero, by id.
        groups: for each of these the number of its id.
        heads: for each id the first of its rows.
        found: for each id the number of an entry; -1 without one.
    """

    def __init__(self, rows: Rows, *, keyed: bool) -> None:
        high, low = halves(rows[:, :SHORT_ID_BYTES])
        tails = halves(rows[:, SHORT_ID_BYTES:])[0] if not keyed else np.zeros(len(rows), np.uint64)
        wanted = np.flatnonzero(high | low)
        self.wanted = wanted = wanted[np.argsort(high[wanted], kind="stable")]
        parts = [part[wanted] for part in (high, low, tails)]
        first = np.ones(len(wanted), bool)
        first[1:] = np.any([part[1:] != part[:-1] for part in parts], axis=0)
        self.groups = np.cumsum(first) - 1
        self.heads = wanted[first]
        self._high, self._low, self._tails = (part[first] for part in parts)
        self.found = np.full(len(self.heads), -1, np.int64)

    def match(self, pack: _Pack) -> None:
        """Fill in what a pack has.

        Of ids that begin alike, which somebody made, one is found. Both are twins if both are in the index.
        """
        if not len(self.heads):
            return
        at = np.searchsorted(self._high, pack.high)
        at[at == len(self._high)] = 0
        here = (self._high[at] == pack.high) & (self._low[at] == pack.low) & (self._tails[at] == pack.tails)
        self.found[at[here]] = pack.numbers[here]


class Marks:
    """Marks entries by id. Not thread-safe.

    Numbers are those of one epoch of the index. In another one, marks say nothing any more.
    """

    def __init__(self) -> None:
        self.bits = np.zeros(0, np.uint8)
        # A bit for each entry that another one may have the id of.
        self._twins = np.zeros(0, np.uint8)
        self._seen = (0, 0)
        self._packs: OrderedDict[int, _Pack] = OrderedDict()

    def _follow(self, index: ChunkIndex) -> None:
        """Take in what the index has got since."""
        if self._seen == (index.epoch, index.tables.entries):
            return
        self._seen = index.epoch, index.tables.entries
        self._packs.clear()
        size = index.tables.entries // 8 + 1
        bits = np.zeros(max(size, len(self.bits)), np.uint8)
        bits[: len(self.bits)] = self.bits
        self.bits = bits
        self._twins = np.zeros(size, np.uint8)
        for numbers in index.twins():
            _set(self._twins, numbers)

    def mark(self, index: ChunkIndex, ids: bytes, kind: int) -> Marked:
        """Mark ids of 32 bytes, one after another, that have one copy in packs of a kind.

        Zero ids are left out.
        """
        self._follow(index)
        rows = np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES)
        numbers = np.full(len(rows), -1, np.int64)
        asked = _Asked(rows, keyed=index.manifest.keyed)
        kinds = index.tables.packs["kind"]
        for pack in list(reversed(self._packs))[:RECENT]:
            if kinds[pack] == kind:
                asked.match(self._load(index, pack))
        for group in np.argsort(asked.heads).tolist():
            if asked.found[group] < 0:
                for number in index.find(rows[asked.heads[group]].tobytes()):
                    pack = index.tables.pack_of(number)
                    if index.tables.alive[pack] and kinds[pack] == kind:
                        asked.match(self._load(index, pack))
        wanted = asked.wanted
        numbers[wanted] = asked.found[asked.groups]
        unclear = np.zeros(len(rows), bool)
        unclear[wanted] = (numbers[wanted] < 0) | _get(self._twins, numbers[wanted])
        clear = np.flatnonzero((numbers >= 0) & ~unclear)
        new = np.zeros(len(rows), bool)
        fresh = clear[~_get(self.bits, numbers[clear])]
        # An id may be there twice.
        _, first = np.unique(numbers[fresh], return_index=True)
        new[fresh[first]] = True
        _set(self.bits, numbers[fresh])
        return Marked(numbers, new, unclear)

    def add(self, number: int) -> bool:
        """Mark the entry of a number; whether it was not marked before."""
        if number // 8 >= len(self.bits):  # published since the start
            self.bits = np.concatenate([self.bits, np.zeros(number // 8 + 1 - len(self.bits), np.uint8)])
        bit = 1 << number % 8
        new = not self.bits[number // 8] & bit
        self.bits[number // 8] |= bit
        return new

    def _load(self, index: ChunkIndex, pack: int) -> _Pack:
        found = self._packs.get(pack)
        if found is not None:
            self._packs.move_to_end(pack)
            return found
        rows = index.tables.pack_rows(pack)
        high, low = halves(rows.ids)
        order = np.argsort(high, kind="stable")
        tails = np.zeros(len(high), np.uint64) if rows.tails is None else halves(rows.tails)[0][order]
        first = int(index.tables.first[pack])
        found = _Pack(high[order], low[order], tails, first + order)
        self._packs[pack] = found
        if len(self._packs) > PACKS_KEPT:
            self._packs.popitem(last=False)
        return found


def _get(bits: Rows, numbers: Rows) -> Rows:
    """The bits of numbers; of -1 False."""
    known = np.maximum(numbers, 0)
    found: Rows = (bits[known >> 3] >> (known & 7).astype(np.uint8) & 1).astype(bool) & (numbers >= 0)
    return found


def _set(bits: Rows, numbers: Rows) -> None:
    np.bitwise_or.at(bits, numbers >> 3, (1 << (numbers & 7)).astype(np.uint8))


def live_bytes(index: ChunkIndex, bits: bytes) -> tuple[Rows, Rows]:
    """For each pack of an index, how many bytes its frames have, and how many of these the marked ones."""
    tables = index.tables
    whole, live = np.zeros(len(tables.packs), np.int64), np.zeros(len(tables.packs), np.int64)
    marks = np.zeros(tables.entries // 8 + 1, np.uint8)
    known = np.frombuffer(bits, np.uint8)[: len(marks)]
    marks[: len(known)] = known
    for first, frames in _pieces(index):
        packs = tables.packs_of(np.arange(first, first + len(frames)))
        part = np.unpackbits(marks[first >> 3 : (first + len(frames) + 7) >> 3], bitorder="little")
        marked = part[: len(frames)].astype(bool)
        start, size = int(packs[0]), int(packs[-1] - packs[0]) + 1
        whole[start : start + size] += np.bincount(packs - start, frames, size).astype(np.int64)
        packs = packs[marked] - start
        live[start : start + size] += np.bincount(packs, frames[marked], size).astype(np.int64)
    return whole, live


def _pieces(index: ChunkIndex) -> Iterator[tuple[int, Rows]]:
    entries = index.tables.entries
    for first in range(0, entries, PIECE_ROWS):
        yield first, index.tables.frame_bytes(first, min(PIECE_ROWS, entries - first))
