"""Volumes made of pieces of disks: a partition is one piece, a logical volume may be many."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from hvpsbridge.formats.readable import Readable


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a volume, in one place or striped over several.

    Attributes:
        length: in bytes.
        places: number of the disk and offset on it in bytes, of each stripe in their order.
        stripe_bytes: written to one place before the next one's turn; 0 for a piece in one place.
    """

    length: int
    places: tuple[tuple[int, int], ...]
    stripe_bytes: int = 0

    @property
    def part_bytes(self) -> int:
        """How much of the piece each place has."""
        return self.length // max(len(self.places), 1)

    def fault(self, sizes: Sequence[int]) -> str:
        """Why the piece cannot be read from disks of these sizes; empty if it can."""
        count = len(self.places)
        if self.length <= 0 or not count:
            return "a piece of it is empty"
        if count > 1 and (self.stripe_bytes <= 0 or self.length % (count * self.stripe_bytes)):
            return "its stripes do not have the same length"
        for disk, offset in self.places:
            if not 0 <= disk < len(sizes) or offset < 0 or offset + self.part_bytes > sizes[disk]:
                return "a piece of it is beyond the end of its disk"
        return ""

    def read(self, disks: Sequence[Readable], offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` of the piece, at most to the end of a stripe."""
        if len(self.places) == 1:
            ((disk, start),) = self.places
            return disks[disk].pread(start + offset, min(length, self.length - offset))
        stripe, within = divmod(offset, self.stripe_bytes)
        row, column = divmod(stripe, len(self.places))
        disk, start = self.places[column]
        at = start + row * self.stripe_bytes + within
        return disks[disk].pread(at, min(length, self.stripe_bytes - within))


class PiecedVolume:
    """A volume as a readable.

    Attributes:
        pieces: in the order of the volume.

    Raises:
        ValueError: a piece is not on the disks.
    """

    def __init__(self, disks: Sequence[Readable], pieces: Sequence[Piece]) -> None:
        sizes = [disk.size_bytes for disk in disks]
        for piece in pieces:
            fault = piece.fault(sizes)
            if fault:
                raise ValueError(fault)
        self._disks = disks
        self.pieces = pieces
        self._starts = [0, *accumulate(piece.length for piece in pieces)]
        self.size_bytes = self._starts[-1]

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end of the volume."""
        parts = []
        end = min(offset + length, self.size_bytes)
        while offset < end:
            index = bisect_right(self._starts, offset) - 1
            start = self._starts[index]
            data = self.pieces[index].read(self._disks, offset - start, end - offset)
            parts.append(data)
            offset += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)
