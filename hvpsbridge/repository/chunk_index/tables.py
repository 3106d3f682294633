"""The tables of a chunk index: entries in the order of packs, packs, and which index object lists which pack.

An entry is 20 bytes: 16 of its id, the length of its frame, and the power of two that is its raw length.
Frames of a pack follow each other, so that their places need not be written down. A pack for which that does
not hold, or that has raw lengths of other kinds (as of the end of a file), also has a row of 8 bytes for each
entry in ``odd``.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

import numpy as np

from hvpsbridge.formats.chunk import ID_BYTES
from hvpsbridge.formats.index_table import IndexTable, Rows
from hvpsbridge.formats.pack import HEAD_BYTES
from hvpsbridge.repository.chunk_index.files import (
    LARGE_BYTES,
    Files,
    forget,
    read_exactly,
    write_all,
)
from hvpsbridge.repository.chunk_index.manifest import TABLES, Extent, Manifest
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES

ENTRY = np.dtype([("id", "V16"), ("size", "<u4")])
TAIL = np.dtype("V16")
ODD = np.dtype([("offset", "<u4"), ("raw", "<u4")])
# Without gaps, which numpy closes when it joins arrays.
PACK = np.dtype(
    [
        ("name", "V16"),
        ("bytes", "<u8"),
        ("first", "<u4"),
        ("count", "<u4"),
        ("odd", "<u4"),
        ("kind", "u1"),
        ("unused", "V3"),
    ]
)
LISTING = np.dtype([("pack", "<u4"), ("source", "<u4")])
ROW_OF = {"entries": ENTRY, "tails": TAIL, "odd": ODD, "packs": PACK, "listings": LISTING}
# A pack that has no rows in ``odd``.
REGULAR = 0xFFFFFFFF
# A frame has at most 60 bytes of header, 1 MiB and 16 bytes of tag.
FRAME_BITS = 21
FRAME_MASK = (1 << FRAME_BITS) - 1
# Of a file that is checked, at once.
PIECE_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class PackRows:
    """Entries of one pack, in their order.

    Attributes:
        ids: 16 bytes of each.
        tails: the other 16; None where ids are keyed.
        offset, frame, raw: where each frame is in its pack, its length, and its raw length.
    """

    ids: Rows
    tails: Rows | None
    offset: Rows
    frame: Rows
    raw: Rows

    def whole_ids(self) -> list[bytes]:
        """The ids, as whole as they are known."""
        ids = np.ascontiguousarray(self.ids).view(np.uint8).reshape(-1, SHORT_ID_BYTES)
        if self.tails is not None:
            tails = np.ascontiguousarray(self.tails).view(np.uint8).reshape(-1, SHORT_ID_BYTES)
            ids = np.concatenate([ids, tails], axis=1)
        data, size = ids.tobytes(), ids.shape[1]
        return [data[at : at + size] for at in range(0, len(data), size)]


def encode(table: IndexTable, keyed: bool, entries_before: int, odd_before: int) -> dict[str, Rows]:
    """Rows of each table for all packs; numbers go on from those that the tables have already.

    Args:
        table: the packs.
        keyed: whether 16 bytes of ids are enough.
        entries_before, odd_before: rows that the tables have already.
    """
    entries, counts = table.entries, table.packs["count"].astype(np.int64)
    ids = np.ascontiguousarray(entries["id"]).view(np.uint8).reshape(-1, ID_BYTES)
    frame, raw = entries["frame"].astype(np.int64), entries["raw"].astype(np.int64)
    first = np.cumsum(counts) - counts
    power = np.zeros(len(raw), np.int64)
    power[raw > 0] = np.log2(raw[raw > 0]).astype(np.int64)
    odd = (entries["offset"] != _offsets(frame, counts)) | (raw != 1 << power)
    in_pack = np.repeat(np.arange(len(counts)), counts)
    odd_pack = np.bincount(in_pack[odd], minlength=len(counts)) > 0
    odd_counts = np.where(odd_pack, counts, 0)
    rows = {
        "entries": np.empty(len(entries), ENTRY),
        "tails": np.empty(0 if keyed else len(entries), TAIL),
        "odd": np.empty(int(odd_counts.sum()), ODD),
        "packs": np.zeros(len(counts), PACK),
        "listings": np.empty(0, LISTING),
    }
    rows["entries"].view(np.uint8).reshape(-1, ENTRY.itemsize)[:, :SHORT_ID_BYTES] = ids[:, :SHORT_ID_BYTES]
    rows["entries"]["size"] = frame | power << FRAME_BITS
    if not keyed:
        rows["tails"].view(np.uint8).reshape(-1, SHORT_ID_BYTES)[:] = ids[:, SHORT_ID_BYTES:]
    is_odd = odd_pack[in_pack]
    rows["odd"]["offset"] = entries["offset"][is_odd]
    rows["odd"]["raw"] = entries["raw"][is_odd]
    packs = rows["packs"]
    packs["name"], packs["bytes"], packs["kind"] = (table.packs[name] for name in ("name", "bytes", "kind"))
    packs["count"], packs["first"] = counts, entries_before + first
    packs["odd"] = np.where(odd_pack, odd_before + np.cumsum(odd_counts) - odd_counts, REGULAR)
    return rows


def _offsets(frame: Rows, counts: Rows) -> Rows:
    """Where frames are that follow each other in packs of so many."""
    end = np.cumsum(frame)
    start = np.concatenate([[0], end])[np.cumsum(counts) - counts]
    offsets: Rows = HEAD_BYTES + end - frame - np.repeat(start, counts)
    return offsets


class Tables:
    """The tables of one manifest, open for reading.

    Args:
        files: where they are.
        manifest: what counts.
        before: tables of an earlier manifest, whose packs need not be read again.

    Raises:
        ValueError: from any method: a file is not what was written.
        OSError: one cannot be read.
    """

    def __init__(self, files: Files, manifest: Manifest, before: Tables | None = None) -> None:
        self.manifest = manifest
        self.packs: Rows
        self.listings: Rows
        self._descriptors: dict[str, int] = {}
        if before is not None and before.manifest.epoch != manifest.epoch:
            before = None
        try:
            for table in TABLES:
                self._open(files, table)
            self.packs = self._load("packs", None if before is None else before.packs, before)
            self.listings = self._load("listings", None if before is None else before.listings, before)
        except BaseException:
            self.close()
            raise
        self.first = np.ascontiguousarray(self.packs["first"]).astype(np.int64)
        self._check_packs()
        self.alive = self._alive()

    def _open(self, files: Files, table: str) -> None:
        rows = self.manifest.tables[table].rows
        if not rows:
            return
        self._descriptors[table] = descriptor = files.read(self.manifest.table_name(table))
        size = os.fstat(descriptor).st_size
        if size < rows * ROW_OF[table].itemsize:
            raise ValueError(f"the table of {table} has {size} bytes, fewer than {rows} rows")

    def close(self) -> None:
        """Close the files. May be called more than once."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def rows(self, table: str, first: int, count: int) -> Rows:
        """Rows of a table."""
        dtype = ROW_OF[table]
        if first < 0 or count < 0 or first + count > self.manifest.tables[table].rows:
            raise ValueError(f"rows {first} to {first + count} are beyond the end of the table of {table}")
        if not count:
            return np.empty(0, dtype)
        data = read_exactly(self._descriptors[table], count * dtype.itemsize, first * dtype.itemsize)
        return np.frombuffer(data, dtype)

    def _load(self, table: str, known: Rows | None, before: Tables | None) -> Rows:
        extent, had = self.manifest.tables[table], Extent()
        if before is not None and before.manifest.tables[table].rows <= extent.rows:
            had = before.manifest.tables[table]
        new = self.rows(table, had.rows, extent.rows - had.rows)
        if zlib.crc32(new.view(np.uint8).data, had.crc) != extent.crc:
            raise ValueError(f"the table of {table} is not what was written")
        return new if known is None or not had.rows else np.concatenate([known, new])

    def check(self) -> None:
        """Read the tables of entries and compare them with their checksums."""
        for table in ("entries", "tails", "odd"):
            extent, crc = self.manifest.tables[table], 0
            for first in range(0, extent.rows, PIECE_ROWS):
                rows = self.rows(table, first, min(PIECE_ROWS, extent.rows - first))
                crc = zlib.crc32(rows.view(np.uint8).data, crc)
            if crc != extent.crc:
                raise ValueError(f"the table of {table} is not what was written")

    def _check_packs(self) -> None:
        """Check that packs and listings name only what exists."""
        ends = self.first + self.packs["count"]
        if len(ends) and (int(ends[-1]) != self.entries or (self.first[1:] != ends[:-1]).any()):
            raise ValueError("packs do not follow each other")
        if (self.listings["pack"] >= len(self.packs)).any():
            raise ValueError("a listing is of no pack")
        if (self.listings["source"] >= len(self.manifest.sources)).any():
            raise ValueError("a listing is of no index object")

    def _alive(self) -> Rows:
        sources = np.array([bool(source.name) for source in self.manifest.sources], bool)
        alive = np.zeros(len(self.packs), bool)
        alive[self.listings["pack"][sources[self.listings["source"]]]] = True
        return alive

    @property
    def entries(self) -> int:
        """How many entries there are, those of packs that are gone included."""
        return self.manifest.tables["entries"].rows

    def pack_of(self, number: int) -> int:
        """Number of the pack with an entry."""
        if not 0 <= number < self.entries:
            raise ValueError(f"there is no entry {number}")
        return int(np.searchsorted(self.first, number, "right")) - 1

    def packs_of(self, numbers: Rows) -> Rows:
        """Numbers of the packs with these entries."""
        if len(numbers) and int(numbers.max()) >= self.entries:
            raise ValueError(f"there is no entry {int(numbers.max())}")
        return np.searchsorted(self.first, numbers.astype(np.int64), "right") - 1

    def pack_rows(self, pack: int) -> PackRows:
        """Entries of a pack."""
        row = self.packs[pack]
        first, count, odd = int(row["first"]), int(row["count"]), int(row["odd"])
        entries = self.rows("entries", first, count)
        tails = None if self.manifest.keyed else self.rows("tails", first, count)
        size = entries["size"].astype(np.int64)
        frame = size & FRAME_MASK
        if odd == REGULAR:
            offset, raw = _offsets(frame, np.array([count])), 1 << (size >> FRAME_BITS)
        else:
            rows = self.rows("odd", odd, count)
            offset, raw = rows["offset"].astype(np.int64), rows["raw"].astype(np.int64)
        return PackRows(entries["id"], tails, offset, frame, raw)

    def frame_bytes(self, first: int, count: int) -> Rows:
        """Lengths of the frames of entries."""
        frame: Rows = self.rows("entries", first, count)["size"].astype(np.int64) & FRAME_MASK
        return frame

    def packs_listed_by(self, source: int) -> Rows:
        """Numbers of the packs that an index object lists, in its order."""
        packs: Rows = self.listings["pack"][self.listings["source"] == source]
        return packs


def append(files: Files, manifest: Manifest, rows: dict[str, Rows]) -> dict[str, Extent]:
    """Write rows behind those that count, durably; what will count when a manifest says so.

    Whatever is there already was written by a process that died, or is corrupt, and is replaced.
    """
    extents = dict(manifest.tables)
    for table, new in rows.items():
        if not len(new):
            continue
        extent = extents[table]
        descriptor = files.extend(manifest.table_name(table))
        try:
            data = np.ascontiguousarray(new).view(np.uint8).data
            at = extent.rows * ROW_OF[table].itemsize
            write_all(descriptor, data, at)
            os.ftruncate(descriptor, at + len(data))
            files.sync(descriptor)
            forget(descriptor, at, len(data), least=LARGE_BYTES)
        finally:
            os.close(descriptor)
        extents[table] = Extent(extent.rows + len(new), zlib.crc32(data, extent.crc))
    return extents
