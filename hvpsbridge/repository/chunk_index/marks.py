"""Marks on entries of a chunk index: which chunks and nodes are needed, one bit for each.

Chunks that follow each other on a disk were stored one after another, so a pack that has one of them probably
has the next ones, too. Its entries are compared with all ids that are left, and only then the whole index is
asked again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hvpsbridge.formats.index_table import Rows
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.runs import ID_BYTES, halves

WHOLE_BYTES = 32
# Packs whose ids are kept, some 10 KB each.
PACKS_KEPT = 256
# Of these, the last ones that are compared before the index is asked.
RECENT = 4
PIECE_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class _Pack:
    """Ids of a pack, sorted.

    Attributes:
        high, low, tails: parts of the ids; ``tails`` is None where 16 bytes are enough.
        numbers: of the entries.
    """

    high: Rows
    low: Rows
    tails: Rows | None
    numbers: Rows


class Marks:
    """Marks one copy of each id. Numbers are those of the index's epoch. Not thread-safe.

    Args:
        index: must not be changed while there are marks.
        usable: whether each pack of the index may have the copy that is marked; all by default.
    """

    def __init__(self, index: ChunkIndex, usable: Rows | None = None) -> None:
        tables = index.tables
        self._index = index
        self._usable = tables.alive if usable is None else tables.alive & usable
        self._bits = np.zeros(tables.entries // 8 + 1, np.uint8)
        self._packs: OrderedDict[int, _Pack] = OrderedDict()
        # Ids that are in no usable pack.
        self.missing: set[bytes] = set()

    def mark(self, ids: bytes | Rows) -> Rows:
        """Mark ids of 32 bytes, one after another; whether each was not marked before.

        Zero ids are left out. Those that are in no usable pack are added to :attr:`missing`.
        """
        rows = np.frombuffer(ids, np.uint8).reshape(-1, WHOLE_BYTES)
        high, low = halves(rows[:, :ID_BYTES])
        tails = None
        if not self._index.manifest.keyed:
            tails = np.ascontiguousarray(rows[:, ID_BYTES:]).view("V16").ravel()
        numbers = np.full(len(rows), -1, np.int64)
        left = np.flatnonzero(high | low)
        for pack in list(reversed(self._packs))[:RECENT]:
            if not len(left):
                break
            left = self._match(pack, high, low, tails, left, numbers)
        while len(left):
            at = int(left[0])
            identity = rows[at].tobytes()
            for number in [] if identity in self.missing else self._index.find(identity):
                pack = self._index.tables.pack_of(number)
                if self._usable[pack]:
                    left = self._match(pack, high, low, tails, left, numbers)
                    if numbers[at] < 0 and identity.startswith(self._id(number, pack)):
                        numbers[at], left = number, left[1:]
                    if numbers[at] >= 0:
                        break
            if numbers[at] < 0:
                self.missing.add(identity)
                left = left[1:]
        return self._set(numbers)

    def _match(self, pack: int, high: Rows, low: Rows, tails: Rows | None, left: Rows, numbers: Rows) -> Rows:
        """Fill in numbers of ids that a pack has; those of ``left`` that it does not have."""
        found = self._load(pack)
        if not len(found.high):
            return left
        wanted = high[left]
        at = np.searchsorted(found.high, wanted)
        at[at == len(found.high)] = 0
        here = (found.high[at] == wanted) & (found.low[at] == low[left])
        if tails is not None and found.tails is not None:
            # Of two ids that begin alike, which somebody made, only the first is found here.
            one, other = (each.view(np.uint8).reshape(-1, 16) for each in (found.tails[at], tails[left]))
            here &= (one == other).all(axis=1)
        numbers[left[here]] = found.numbers[at[here]]
        rest: Rows = left[~here]
        return rest

    def _id(self, number: int, pack: int) -> bytes:
        tables = self._index.tables
        return tables.pack_rows(pack).whole_ids()[number - int(tables.first[pack])]

    def _load(self, pack: int) -> _Pack:
        found = self._packs.get(pack)
        if found is not None:
            self._packs.move_to_end(pack)
            return found
        rows = self._index.tables.pack_rows(pack)
        high, low = halves(rows.ids)
        order = np.argsort(high, kind="stable")
        tails = None if rows.tails is None else rows.tails[order]
        found = _Pack(high[order], low[order], tails, int(self._index.tables.first[pack]) + order)
        self._packs[pack] = found
        if len(self._packs) > PACKS_KEPT:
            self._packs.popitem(last=False)
        return found

    def _set(self, numbers: Rows) -> Rows:
        """Set the bits of numbers that are not -1; whether each was not set before."""
        known = numbers >= 0
        wanted = np.where(known, numbers, 0)
        byte, bit = wanted >> 3, (1 << (wanted & 7)).astype(np.uint8)
        new: Rows = known & (self._bits[byte] & bit == 0)
        np.bitwise_or.at(self._bits, byte[new], bit[new])
        return new

    def __contains__(self, number: int) -> bool:
        """Whether the entry of this number is marked."""
        return bool(self._bits[number >> 3] >> (number & 7) & 1)

    @property
    def count(self) -> int:
        """How many entries are marked."""
        return sum(int(marked.sum()) for _, _, marked in self._pieces())

    def live_bytes(self) -> Rows:
        """For each pack of the index, how many bytes its marked frames have."""
        tables = self._index.tables
        found = np.zeros(len(tables.packs), np.int64)
        for first, frames, marked in self._pieces():
            numbers = first + np.flatnonzero(marked)
            sums = np.bincount(tables.packs_of(numbers), frames[marked], len(found))
            found += sums.astype(np.int64)
        return found

    def _pieces(self) -> Iterator[tuple[int, Rows, Rows]]:
        tables = self._index.tables
        for first in range(0, tables.entries, PIECE_ROWS):
            count = min(PIECE_ROWS, tables.entries - first)
            bits = np.unpackbits(self._bits[first >> 3 : (first + count + 7) >> 3], bitorder="little")
            yield first, tables.frame_bytes(first, count), bits[:count].astype(bool)
