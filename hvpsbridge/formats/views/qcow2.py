"""qcow2 files, version 3 (docs/interop/qcow2 of QEMU). All integers are big endian.

::

    0   header
    -   L1 table
    -   refcount table
    -   refcount blocks
    -   L2 tables: those that have an entry
    -   clusters of data, ascending

Each part begins at a cluster. All clusters of the file are in use, once each.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable

from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.views.view import DiskShape, ImageView, Payload, Table, big_endian, runs_in_order
from hvpsbridge.units import KIB, MIB

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_VERSION = 3
_REFCOUNT_ORDER = 4
_REFCOUNT_BYTES = (1 << _REFCOUNT_ORDER) // 8
_COPIED = 1 << 63
_ENTRY_BYTES = 8
_MIN_CLUSTER_BYTES, _MAX_CLUSTER_BYTES = 64 * KIB, 2 * MIB
# Clusters of a disk before they are made larger: 64 KiB up to 2 TiB.
_MANY_CLUSTERS = 1 << 25
# QEMU opens no larger L1 table.
_MAX_L1_BYTES = 32 * MIB


def cluster_bytes(size_bytes: int) -> int:
    """Size of the clusters of a disk: larger for large disks, so that tables stay small."""
    cluster = _MIN_CLUSTER_BYTES
    while cluster < _MAX_CLUSTER_BYTES and size_bytes > cluster * _MANY_CLUSTERS:
        cluster *= 2
    return cluster


def qcow2_view(shape: DiskShape, extents: Iterable[Extent]) -> ImageView:
    """A qcow2 file of the disk. It has no place for sector sizes and ids.

    Args:
        shape: of the disk.
        extents: of the disk's data, ascending.

    Raises:
        ValueError: the format does not allow the size.
    """
    if shape.size_bytes <= 0 or shape.size_bytes % 512:
        raise ValueError(f"a qcow2 file cannot have a size of {shape.size_bytes} bytes")
    cluster = cluster_bytes(shape.size_bytes)
    clusters = -(-shape.size_bytes // cluster)
    runs = align(extents, cluster, clusters * cluster)
    layout = _Layout(cluster, clusters, runs)
    tables = (
        Table.of(0, layout.header(shape.size_bytes)),
        Table(layout.l1_offset, _ENTRY_BYTES * layout.l1_entries, layout.l1),
        Table(layout.table_offset, _ENTRY_BYTES * layout.refcount_blocks, layout.refcount_table),
        Table(layout.blocks_offset, layout.refcount_blocks * cluster, layout.refcounts),
        *([Table(layout.l2_offset, len(layout.l2_used) * cluster, layout.l2)] if layout.l2_used else []),
    )
    return ImageView(layout.file_clusters * cluster, tables, layout.payload)


class _Layout:
    """Where the parts of a file are, and any part of its tables."""

    def __init__(self, cluster: int, clusters: int, runs: tuple[Extent, ...]) -> None:
        self.cluster = cluster
        self._per_table = cluster // _ENTRY_BYTES
        self.l1_entries = -(-clusters // self._per_table)
        if self.l1_entries * _ENTRY_BYTES > _MAX_L1_BYTES:
            raise ValueError("the disk is too large for a qcow2 file")
        self.l2_used = array("Q", _touched(runs, cluster * self._per_table))
        data = sum(run.length for run in runs) // cluster
        l1_clusters = self._clusters(self.l1_entries * _ENTRY_BYTES)
        others = 1 + l1_clusters + len(self.l2_used) + data
        self.refcount_blocks, self._table_clusters = self._refcounts_for(others)
        self.file_clusters = others + self.refcount_blocks + self._table_clusters
        self.l1_offset = cluster
        self.table_offset = self.l1_offset + l1_clusters * cluster
        self.blocks_offset = self.table_offset + self._table_clusters * cluster
        self.l2_offset = self.blocks_offset + self.refcount_blocks * cluster
        self.payload = Payload(runs_in_order(runs, self.l2_offset + len(self.l2_used) * cluster))

    def _clusters(self, length: int) -> int:
        return -(-length // self.cluster)

    def _refcounts_for(self, others: int) -> tuple[int, int]:
        """Refcount blocks and clusters of the refcount table, which are counted themselves."""
        per_block = self.cluster // _REFCOUNT_BYTES
        blocks = table = 0
        while True:
            needed = -(-(others + blocks + table) // per_block)
            needed_table = self._clusters(needed * _ENTRY_BYTES)
            if (needed, needed_table) == (blocks, table):
                return blocks, table
            blocks, table = needed, needed_table

    def header(self, size_bytes: int) -> bytes:
        """The header; the rest of its cluster is zeros, which end the list of extensions."""
        return _HEADER.pack(
            b"QFI\xfb",
            _VERSION,
            0,
            0,
            self.cluster.bit_length() - 1,
            size_bytes,
            0,
            self.l1_entries,
            self.l1_offset,
            self.table_offset,
            self._table_clusters,
            0,
            0,
            0,
            0,
            0,
            _REFCOUNT_ORDER,
            _HEADER.size,
        )

    def l1(self, start: int, length: int) -> bytes:
        """Part of the L1 table."""
        first, entries = _blank(start, length)
        index = bisect_left(self.l2_used, first)
        while index < len(self.l2_used) and self.l2_used[index] < first + len(entries):
            entries[self.l2_used[index] - first] = (self.l2_offset + index * self.cluster) | _COPIED
            index += 1
        return big_endian(entries, start, length)

    def l2(self, start: int, length: int) -> bytes:
        """Part of the L2 tables, which are one after another."""
        pieces = []
        end = start + length
        while start < end:
            table, at = divmod(start, self.cluster)
            count = min(end - start, self.cluster - at)
            pieces.append(self._l2_of(self.l2_used[table], at, count))
            start += count
        return b"".join(pieces)

    def _l2_of(self, table: int, start: int, length: int) -> bytes:
        first, entries = _blank(start, length)
        base = table * self._per_table + first
        for run in self.payload.of_disk(base * self.cluster, len(entries) * self.cluster):
            at = run.disk_offset // self.cluster - base
            offset = run.file_offset | _COPIED
            entries[at : at + run.length // self.cluster] = array(
                "Q", range(offset, offset + run.length, self.cluster)
            )
        return big_endian(entries, start, length)

    def refcount_table(self, start: int, length: int) -> bytes:
        """Part of the refcount table: offsets of the blocks."""
        first, entries = _blank(start, length)
        for index in range(len(entries)):
            entries[index] = self.blocks_offset + (first + index) * self.cluster
        return big_endian(entries, start, length)

    def refcounts(self, start: int, length: int) -> bytes:
        """Part of the refcount blocks: 1 for each cluster of the file."""
        used = min(max(self.file_clusters * _REFCOUNT_BYTES - start, 0), length)
        pattern = b"\x00\x01" if start % _REFCOUNT_BYTES == 0 else b"\x01\x00"
        return (pattern * -(-used // _REFCOUNT_BYTES))[:used].ljust(length, b"\0")


def _touched(runs: Iterable[Extent], unit: int) -> Iterable[int]:
    last = -1
    for run in runs:
        for number in range(max(run.offset // unit, last + 1), -(-run.end // unit)):
            yield number
            last = number


def _blank(start: int, length: int) -> tuple[int, array[int]]:
    """Number of the first entry that these bytes touch, and as many empty entries as they touch."""
    first = start // _ENTRY_BYTES
    return first, array("Q", bytes(_ENTRY_BYTES * (-(-(start + length) // _ENTRY_BYTES) - first)))
