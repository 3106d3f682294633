"""Reading a stored disk or file: as a seekable file, as extents, and as chunks in the order of packs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.extents import Extent, joined
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.formats.readable import SeekableFile
from hvpsbridge.repository.cache_rows import Location
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.tree import TreeReader

# Takes what cannot be read: where, and why.
OnDamaged = Callable[[Extent, Damaged], None]

# Chunks kept for readers that go back and forth, as file systems do.
CHUNKS_KEPT = 16
# Chunks sorted into the order of packs at a time: 4 GiB of disk with chunks of 256 KiB, about 4 MiB of
# memory.
WINDOW_CHUNKS = 16384


class DiskImage(SeekableFile):
    """The content of a tree, read-only. Every chunk is checked against its id before it is used.

    May be used by one thread at a time.
    """

    def __init__(self, frames: FrameReader, grid: ChunkGrid, root: TreeRoot) -> None:
        super().__init__(root.size_bytes)
        self._frames = frames
        self._grid = grid
        self._tree = TreeReader(frames, root, grid.count(root.size_bytes))
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()

    # -- as a file ------------------------------------------------------------------------------------

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer is not importable at run time
        """Read into ``buffer``, at most to the end of a chunk; the count of bytes, 0 at the end of the disk.

        Raises:
            Damaged: the chunk there is not what was written.
        """
        if self._position >= self.size_bytes:
            return 0
        number = self._grid.number(self._position)
        extent = self._grid.extent(number, self.size_bytes)
        view = memoryview(buffer).cast("B")
        count = min(len(view), extent.end - self._position)
        raw = self._chunk(number, extent.length)
        at = self._position - extent.offset
        view[:count] = bytes(count) if raw is None else raw[at : at + count]
        self._position += count
        return count

    def _chunk(self, number: int, length: int) -> bytes | None:
        identity = self._tree.chunk_id(number)
        if is_zero(identity):
            return None
        raw = self._chunks.get(identity)
        if raw is None:
            raw = self._frames.read(identity, Kind.DATA_PACK)
            self._chunks[identity] = raw
            if len(self._chunks) > CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(identity)
        return self._frames.checked_length(identity, raw, length)

    def node(self, level: int, number: int) -> bytes:
        """A node of its tree; see ``TreeReader.node``."""
        return self._tree.node(level, number)

    # -- as a whole -----------------------------------------------------------------------------------

    def chunk_ids(
        self, walked: set[bytes] | None = None, on_damaged: OnDamaged | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Number and id of every chunk that is not zero, ascending.

        Args:
            walked: as in ``TreeReader.leaves``.
            on_damaged: called with each extent of which the ids cannot be read. Without it that is an error.

        Raises:
            Damaged: a part of the tree cannot be read.
        """
        yield from self._tree.chunk_ids(walked, self._extent_damaged(on_damaged))

    def _extent_damaged(self, on_damaged: OnDamaged | None) -> Callable[[int, int, Damaged], None] | None:
        if on_damaged is None:
            return None

        def damaged(first: int, count: int, err: Damaged) -> None:
            start = self._grid.extent(first, self.size_bytes)
            last = self._grid.extent(first + count - 1, self.size_bytes)
            on_damaged(Extent(start.offset, last.end - start.offset), err)

        return damaged

    def extents(self, on_damaged: OnDamaged | None = None) -> Iterator[Extent]:
        """Extents of chunks that are not zero, ascending; neighbours are joined.

        Args:
            on_damaged: as in :meth:`chunk_ids`.
        """
        numbers = self.chunk_ids(on_damaged=on_damaged)
        yield from joined(self._grid.extent(number, self.size_bytes) for number, _ in numbers)

    def chunks(self, on_damaged: OnDamaged | None = None) -> Iterator[tuple[int, bytes]]:
        """Offset in bytes and content of every chunk that is not zero, in the order that is fastest to read.

        The disk is read in windows of :data:`WINDOW_CHUNKS`. In a window, chunks come in the order of packs,
        neighbours are fetched together, and a chunk that occurs several times is fetched once.

        Args:
            on_damaged: called with each extent that cannot be read, which is left out then. Without it that
                is an error.

        Raises:
            Damaged: a chunk has no good copy.
        """
        yield from self.read_chunks(self.chunk_ids(on_damaged=on_damaged), on_damaged)

    def read_chunks(
        self, numbers: Iterable[tuple[int, bytes]], on_damaged: OnDamaged | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """As :meth:`chunks`, but only chunks that are given as by :meth:`chunk_ids`."""
        window: dict[bytes, list[int]] = {}
        count = 0
        for number, identity in numbers:
            window.setdefault(identity, []).append(number)
            count += 1
            if count == WINDOW_CHUNKS:
                yield from self._in_pack_order(window, on_damaged)
                window, count = {}, 0
        yield from self._in_pack_order(window, on_damaged)

    def _in_pack_order(
        self, window: dict[bytes, list[int]], on_damaged: OnDamaged | None
    ) -> Iterator[tuple[int, bytes]]:
        places: list[Location] = []
        found = self._frames.locate_all(tuple(window), Kind.DATA_PACK)
        for identity, numbers in window.items():
            try:
                here = found.get(identity) or self._frames.locate(identity, Kind.DATA_PACK)
                places.append(here[0])
            except Damaged as err:
                self._left_out(numbers, err, on_damaged)
        for place, content in self._frames.read_all(places):
            try:
                # There may be another copy that is good.
                raw = self._frames.read(place.id, Kind.DATA_PACK) if isinstance(content, Damaged) else content
            except Damaged as err:
                self._left_out(window[place.id], err, on_damaged)
                continue
            for number in window[place.id]:
                extent = self._grid.extent(number, self.size_bytes)
                try:
                    checked = self._frames.checked_length(place.id, raw, extent.length)
                except Damaged as err:
                    self._left_out([number], err, on_damaged)
                    continue
                yield extent.offset, checked

    def _left_out(self, numbers: Iterable[int], err: Damaged, on_damaged: OnDamaged | None) -> None:
        if on_damaged is None:
            raise err
        for number in numbers:
            on_damaged(self._grid.extent(number, self.size_bytes), err)
