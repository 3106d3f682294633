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
from hvpsbridge.repository.chunk_index.files import (
    LARGE_BYTES,
    Files,
    forget,
    read_exactly,
    write_all,
)

# Of an id in the index. In encrypted repositories ids are keyed, so nobody can make two that begin alike.
SHORT_ID_BYTES = 16
ROW = np.dtype([("key", "V14"), ("number", "<u4")])
KEY_AT = SHORT_ID_BYTES - 14
# The first two bytes follow from the fan-out, which has at least this many bits.
MIN_BITS = 16
MAX_BITS = 28
ROWS_PER_BUCKET = 64
BLOCK_BYTES = 64
BLOCK_BITS = 8 * BLOCK_BYTES
# With 10 bits for each row and 6 of them set, 1.2 % of absent ids pass.
FILTER_BITS = 10
PROBES = 6
# Of the file, at once.
PIECE_BYTES = 1 << 20
MERGE_ROWS = 1 << 20
# Written before it is synced, for the rest of the machine.
SYNC_BYTES = 1 << 25
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


def filter_mask(low: int) -> int:
    """The bits of a filter's block that an id sets, from its second 8 bytes."""
    mask = 0
    for probe in range(PROBES):
        mask |= 1 << (low >> 9 * probe & BLOCK_BITS - 1)
    return mask


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
            if _crc(self.descriptor, 0, self.info.rows_at) != self.info.head_crc:
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
        if _crc(self.descriptor, self.info.rows_at, rows) != self.info.rows_crc:
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
        block = _blocks(high, self.info.blocks)
        passed = np.ones(len(high), bool)
        for probe in range(PROBES):
            bit = low >> np.uint64(9 * probe) & np.uint64(BLOCK_BITS - 1)
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


def _blocks(high: Rows, blocks: int) -> Rows:
    return ((high >> np.uint64(32)) * np.uint64(blocks) >> np.uint64(32)).astype(np.intp)


def _crc(descriptor: int, at: int, length: int) -> int:
    crc, end = 0, at + length
    while at < end:
        piece = read_exactly(descriptor, min(PIECE_BYTES, end - at), at)
        crc = zlib.crc32(piece, crc)
        at += len(piece)
    return crc


class RunWriter:
    """Writes a run from front to back.

    Args:
        files: where.
        name: of the file.
        expected: how many rows there will be, at most.
    """

    def __init__(self, files: Files, name: str, expected: int) -> None:
        wanted = max(expected, 1) // ROWS_PER_BUCKET
        bits = min(max(wanted.bit_length(), MIN_BITS), MAX_BITS)
        blocks = max(expected * FILTER_BITS // BLOCK_BITS, 1)
        self._files = files
        self._shift = np.uint64(64 - bits)
        self._info = RunInfo(name=name, rows=0, bits=bits, blocks=blocks, head_crc=0, rows_crc=0)
        self._counts = np.zeros((1 << bits) + 1, np.uint32)
        self._rows = 0
        self._crc = 0
        # Bytes of rows that may not be on the disk yet.
        self._waiting = 0
        # The last block, which the next rows may belong to as well.
        self._open = (0, np.zeros(BLOCK_BITS, bool))
        self._descriptor = files.create(name)
        os.ftruncate(self._descriptor, self._info.rows_at)

    def add(self, high: Rows, rows: Rows) -> None:
        """Add rows in ascending order, after all that were added before.

        Args:
            high: the first 8 bytes of their ids.
            rows: of :data:`ROW`.
        """
        if not len(rows):
            return
        data = np.ascontiguousarray(rows).view(np.uint8).data
        at = self._info.rows_at + self._rows * ROW.itemsize
        write_all(self._descriptor, data, at)
        self._crc = zlib.crc32(data, self._crc)
        self._rows += len(rows)
        self._waiting += len(data)
        if self._waiting >= SYNC_BYTES:
            self._files.sync(self._descriptor)
            end = at + len(data)
            forget(self._descriptor, end - self._waiting, self._waiting)
            self._waiting = 0
        buckets = (high >> self._shift).astype(np.intp)
        first = int(buckets[0])
        counts = np.bincount(buckets - first).astype(np.uint32)
        self._counts[first + 1 : first + 1 + len(counts)] += counts
        self._filter(high, rows)

    def _filter(self, high: Rows, rows: Rows) -> None:
        block = _blocks(high, self._info.blocks)
        first, last = int(block[0]), int(block[-1])
        opened, pending = self._open
        bits = np.zeros((last - first + 1) * BLOCK_BITS, bool)
        if opened == first:
            bits[:BLOCK_BITS] |= pending
        else:
            self._write_blocks(opened, pending)
        low = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, ROW.itemsize)[:, 6:14]
        word = np.ascontiguousarray(low).view(">u8").ravel().astype(np.uint64)
        base = (block - first) * BLOCK_BITS
        for probe in range(PROBES):
            bit = (word >> np.uint64(9 * probe) & np.uint64(BLOCK_BITS - 1)).astype(np.intp)
            bits[base + bit] = True
        self._write_blocks(first, bits[:-BLOCK_BITS])
        self._open = (last, bits[-BLOCK_BITS:].copy())

    def _write_blocks(self, first: int, bits: Rows) -> None:
        data = np.packbits(bits, bitorder="little").data
        write_all(self._descriptor, data, self._info.filter_at + first * BLOCK_BYTES)

    def finish(self) -> RunInfo:
        """Write what is left, durably; the run's data for the manifest."""
        try:
            self._write_blocks(*self._open)
            fan = np.cumsum(self._counts, dtype=np.uint32).astype("<u4")
            write_all(self._descriptor, fan.view(np.uint8).data, 0)
            info = self._info
            os.ftruncate(self._descriptor, info.rows_at + self._rows * ROW.itemsize)
            head_crc = _crc(self._descriptor, 0, info.rows_at)
            self._files.sync(self._descriptor)
            length = self._rows * ROW.itemsize
            forget(self._descriptor, info.rows_at, length, least=LARGE_BYTES)
        finally:
            self.abandon()
        return RunInfo(
            name=info.name,
            rows=self._rows,
            bits=info.bits,
            blocks=info.blocks,
            head_crc=head_crc,
            rows_crc=self._crc,
        )

    def abandon(self) -> None:
        """Close the file. May be called more than once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_run(files: Files, name: str, ids: Rows, first_number: int) -> RunInfo:
    """Write a run of entries that follow each other.

    Args:
        files: where.
        name: of the file.
        ids: 16 bytes of each.
        first_number: the number of the first one.
    """
    high, _ = halves(ids)
    order = np.argsort(high, kind="stable")
    rows = np.empty(len(ids), ROW)
    raw = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, SHORT_ID_BYTES)
    view = rows.view(np.uint8).reshape(-1, ROW.itemsize)
    view[:, :14] = raw[order, KEY_AT:]
    rows["number"] = first_number + order
    writer = RunWriter(files, name, len(ids))
    try:
        writer.add(high[order], rows)
        return writer.finish()
    finally:
        writer.abandon()


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
