"""Changes of a chunk index: each writes files and returns the manifest that would make them count."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hvpsbridge.formats.chunk import ID_BYTES
from hvpsbridge.formats.index_table import IndexTable, Rows
from hvpsbridge.repository.chunk_index import tables as table_files
from hvpsbridge.repository.chunk_index.files import Files
from hvpsbridge.repository.chunk_index.manifest import TABLES, Extent, Manifest, Source
from hvpsbridge.repository.chunk_index.run_writer import RunWriter, write_run
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES, Run, RunInfo, halves, merged_parts
from hvpsbridge.repository.chunk_index.tables import LISTING, REGULAR, PackRows, Tables

# Runs are merged until each is so many times as large as all smaller ones together. Then there are few of
# them, and a row is written again each time that what is newer than it has grown to a quarter of its run.
RATIO = 4
# Each has 512 KiB of its own in memory while they are merged, and is read a piece at a time.
MOST_RUNS = 32
# Rows of packs that are gone are removed when they are more than one in so many.
GONE_SHARE = 4
MAX_ENTRIES = (1 << 32) - 2
PIECE_ROWS = 1 << 20
# Of packs, which rows of tables and of index objects both have.
PACK_FIELDS = ("name", "kind", "bytes", "count")


def groups(objects: Sequence[tuple[bytes, IndexTable]]) -> Iterator[list[tuple[bytes, IndexTable]]]:
    """Index objects in groups in which no pack is in two of them."""
    group: list[tuple[bytes, IndexTable]] = []
    names: set[bytes] = set()
    for name, table in objects:
        here = set(_names(table.packs))
        if group and not names.isdisjoint(here):
            yield group
            group, names = [], set()
        group.append((name, table))
        names |= here
    if group:
        yield group


def added(files: Files, tables: Tables, objects: Sequence[tuple[bytes, IndexTable]]) -> Manifest:
    """Add published index objects, without those that are there.

    A pack that is known keeps its rows and numbers, as when collecting merges index objects.

    Args:
        files: of the index.
        tables: of what counts now.
        objects: one of the :func:`groups`.
    """
    manifest = tables.manifest
    known = {source.name for source in manifest.sources}
    new = [(name, table) for name, table in objects if name.hex() not in known]
    if not new:
        return manifest
    sources = [
        Source(name=name.hex(), supersedes=tuple(old.hex() for old in table.supersedes if old != name))
        for name, table in new
    ]
    packs = np.concatenate([table.packs for _, table in new])
    entries = np.concatenate([table.entries for _, table in new])
    place = _known_packs(tables, packs, entries)
    fresh = place < 0
    place[fresh] = len(tables.packs) + np.arange(int(fresh.sum()))
    kept = IndexTable((), packs[fresh], entries[np.repeat(fresh, packs["count"])])
    if tables.entries + len(kept.entries) > MAX_ENTRIES:
        raise OSError(errno.EFBIG, f"an index has at most {MAX_ENTRIES} chunks")
    rows = table_files.encode(kept, manifest.keyed, tables.entries, manifest.tables["odd"].rows)
    listings = np.empty(len(place), LISTING)
    listings["pack"] = place
    first = len(manifest.sources)
    listings["source"] = np.repeat(first + np.arange(len(new)), [len(table.packs) for _, table in new])
    rows["listings"] = listings
    extents = table_files.append(files, manifest, rows)
    runs = manifest.runs
    serial = manifest.serial + 1
    if len(kept.entries):
        name = f"run-{manifest.epoch}-{serial}"
        runs = (*runs, write_run(files, name, rows["entries"]["id"], tables.entries))
    return replace(manifest, serial=serial, tables=extents, runs=runs, sources=(*manifest.sources, *sources))


def _names(packs: Rows) -> list[bytes]:
    data = np.ascontiguousarray(packs["name"]).tobytes()
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def _known_packs(tables: Tables, packs: Rows, entries: Rows) -> Rows:
    """Numbers of the packs that have equal rows already; -1 for others."""
    place = np.full(len(packs), -1, np.int64)
    if not len(tables.packs) or not len(packs):
        return place
    keys, wanted = halves(tables.packs["name"])[0], halves(packs["name"])[0]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    end = np.searchsorted(keys, wanted, "right")
    ends = np.cumsum(packs["count"], dtype=np.int64)
    for number in np.flatnonzero(end > np.searchsorted(keys, wanted, "left")).tolist():
        there = int(order[end[number] - 1])  # the newest
        known, row = tables.packs[there], packs[number]
        if all(known[field] == row[field] for field in PACK_FIELDS):
            listed = entries[ends[number] - int(row["count"]) : ends[number]]
            if same(tables.pack_rows(there), listed):
                place[number] = there
    return place


def same(rows: PackRows, entries: Rows) -> bool:
    """Whether the rows of a pack are those entries of an index object."""
    ids = np.ascontiguousarray(entries["id"]).view(np.uint8).reshape(-1, ID_BYTES)
    return (
        np.array_equal(rows.offset, entries["offset"])
        and np.array_equal(rows.frame, entries["frame"])
        and np.array_equal(rows.raw, entries["raw"])
        and np.ascontiguousarray(rows.ids).tobytes() == ids[:, :SHORT_ID_BYTES].tobytes()
        and (rows.tails is None or rows.tails.tobytes() == ids[:, SHORT_ID_BYTES:].tobytes())
    )


# -- merging --------------------------------------------------------------------------------------------


def to_merge(runs: Sequence[RunInfo], most_rows: int | None = None) -> tuple[RunInfo, ...]:
    """The runs that should be one; none if all may stay.

    Args:
        runs: all.
        most_rows: how many rows a merge may write now.
    """
    ascending = sorted(runs, key=lambda run: run.rows)[:MOST_RUNS]
    total, take = 0, 0
    for number, run in enumerate(ascending):
        if most_rows is not None and total + run.rows > most_rows:
            break
        if number and run.rows < RATIO * total:
            take = number + 1
        total += run.rows
    return tuple(ascending[:take])


def merged(files: Files, runs: Sequence[Run], name: str) -> RunInfo:
    """Write a run with the rows of several."""
    writer = RunWriter(files, name, sum(run.info.rows for run in runs))
    try:
        for high, rows in merged_parts(runs):
            writer.add(high, rows)
        return writer.finish()
    finally:
        writer.abandon()


# -- removing what is gone --------------------------------------------------------------------------------


def is_sparse(tables: Tables) -> bool:
    """Whether so many entries are of packs that are gone that they should be removed."""
    gone = int(tables.packs["count"][~tables.alive].sum(dtype=np.int64))
    return gone * GONE_SHARE > tables.entries


def compacted(files: Files, tables: Tables, runs: Sequence[Run], epoch: int) -> Manifest:
    """Write everything anew without packs that are gone. Entries and packs get other numbers."""
    old, alive = tables.manifest, tables.alive
    counts = np.where(alive, tables.packs["count"], 0).astype(np.int64)
    first = np.cumsum(counts) - counts
    empty = replace(
        old,
        epoch=epoch,
        serial=old.serial + 1,
        tables=dict.fromkeys(TABLES, Extent()),
        runs=(),
        sources=tuple(source for source in old.sources if source.name),
    )
    manifest = replace(empty, tables=_copy_entries(files, tables, empty))
    packs = tables.packs[alive]
    packs["first"] = first[alive]
    odd = packs["odd"] != REGULAR
    odd_counts = np.where(odd, packs["count"], 0).astype(np.int64)
    packs["odd"][odd] = (np.cumsum(odd_counts) - odd_counts)[odd]
    live = np.array([bool(source.name) for source in old.sources], bool)
    listings = tables.listings[live[tables.listings["source"]]] if len(live) else tables.listings
    listings["source"] = (np.cumsum(live) - 1)[listings["source"]]
    listings["pack"] = (np.cumsum(alive) - 1)[listings["pack"]]
    manifest = replace(
        manifest, tables=table_files.append(files, manifest, {"packs": packs, "listings": listings})
    )
    total = int(counts.sum())
    if not total:
        return manifest
    writer = RunWriter(files, f"run-{epoch}-{manifest.serial}", total)
    try:
        for high, rows in merged_parts(runs):
            pack = tables.packs_of(rows["number"])
            kept = alive[pack]
            pack, moved = pack[kept], rows[kept]
            moved["number"] = first[pack] + moved["number"] - tables.first[pack]
            writer.add(high[kept], moved)
        return replace(manifest, runs=(writer.finish(),))
    finally:
        writer.abandon()


def _copy_entries(files: Files, tables: Tables, manifest: Manifest) -> dict[str, Extent]:
    counts = tables.packs["count"].astype(np.int64)
    odd_counts = np.where(tables.packs["odd"] != REGULAR, counts, 0)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start] - counts[start])
        stop = max(int(np.searchsorted(ends, done + PIECE_ROWS, "right")), start + 1)
        alive = tables.alive[start:stop]
        number = int(counts[start:stop].sum())
        kept = np.repeat(alive, counts[start:stop])
        rows = {"entries": tables.rows("entries", done, number)[kept]}
        if not manifest.keyed:
            rows["tails"] = tables.rows("tails", done, number)[kept]
        here = odd_counts[start:stop]
        if here.any():
            odd_first = int(odd_counts[:start].sum())
            rows["odd"] = tables.rows("odd", odd_first, int(here.sum()))[np.repeat(alive, here)]
        manifest = replace(manifest, tables=table_files.append(files, manifest, rows))
        start = stop
    return manifest.tables
