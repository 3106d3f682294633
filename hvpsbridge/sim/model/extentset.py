"""A mutable set of byte ranges, sorted and joined."""

from __future__ import annotations

import base64
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from hvpsbridge.formats.extents import Extent


class ExtentSet:
    """Disjoint half-open byte ranges. Adding and removing cost a binary search and one list splice.

    The size of a range does not matter: a tebibyte is one entry.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for extent in extents:
            self.add(extent.offset, extent.end)

    def add(self, start: int, end: int) -> None:
        """Add the bytes from ``start`` up to ``end``."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove the bytes from ``start`` up to ``end``."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts, ends = [], []
        if self._starts[first] < start:
            starts.append(self._starts[first])
            ends.append(start)
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def update(self, other: Iterable[Extent]) -> None:
        """Add every range of ``other``."""
        for extent in other:
            self.add(extent.offset, extent.end)

    def aligned(self, unit_bytes: int, size_bytes: int) -> ExtentSet:
        """A copy with every edge moved outward to a multiple of ``unit_bytes``, within ``size_bytes``."""
        wide = ExtentSet()
        for start, end in zip(self._starts, self._ends, strict=True):
            wide.add(start // unit_bytes * unit_bytes, min(-(-end // unit_bytes) * unit_bytes, size_bytes))
        return wide

    def within(self, start: int, end: int) -> Iterator[Extent]:
        """Parts of the set between ``start`` and ``end``, ascending."""
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            low, high = max(self._starts[index], start), min(self._ends[index], end)
            yield Extent(low, high - low)
            index += 1

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte from ``start`` up to ``end`` is in the set."""
        index = bisect_right(self._starts, start) - 1
        return start >= end or (index >= 0 and self._ends[index] >= end)

    def copy(self) -> ExtentSet:
        """An independent set of the same bytes."""
        twin = ExtentSet()
        twin._starts, twin._ends = self._starts[:], self._ends[:]
        return twin

    def clear(self) -> None:
        """Empty the set."""
        self._starts, self._ends = [], []

    @property
    def total_bytes(self) -> int:
        """Number of bytes in the set."""
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[Extent]:
        for start, end in zip(self._starts, self._ends, strict=True):
            yield Extent(start, end - start)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtentSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"ExtentSet({list(self)!r})"

    def to_text(self) -> str:
        """Compact text, for the state file."""
        packed = array("Q", self._starts).tobytes() + array("Q", self._ends).tobytes()
        return base64.b64encode(zlib.compress(packed, 1)).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> ExtentSet:
        """A set from what :meth:`to_text` gave."""
        packed = array("Q")
        packed.frombytes(zlib.decompress(base64.b64decode(text)))
        half = len(packed) // 2
        loaded = cls()
        loaded._starts, loaded._ends = list(packed[:half]), list(packed[half:])
        return loaded
