"""Marks what points need: chunks and nodes, a bit for each copy that is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository.cache import FIND_AT_ONCE, IndexCache
from hvpsbridge.repository.cache_rows import Location
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.image import DiskImage


class Marks:
    """Marks one copy of each chunk and node that manifests need.

    Args:
        cache, frames, grid: of the repository.
        avoid: packs of which a copy is marked only if there is no other.
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
        bad: Collection[tuple[bytes, bytes]],
    ) -> None:
        self._cache = cache
        self._frames = frames
        self._grid = grid
        self._avoid = frozenset(avoid)
        self._bad = frozenset(bad)
        self._bits = bytearray(cache.highest_number() // 8 + 1)
        self._walked: set[bytes] = set()
        self.doubles: dict[tuple[Kind, bytes], Location] = {}

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Mark what manifests need.

        Raises:
            Damaged: a node cannot be read, or a chunk or node is in no index; nothing may be deleted then.
        """
        for manifest in manifests:
            for tree in _trees(manifest):
                self._walk(tree)
        nodes = list(self._walked)
        for at in range(0, len(nodes), FIND_AT_ONCE):
            self._mark(nodes[at : at + FIND_AT_ONCE], Kind.NODE_PACK)

    def _walk(self, tree: TreeRoot) -> None:
        batch: list[bytes] = []
        for _, identity in DiskImage(self._frames, self._grid, tree).chunk_ids(self._walked):
            batch.append(identity)
            if len(batch) == FIND_AT_ONCE:
                self._mark(batch, Kind.DATA_PACK)
                batch = []
        self._mark(batch, Kind.DATA_PACK)

    def _mark(self, identities: Sequence[bytes], kind: Kind) -> None:
        found = self._frames.locate_all(identities, kind)
        for identity in identities:
            places = found.get(identity) or self._frames.locate(identity, kind)
            if len(places) > 1:
                self._mark_double(identity, kind, places)
            else:
                self._set(places[0].number)

    def _mark_double(self, identity: bytes, kind: Kind, places: Sequence[Location]) -> None:
        if (kind, identity) in self.doubles:
            return
        self.doubles[kind, identity] = chosen = min(places, key=self._rank)
        self._set(chosen.number)

    def _rank(self, place: Location) -> tuple[bool, bool, int]:
        return (place.id, place.pack) in self._bad, place.pack in self._avoid, place.number

    def _set(self, number: int) -> None:
        if number // 8 >= len(self._bits):  # published since the start
            self._bits.extend(bytes(number // 8 + 1 - len(self._bits)))
        self._bits[number // 8] |= 1 << number % 8

    def copy(self) -> bytes:
        """The marks so far, for :func:`is_set`."""
        return bytes(self._bits)

    def has(self, place: Location) -> bool:
        """Whether this copy is marked."""
        return is_set(self._bits, place.number)

    def is_double(self, place: Location) -> bool:
        """Whether something needs the frame, and another copy of it is marked."""
        marked = self.doubles.get((place.kind, place.id))
        return marked is not None and marked.number != place.number


def is_set(bits: bytes | bytearray, number: int) -> bool:
    """Whether the bit of a number is set."""
    return number // 8 < len(bits) and bool(bits[number // 8] & (1 << number % 8))


def _trees(manifest: Manifest) -> Iterator[TreeRoot]:
    yield from (disk.tree for disk in manifest.disks)
    yield from (file.tree for file in manifest.files)
