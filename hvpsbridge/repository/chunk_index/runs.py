"""Runs: immutable files of rows sorted by id, each with a table of where to look and a filter in front.

A row is an id without its first two bytes, and the number of the entry that it leads to. Sections of the
file::

    fan-out   4 bytes for each of 2**bits + 1 values of the first bits of an id: how many rows are before
    filter    blocks of 64 bytes, a Bloom filter each; a row belongs to one of them
    rows      18 bytes each

Rows are sorted by the first 8 bytes of the ids, and the block of a row follows from these, too. So a merge
writes all three sections from front to back.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hvpsbridge.formats.index_table import Rows
from hvpsbridge.repository.chunk_index.files import Files, forget, read_exactly
from hvpsbridge.repository.chunk_index.filters import BLOCK_BYTES, block_numbers, filter_bits

# Of an id in the index. In encrypted repositories ids are keyed, so nobody can make two that begin alike.
SHORT_ID_BYTES = 16
ROW = np.dtype([("key", "V14"), ("number", "<u4")])
KEY_AT = SHORT_ID_BYTES - 14
# The first two bytes follow from the fan-out, which has at least this many bits.
MIN_BITS = 16
# Of the file, at once.
PIECE_BYTES = 1 << 20
MERGE_ROWS = 1 << 20
_BOUNDS = struct.Struct("<II")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a manifest knows of a run.

    Attributes:
        name: of its file.
        rows: how many.
        bits: of the fan-out.
        blocks: of the filter.
        head_crc: CRC-32 of fan-out and filter.
        rows_crc: CRC-32 of the rows.
    """

    name: str
    rows: int
    bits: int
    blocks: int
    head_crc: int
    rows_crc: int

    @property
    def filter_at(self) -> int:
        """Where the filter begins."""
        return -(-4 * ((1 << self.bits) + 1) // BLOCK_BYTES) * BLOCK_BYTES

    @property
    def rows_at(self) -> int:
        """Where the rows begin."""
        return self.filter_at + self.blocks * BLOCK_BYTES

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return self.rows_at + self.rows * ROW.itemsize


def halves(ids: Rows) -> tuple[Rows, Rows]:
    """The first and the second 8 bytes of ids or names of 16 bytes, as numbers that sort alike."""
    words = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


class Run:
    """A run, open for look-ups. Not thread-safe while it is opened.

    Raises:
        ValueError: from any method: the file is not what was written.
        OSError: it cannot be read.
    """

    def __init__(self, files: Files, info: RunInfo) -> None:
        self.info = info
        self._map: mmap.mmap | None = None
        self._fan: Rows | None = None
        self._words: Rows | None = None
        self._shift = 64 - info.bits
        self.descriptor = files.read(info.name)
        # What follows is of no use. Without this, the kernel reads 50 times as much in a merge of many runs.
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        size = os.fstat(self.descriptor).st_size
        if size != info.bytes:
            self.close()
            raise ValueError(f"{info.name} has {size} bytes instead of {info.bytes}")

    def close(self) -> None:
        """Close the file. May be called more than once."""
        self._fan = self._words = None
        if self._map is not None:
            with contextlib.suppress(BufferError):  # an array still refers to it
                self._map.close()
            self._map = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _head(self) -> mmap.mmap:
        """Fan-out and filter, checked; that they are read at once also brings them into the page cache."""
        if self._map is None:
            if crc_of(self.descriptor, 0, self.info.rows_at) != self.info.head_crc:
                raise ValueError(f"the filter of {self.info.name} is not what was written")
            self._map = mmap.mmap(self.descriptor, self.info.rows_at, prot=mmap.PROT_READ)
            self._map.madvise(mmap.MADV_RANDOM)
            bits = 1 << self.info.bits
            self._fan = np.frombuffer(self._map, "<u4", bits + 1)
            words = np.frombuffer(self._map, "<u8", self.info.blocks * 8, self.info.filter_at)
            self._words = words.reshape(-1, 8)
        return self._map

    @property
    def fan(self) -> Rows:
        """How many rows are before those of each value of the first bits; one more for the end."""
        self._head()
        assert self._fan is not None  # the head sets it
        return self._fan

    def check(self) -> None:
        """Read the whole file and compare it with its checksums."""
        self._head()
        rows = self.info.rows * ROW.itemsize
        if crc_of(self.descriptor, self.info.rows_at, rows) != self.info.rows_crc:
            raise ValueError(f"rows of {self.info.name} are not what was written")

    # -- looking up ---------------------------------------------------------------------------------

    def find(self, identity: bytes, high: int, mask: int) -> list[int]:
        """Numbers of the entries of an id of 16 bytes.

        Args:
            identity: the id.
            high: its first 8 bytes as a number.
            mask: its :func:`filter_mask`.
        """
        head = self._map or self._head()
        at = self.info.filter_at + BLOCK_BYTES * ((high >> 32) * self.info.blocks >> 32)
        if int.from_bytes(head[at : at + BLOCK_BYTES], "little") & mask != mask:
            return []
        return self.look(identity, high)

    def may_hold(self, high: Rows, low: Rows) -> Rows:
        """Which ids may be in the run: a truth value for each, False for those that are not."""
        self._head()
        assert self._words is not None  # the head sets it
        block = block_numbers(high, self.info.blocks)
        passed = np.ones(len(high), bool)
        for bit in filter_bits(low):
            word = self._words[block, (bit >> np.uint64(6)).astype(np.intp)]
            passed &= (word >> (bit & np.uint64(63)) & np.uint64(1)).astype(bool)
        return passed

    def look(self, identity: bytes, high: int) -> list[int]:
        """Numbers of the entries of an id that has passed the filter; one read of the file."""
        first, end = self.bounds(high)
        size = ROW.itemsize
        data = read_exactly(self.descriptor, (end - first) * size, self.info.rows_at + first * size)
        key = identity[KEY_AT:]
        found = []
        at = data.find(key)
        while at >= 0:
            if at % size == 0:
                found.append(int.from_bytes(data[at + len(key) : at + size], "little"))
            at = data.find(key, at + 1)
        return found

    def bounds(self, high: int) -> tuple[int, int]:
        """The first of the rows among which an id would be, and their end."""
        head = self._map or self._head()
        first, end = _BOUNDS.unpack_from(head, 4 * (high >> self._shift))
        if not first <= end <= self.info.rows:
            raise ValueError(f"the fan-out of {self.info.name} is not what was written")
        return first, end

    def prefetch(self, highs: Sequence[int]) -> None:
        """Have the rows read in the background among which these ids would be."""
        size = ROW.itemsize
        for high in highs:
            first, end = self.bounds(high)
            at = self.info.rows_at + first * size
            os.posix_fadvise(self.descriptor, at, (end - first) * size, os.POSIX_FADV_WILLNEED)

    # -- whole parts ----------------------------------------------------------------------------------

    def tops(self) -> Rows:
        """How many rows are before those of each value of the first 16 bits; one more for the end."""
        return self.fan[:: 1 << self.info.bits - MIN_BITS].astype(np.int64)

    def part(self, tops: Rows, first: int, end: int) -> tuple[Rows, Rows]:
        """Rows whose first 16 bits are from ``first`` up to ``end``, with the first 8 bytes of their ids."""
        begin, stop = int(tops[first]), int(tops[end])
        size = ROW.itemsize
        at, length = self.info.rows_at + begin * size, (stop - begin) * size
        rows = np.frombuffer(read_exactly(self.descriptor, length, at), ROW)
        forget(self.descriptor, at, length)
        counts = np.diff(tops[first : end + 1])
        words = np.empty((len(rows), 8), np.uint8)
        top = np.repeat(np.arange(first, end, dtype=np.uint16), counts)
        words[:, :2] = top.astype(">u2").view(np.uint8).reshape(-1, 2)
        words[:, 2:] = rows.view(np.uint8).reshape(-1, size)[:, :6]
        return words.view(">u8").ravel().astype(np.uint64), rows


def crc_of(descriptor: int, at: int, length: int) -> int:
    """CRC-32 of a part of a file."""
    crc, end = 0, at + length
    while at < end:
        piece = read_exactly(descriptor, min(PIECE_BYTES, end - at), at)
        crc = zlib.crc32(piece, crc)
        at += len(piece)
    return crc


def merged_parts(runs: Sequence[Run], part_rows: int = MERGE_ROWS) -> Iterator[tuple[Rows, Rows]]:
    """All rows of runs in ascending order, some at a time, each with the first 8 bytes of its id."""
    if not runs:
        return
    tops = [run.tops() for run in runs]
    before = np.zeros((1 << MIN_BITS) + 1, np.int64)
    for each in tops:
        before += each
    first = 0
    while first < len(before) - 1:
        end = int(np.searchsorted(before, before[first] + part_rows, "right")) - 1
        end = min(max(end, first + 1), len(before) - 1)
        parts = [run.part(top, first, end) for run, top in zip(runs, tops, strict=True)]
        high = np.concatenate([part[0] for part in parts])
        rows = np.concatenate([part[1] for part in parts])
        order = np.argsort(high, kind="stable")
        yield high[order], rows[order]
        first = end
