"""Reading stored disks anywhere, by several threads, with a cache of decoded chunks that they share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.extents import Extent, joined
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.tree import TreeReader
from hvpsbridge.units import MIB

CACHE_BYTES = 64 * MIB
# Decoded ahead of a reader that goes on where it ended; at most half of the cache.
READ_AHEAD_BYTES = 8 * MIB
# Decompression, decryption and hashing release the interpreter's lock; a remote store waits for answers.
WORKERS, REMOTE_WORKERS = 4, 16
# Places at which readers ended: as many readers are recognized as going on.
STREAMS = 16


class ChunkCache:
    """Decoded chunks by id, the most recently used, and those that are being decoded. Thread-safe.

    Args:
        capacity_bytes: of the chunks that are kept.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self._coming: dict[bytes, Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, identity: bytes, load: Callable[[], bytes]) -> bytes:
        """The chunk; loaded by one thread however many ask for it at a time.

        Raises:
            Damaged: it cannot be read.
        """
        with self._lock:
            found = self._chunks.get(identity)
            if found is not None:
                self._chunks.move_to_end(identity)
                return found
            coming = self._coming.get(identity)
            if coming is None:
                mine: Future[bytes] = Future()
                self._coming[identity] = mine
        if coming is not None:
            return coming.result()
        try:
            content = load()
        except BaseException as err:
            with self._lock:
                del self._coming[identity]
            mine.set_exception(err)
            raise
        with self._lock:
            del self._coming[identity]
            self._chunks[identity] = content
            self._held_bytes += len(content)
            while self._held_bytes > self._capacity_bytes:
                self._held_bytes -= len(self._chunks.popitem(last=False)[1])
        mine.set_result(content)
        return content

    def has(self, identity: bytes) -> bool:
        """Whether the chunk is here or coming."""
        with self._lock:
            return identity in self._chunks or identity in self._coming


class ChunkReaders:
    """What the readers of a process share: the cache and the threads that decode.

    Args:
        frames: of the repository.
        cache_bytes: capacity of the cache.
        remote: whether the store is remote.
    """

    def __init__(self, frames: FrameReader, *, cache_bytes: int = CACHE_BYTES, remote: bool = False) -> None:
        self.frames = frames
        self.cache = ChunkCache(cache_bytes)
        self.pool = ThreadPoolExecutor(REMOTE_WORKERS if remote else WORKERS, thread_name_prefix="decode")

    def chunk(self, identity: bytes) -> bytes:
        """A chunk, checked against its id.

        Raises:
            Damaged: it has no good copy.
        """
        return self.cache.get(identity, lambda: self.frames.read(identity, Kind.DATA_PACK))

    def close(self) -> None:
        """Stop the threads; what they are decoding is finished first."""
        self.pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DiskReader:
    """One stored disk. Thread-safe.

    Attributes:
        size_bytes: of the disk.
    """

    def __init__(self, readers: ChunkReaders, grid: ChunkGrid, root: TreeRoot) -> None:
        self._readers = readers
        self._grid = grid
        self._tree = TreeReader(readers.frames, root, grid.count(root.size_bytes))
        self.size_bytes = root.size_bytes
        self._ends: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within the disk.

        Raises:
            Damaged: some of them cannot be read.
        """
        if self._goes_on(offset, length):
            self._read_ahead(offset + length)
        numbers = self._grid.touched([Extent(offset, length)])
        wanted = [(number, self._tree.chunk_id(number)) for number in numbers]
        if len(wanted) > 1:
            self._fetch(identity for _, identity in wanted)
        pieces = []
        for number, identity in wanted:
            extent = self._grid.extent(number, self.size_bytes)
            start, end = max(offset, extent.offset), min(offset + length, extent.end)
            if is_zero(identity):
                pieces.append(bytes(end - start))
                continue
            content = self._readers.frames.checked_length(
                identity, self._readers.chunk(identity), extent.length
            )
            pieces.append(content[start - extent.offset : end - extent.offset])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def extents(self) -> Iterator[Extent]:
        """Extents with data, ascending.

        Raises:
            Damaged: a part of the tree cannot be read.
        """
        numbers = self._tree.chunk_ids()
        return joined(self._grid.extent(number, self.size_bytes) for number, _ in numbers)

    def status(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Lengths of runs, one after another from ``offset``, and whether each is data; else it is zeros.

        Raises:
            Damaged: a part of the tree cannot be read.
        """
        start, end, kind = offset, offset, False
        for number in self._grid.touched([Extent(offset, length)]):
            extent = self._grid.extent(number, self.size_bytes)
            data = not is_zero(self._tree.chunk_id(number))
            if data != kind and end > start:
                yield end - start, kind
                start = end
            kind, end = data, min(extent.end, offset + length)
        if end > start:
            yield end - start, kind

    # -- ahead ------------------------------------------------------------------------------------------

    def _goes_on(self, offset: int, length: int) -> bool:
        """Whether a reader goes on where it ended, near enough: several requests may be under way."""
        with self._lock:
            near = next((end for end in self._ends if 0 <= offset - end <= READ_AHEAD_BYTES), None)
            if near is not None:
                del self._ends[near]
            self._ends[offset + length] = None
            while len(self._ends) > STREAMS:
                self._ends.popitem(last=False)
        return near is not None

    def _read_ahead(self, offset: int) -> None:
        length = min(READ_AHEAD_BYTES, self.size_bytes - offset)
        if length > 0:
            numbers = self._grid.touched([Extent(offset, length)])
            self._fetch(self._tree.chunk_id(number) for number in numbers)

    def _fetch(self, identities: Iterable[bytes]) -> None:
        """Have chunks decoded by other threads. What is damaged is found when it is read."""
        for identity in identities:
            if not is_zero(identity) and not self._readers.cache.has(identity):
                try:
                    self._readers.pool.submit(self._readers.chunk, identity)
                except RuntimeError:
                    return  # being closed
