"""Writing runs."""

from __future__ import annotations

import os
import zlib

import numpy as np

from hvpsbridge.formats.index_table import Rows
from hvpsbridge.repository.chunk_index.files import LARGE_BYTES, Files, forget, write_all
from hvpsbridge.repository.chunk_index.filters import (
    BLOCK_BITS,
    BLOCK_BYTES,
    FILTER_BITS,
    block_numbers,
    filter_bits,
)
from hvpsbridge.repository.chunk_index.runs import (
    KEY_AT,
    MIN_BITS,
    ROW,
    SHORT_ID_BYTES,
    RunInfo,
    crc_of,
    halves,
)

MAX_BITS = 28
ROWS_PER_BUCKET = 64
# Written before it is synced, for the rest of the machine.
SYNC_BYTES = 1 << 25


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
        block = block_numbers(high, self._info.blocks)
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
        for bit in filter_bits(word):
            bits[base + bit.astype(np.intp)] = True
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
            head_crc = crc_of(self._descriptor, 0, info.rows_at)
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
