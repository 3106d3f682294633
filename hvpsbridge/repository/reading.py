"""Reading stored disks anywhere, by several threads, with a cache of decoded chunks that they share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.extents import Extent, joined
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.node import FAN_OUT, TreeRoot, is_zero
from hvpsbridge.repository.frames import RANGE_BYTES, FrameReader, coalesce
from hvpsbridge.repository.tree import TreeReader
from hvpsbridge.units import MIB

CACHE_BYTES = 48 * MIB
# Decoded ahead of a reader that goes on where it ended, in steps that are one read of the store each. The
# cache has room for more than the four connections that nbdcopy opens.
READ_AHEAD_BYTES = 8 * MIB
STEP_BYTES = RANGE_BYTES
# Decompression, decryption and hashing release the interpreter's lock; a remote store waits for answers.
WORKERS, REMOTE_WORKERS = 2, 16
# Readers that are recognized, by where they ended.
STREAMS = 16
# Requests are done by several threads, so they come in another order than they were sent.
NEAR_BYTES, NEAR_REQUESTS = 1 * MIB, 8
# A reader goes on if it did so several times: reads at random come near each other by chance.
TIMES = 3

# Chunks by id, or what is wrong with them.
Loaded = Mapping[bytes, bytes | Damaged]


class ChunkCache:
    """Decoded chunks by id, the most recently used, and those that are being decoded. Thread-safe.

    Args:
        capacity_bytes: of the chunks that are kept.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self._coming: dict[bytes, Future[Loaded]] = {}
        self._lock = threading.Lock()

    def take(
        self, identities: Sequence[bytes]
    ) -> tuple[dict[bytes, bytes], dict[bytes, Future[Loaded]], Future[Loaded] | None]:
        """Chunks that are here, and those that are coming.

        Returns:
            The chunks, futures of the others, and the future of those that the caller has to load and give to
            :meth:`finish`; None if there are none.
        """
        here: dict[bytes, bytes] = {}
        coming: dict[bytes, Future[Loaded]] = {}
        mine: Future[Loaded] | None = None
        with self._lock:
            for identity in identities:
                found = self._chunks.get(identity)
                if found is not None:
                    self._chunks.move_to_end(identity)
                    here[identity] = found
                    continue
                future = self._coming.get(identity)
                if future is None:
                    if mine is None:
                        mine = Future()
                    future = self._coming[identity] = mine
                coming[identity] = future
        return here, coming, mine

    def finish(
        self, identities: Sequence[bytes], mine: Future[Loaded], loaded: Loaded | BaseException
    ) -> None:
        """Keep chunks that :meth:`take` left to the caller, or let all who wait for them fail."""
        with self._lock:
            if mine.cancelled():
                return
            for identity in identities:
                del self._coming[identity]
            if not isinstance(loaded, BaseException):
                for identity, content in loaded.items():
                    if not isinstance(content, Damaged):
                        self._chunks[identity] = content
                        self._held_bytes += len(content)
                while self._held_bytes > self._capacity_bytes:
                    self._held_bytes -= len(self._chunks.popitem(last=False)[1])
        if isinstance(loaded, BaseException):
            mine.set_exception(loaded)
        else:
            mine.set_result(loaded)

    def close(self) -> None:
        """Wake all who wait for chunks that do not come any more."""
        with self._lock:
            coming = set(self._coming.values())
            self._coming.clear()
        for future in coming:
            future.cancel()


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

    def chunks(self, identities: Sequence[bytes]) -> dict[bytes, bytes]:
        """Chunks by id, each checked against its id; decoded by one thread however many ask for it at a time.

        Raises:
            Damaged: one of them has no good copy.
        """
        here, coming, mine = self.cache.take(identities)
        if mine is not None:
            self._load([identity for identity, future in coming.items() if future is mine], mine)
        for identity, future in coming.items():
            try:
                content = future.result()[identity]
            except CancelledError:
                content = self.frames.read(identity, Kind.DATA_PACK)
            if isinstance(content, Damaged):
                raise content
            here[identity] = content
        return here

    def ahead(self, identities: Sequence[bytes]) -> None:
        """Have chunks decoded by other threads. What is damaged is found when it is read."""
        _, coming, mine = self.cache.take(identities)
        if mine is None:
            return
        missing = [identity for identity, future in coming.items() if future is mine]
        try:
            self.pool.submit(self._load, missing, mine)
        except RuntimeError as err:  # being closed
            self.cache.finish(missing, mine, err)

    def _load(self, identities: Sequence[bytes], mine: Future[Loaded]) -> None:
        try:
            loaded: Loaded | BaseException = self._read(identities)
        except BaseException as err:  # noqa: BLE001 (raised where the chunks are needed)
            loaded = err
        self.cache.finish(identities, mine, loaded)

    def _read(self, identities: Sequence[bytes]) -> Loaded:
        loaded: dict[bytes, bytes | Damaged] = {}
        if len(identities) > 1:
            found = self.frames.locate_all(identities, Kind.DATA_PACK)
            places = sorted(
                (each[0] for each in found.values()), key=lambda place: (place.pack, place.offset)
            )
            for group in coalesce(places):
                loaded.update((place.id, content) for place, content in self.frames.read_group(group))
        for identity in identities:
            if not isinstance(loaded.get(identity), bytes):
                # There may be another copy, or an index that another process has published.
                try:
                    loaded[identity] = self.frames.read(identity, Kind.DATA_PACK)
                except Damaged as err:
                    loaded[identity] = err
        return loaded

    def close(self) -> None:
        """Stop the threads; what they are decoding is finished first."""
        self.pool.shutdown(cancel_futures=True)
        self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Stream:
    """A reader that goes on: where it ended, how far is decoded ahead of it, and how often it went on."""

    end: int
    until: int
    times: int = 0


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
        self._streams: list[_Stream] = []
        self._lock = threading.Lock()

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within the disk.

        Raises:
            Damaged: some of them cannot be read.
        """
        pieces = self.pieces(offset, length)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, offset: int, length: int) -> list[bytes | memoryview]:
        """As :meth:`pread`, in pieces that follow each other and are not copied where they need not be."""
        self._read_ahead(offset, length)
        first = self._grid.number(offset)
        ids = self._tree.ids_between(first, self._grid.count(offset + length))
        wanted = [identity for identity in ids if not is_zero(identity)]
        size = self._grid.chunk_bytes
        step = STEP_BYTES // size
        for start in range(step, len(wanted), step):
            self._readers.ahead(wanted[start : start + step])
        chunks: dict[bytes, bytes] = {}
        for start in range(0, len(wanted), step):
            chunks |= self._readers.chunks(wanted[start : start + step])
        pieces: list[bytes | memoryview] = []
        for number, identity in enumerate(ids, first):
            begin = number * size
            start, end = max(offset - begin, 0), min(offset + length - begin, size)
            if is_zero(identity):
                pieces.append(bytes(end - start))
                continue
            whole = min(size, self.size_bytes - begin)
            content = self._readers.frames.checked_length(identity, chunks[identity], whole)
            pieces.append(content if end - start == whole else memoryview(content)[start:end])
        return pieces

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
        while end < offset + length:
            # A leaf at a time: a client may ask for one run out of 4 GiB.
            number = self._grid.number(end)
            stop = min(self._grid.count(offset + length), (number // FAN_OUT + 1) * FAN_OUT)
            for identity in self._tree.ids_between(number, stop):
                data = not is_zero(identity)
                if data != kind and end > start:
                    yield end - start, kind
                    start = end
                number += 1
                kind, end = data, min(number * self._grid.chunk_bytes, offset + length)
        if end > start:
            yield end - start, kind

    # -- ahead ------------------------------------------------------------------------------------------

    def _read_ahead(self, offset: int, length: int) -> None:
        """Have decoded what follows, if a reader goes on where it ended, near enough."""
        with self._lock:
            extents = self._next_steps(offset, length)
        for extent in extents:
            ids = self._tree.ids_between(self._grid.number(extent.offset), self._grid.count(extent.end))
            self._readers.ahead([identity for identity in ids if not is_zero(identity)])

    def _next_steps(self, offset: int, length: int) -> list[Extent]:
        near = max(NEAR_BYTES, NEAR_REQUESTS * length)
        streams, end = self._streams, offset + length
        stream = next((each for each in streams if abs(offset - each.end) <= near), None)
        if stream is None:
            streams.insert(0, _Stream(end, end))
            del streams[STREAMS:]
            return []
        streams.remove(stream)
        streams.insert(0, stream)
        stream.end = max(stream.end, end)
        stream.times += 1
        if stream.times < TIMES:
            return []
        steps = []
        position = max(stream.until, stream.end)
        while position < self.size_bytes and position + STEP_BYTES <= stream.end + READ_AHEAD_BYTES:
            following = min((position // STEP_BYTES + 1) * STEP_BYTES, self.size_bytes)
            steps.append(Extent(position, following - position))
            position = following
        stream.until = position
        return steps
