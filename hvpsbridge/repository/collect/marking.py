"""Marks what points need: chunks and nodes, a bit for each copy that is kept.

Trees of one disk are walked together, from the root down, and a node that is marked already is not read
again. Of the ids in a leaf, those that were at the same place in the version before it are marked already, so
only a few have to be looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from hvpsbridge.formats.chunk import ID_BYTES
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.index_table import Rows
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.formats.node import FAN_OUT, TreeRoot, levels
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.cache_rows import Location
from hvpsbridge.repository.chunk_index import marks as chunk_marks
from hvpsbridge.repository.chunk_index.versions import Column, batches, children, new_ids
from hvpsbridge.repository.collect.nodes import NodeReader
from hvpsbridge.repository.frames import FrameReader

# Nodes that are in memory at a time for each level: 16 MiB.
NODES_AT_ONCE = 2048
# Ids of chunks that are looked for at a time.
IDS_AT_ONCE = 1 << 14


class Marks:
    """Marks one copy of each chunk and node that manifests need.

    Args:
        cache, frames, grid: of the repository.
        avoid: packs of which a copy is marked only if there is no other.
        missing: packs that are not in the store, which are avoided more.
        bad: frames (id, pack name) that are listed as bad; they are avoided, too.

    Attributes:
        doubles: the marked copy of each frame that has several.
    """

    def __init__(
        self,
        cache: IndexCache,
        frames: FrameReader,
        grid: ChunkGrid,
        avoid: Collection[bytes],
        missing: Collection[bytes],
        bad: Collection[tuple[bytes, bytes]],
    ) -> None:
        self._cache = cache
        self._frames = frames
        self._grid = grid
        self._avoid = frozenset(avoid)
        self._missing = frozenset(missing)
        self._bad = frozenset(bad)
        self._marks = chunk_marks.Marks()
        self._nodes = NodeReader(cache, frames)
        self._waiting: list[bytes] = []
        self.doubles: dict[tuple[Kind, bytes], Location] = {}

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Mark what manifests need.

        Raises:
            Damaged: a node cannot be read, or a chunk or node is in no index; nothing may be deleted then.
        """
        lines: dict[tuple[object, ...], list[TreeRoot]] = {}
        for manifest in sorted(manifests, key=lambda each: (str(each.vm_id), each.sequence)):
            for part, tree in _trees(manifest):
                lines.setdefault((manifest.vm_id, part, tree.size_bytes), []).append(tree)
        for trees in lines.values():
            chunks = self._grid.count(trees[0].size_bytes)
            self._descend(levels(chunks), [Column(0, [tree.root for tree in trees])], chunks)
            self._mark_chunks(0)

    def _descend(self, level: int, columns: Sequence[Column], chunks: int) -> None:
        """Mark nodes of a level, and what is below those that were not marked."""
        for batch in batches(columns, NODES_AT_ONCE):
            self._descend_some(level, batch, chunks)

    def _descend_some(self, level: int, columns: Sequence[Column], chunks: int) -> None:
        ids = b"".join(identity for column in columns for identity in column.versions)
        new, numbers = self._mark(ids, Kind.NODE_PACK)
        wanted = [ids[ID_BYTES * at : ID_BYTES * (at + 1)] for at in new]
        read = self._nodes.read(wanted, [numbers[at] for at in new])
        for column in columns:
            versions = [node for identity in column.versions if (node := read.get(identity)) is not None]
            if not versions:
                continue
            if level > 1:
                first = column.number * FAN_OUT
                end = min(FAN_OUT, -(-chunks // FAN_OUT ** (level - 1)) - first)
                self._descend(level - 1, children(versions, first, end), chunks)
            else:
                self._waiting.append(new_ids(versions, chunks - column.number * FAN_OUT))
                self._mark_chunks(IDS_AT_ONCE)

    def _mark_chunks(self, most: int) -> None:
        """Mark the chunks that wait, if there are more than so many."""
        if sum(map(len, self._waiting)) > ID_BYTES * most:
            self._mark(b"".join(self._waiting), Kind.DATA_PACK)
            self._waiting.clear()

    def _mark(self, ids: bytes, kind: Kind) -> tuple[list[int], list[int]]:
        """Mark ids, one after another.

        Returns:
            Places of those that were not marked before; for each id, the number of an entry, or -1.
        """
        marked = self._cache.mark(self._marks, ids, kind)
        new, numbers = marked.new.nonzero()[0].tolist(), marked.numbers.tolist()
        for at in marked.unclear.nonzero()[0].tolist():
            identity = ids[ID_BYTES * at : ID_BYTES * (at + 1)]
            if (kind, identity) in self.doubles:
                continue
            places = self._frames.locate(identity, kind)
            chosen = min(places, key=self._rank)
            if len(places) > 1:
                self.doubles[kind, identity] = chosen
            numbers[at] = chosen.number
            if self._marks.add(chosen.number):
                new.append(at)
            # A pack that index objects list with different entries has several numbers.
            for place in places:
                if place.pack == chosen.pack:
                    self._marks.add(place.number)
        return sorted(new), numbers

    def _rank(self, place: Location) -> tuple[bool, bool, bool, int]:
        is_bad = (place.id, place.pack) in self._bad
        return place.pack in self._missing, is_bad, place.pack in self._avoid, place.number

    def copy(self) -> bytes:
        """The marks so far, for :func:`is_set`."""
        return self._marks.bits.tobytes()

    def has(self, place: Location) -> bool:
        """Whether this copy is marked."""
        return is_set(self._marks.bits, place.number)

    def is_double(self, place: Location) -> bool:
        """Whether something needs the frame, and another copy of it is marked."""
        marked = self.doubles.get((place.kind, place.id))
        return marked is not None and marked.pack != place.pack


def is_set(bits: bytes | Rows, number: int) -> bool:
    """Whether the bit of a number is set."""
    return number // 8 < len(bits) and bool(bits[number // 8] & (1 << number % 8))


def _trees(manifest: Manifest) -> Iterator[tuple[str, TreeRoot]]:
    yield from ((f"disk {disk.slot}", disk.tree) for disk in manifest.disks)
    yield from ((f"file {file.name}", file.tree) for file in manifest.files)
