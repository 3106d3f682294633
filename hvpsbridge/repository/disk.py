"""Store one disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hvpsbridge.errors import HvpsError, InternalError
from hvpsbridge.formats.chunk import ZERO_ID, zero_digest
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.tree import TreeBuilder, TreeReader


@dataclass(slots=True, kw_only=True)
class WriterStats:
    """What a writer has done so far.

    Attributes:
        chunks: how many were put.
        zero_chunks: how many of them were all zero.
        known_chunks: how many were stored already.
        new_chunks: how many were stored now.
        raw_bytes: of all chunks.
        stored_bytes: added to packs, including nodes.
    """

    chunks: int = 0
    zero_chunks: int = 0
    known_chunks: int = 0
    new_chunks: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0


class ChunkStore(Protocol):
    """The part of a writer that disks use."""

    @property
    def grid(self) -> ChunkGrid:
        """The repository's grid."""
        ...

    @property
    def frames(self) -> FrameReader:
        """Reads chunks and nodes of the repository."""
        ...

    @property
    def encrypted(self) -> bool:
        """Whether ids are keyed."""
        ...

    def tree(self, base: TreeRoot | None) -> tuple[TreeBuilder, TreeReader | None]:
        """A builder on ``base``, and a reader of the base."""
        ...

    def store_chunk(self, raw: bytes, stats: WriterStats, stored: Callable[[bytes], None]) -> None:
        """Have ``raw`` stored unless it is already; ``stored`` gets its id, from another thread."""
        ...

    def wait(self) -> None:
        """Return when all chunks so far have their ids."""
        ...

    def known_chunk(self, digest: bytes, length: int) -> bytes | None:
        """Id of the stored chunk with this SHA-256 and length; None when there is none."""
        ...

    def identify(self, digest: bytes) -> bytes:
        """The chunk id of a SHA-256."""
        ...

    def lost(self) -> frozenset[bytes]:
        """Ids of frames that are listed as bad and have no good copy."""
        ...


class DiskWriter:
    """Stores the chunks of a disk and builds its tree. Thread-safe; chunks may come in any order.

    Attributes:
        stats: of this disk alone, without nodes.
    """

    def __init__(self, writer: ChunkStore, size_bytes: int, base: TreeRoot | None) -> None:
        self._writer = writer
        self.size_bytes = size_bytes
        self._chunk_bytes = writer.grid.chunk_bytes
        self.stats = WriterStats()
        self._builder, self._base = writer.tree(base)
        self._lock = threading.Lock()
        self._finished = False
        # Chunks whose ids are not known yet, and which of their puts counts: the last one.
        self._puts = 0
        self._awaited: dict[int, int] = {}
        self._failure: Exception | None = None
        if base is not None and base.size_bytes != size_bytes:
            self._resize_edge(base.size_bytes)

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        """Store ``data`` (zeros for None) as chunk ``number``. The caller may reuse the buffer on return.

        Raises:
            IndexError: the disk has no such chunk.
            ValueError: ``data`` does not have the length of the chunk.
            StoreError: an earlier chunk could not be stored.
            Damaged: a node of the base cannot be read.
        """
        length = self._length(number)
        if data is None:
            self._put_id(number, ZERO_ID)
            return
        if len(data) != length:
            raise ValueError(f"chunk {number} has {length} bytes, not {len(data)}")
        with self._lock:
            self._check()
            # Whether the base can be changed is found out here, and not in another thread.
            self._builder.prepare(number)
            self._puts += 1
            turn = self._awaited[number] = self._puts
        self._writer.store_chunk(bytes(data), self.stats, partial(self._stored, number, turn))

    def _stored(self, number: int, turn: int, identity: bytes) -> None:
        with self._lock:
            if self._awaited.get(number) != turn:
                return  # put again meanwhile
            del self._awaited[number]
            try:
                self._builder.put(number, identity)
            except HvpsError as err:  # the spill file
                self._failure = self._failure or err

    def _put_id(self, number: int, identity: bytes) -> None:
        with self._lock:
            self._check()
            self._awaited.pop(number, None)
            self._builder.put(number, identity)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._finished:
            raise InternalError("a chunk was put after finish()")

    def put_known(self, number: int, sha256: bytes) -> bool:
        """Use the stored chunk with this SHA-256 as chunk ``number``; False when there is none."""
        identity = self._writer.known_chunk(sha256, self._length(number))
        if identity is None:
            return False
        self._put_id(number, identity)
        return True

    def base_id(self, number: int) -> bytes:
        """Id of the chunk in the base; the zero id without a base.

        Raises:
            Damaged: a node of the base cannot be read.
        """
        return ZERO_ID if self._base is None else self._base.chunk_id(number)

    def base_chunk(self, number: int) -> bytes:
        """Raw bytes of the chunk in the base, verified, with the length of this disk's chunk.

        Raises:
            Damaged: they cannot be read; read the whole chunk from the frozen disk instead.
        """
        length = self._length(number)
        identity = self.base_id(number)
        if is_zero(identity):
            return bytes(length)
        raw = self._writer.frames.read(identity, Kind.DATA_PACK)
        return raw[:length].ljust(length, b"\0")

    def digest_of(self, number: int) -> bytes | None:
        """SHA-256 of the chunk in the base; None when ids are keyed (then use :meth:`matches`).

        Raises:
            Damaged: a node of the base cannot be read.
        """
        identity = self.base_id(number)
        if is_zero(identity):
            return zero_digest(self._length(number))
        return None if self._writer.encrypted else identity

    def matches(self, number: int, sha256: bytes) -> bool:
        """Whether the chunk in the base has this SHA-256; works with keyed ids, too.

        Raises:
            Damaged: a node of the base cannot be read.
        """
        identity = self.base_id(number)
        if is_zero(identity):
            return sha256 == zero_digest(self._length(number))
        return self._writer.identify(sha256) == identity

    def bad_extents(self) -> tuple[Extent, ...]:
        """Extents, in whole chunks, whose chunks in the base are listed as bad and have no good copy.

        An increment of only what changed would inherit them. Read them from the frozen disk instead, which
        repairs every older point with these chunks as well.

        Raises:
            Damaged: a node of the base is bad, so its chunks are unknown; do not use the base.
        """
        lost = self._writer.lost()
        if self._base is None or not lost:
            return ()
        grid = self._writer.grid
        if lost & self._base.node_ids():
            raise self._writer.frames.damaged("the base's tree", "one of its nodes is listed as bad")
        numbers = (number for number, identity in self._base.chunk_ids() if identity in lost)
        return normalise(
            (
                grid.extent(number, self.size_bytes)
                for number in numbers
                if number < grid.count(self.size_bytes)
            ),
            self.size_bytes,
        )

    def finish(self) -> TreeRoot:
        """Store the tree; its root, for the manifest. Nothing may be put afterwards.

        Raises:
            StoreError: a chunk could not be stored.
        """
        with self._lock:
            self._finished = True
        self._writer.wait()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return self._builder.finish(self._writer.grid.count(self.size_bytes), self.size_bytes)

    def _length(self, number: int) -> int:
        """Bytes of a chunk."""
        start = number * self._chunk_bytes
        if not 0 <= start < self.size_bytes:
            raise IndexError(f"a disk of {self.size_bytes} bytes has no chunk {number}")
        return min(self._chunk_bytes, self.size_bytes - start)

    def _resize_edge(self, base_bytes: int) -> None:
        # The chunk in which the smaller disk ends has another length here than in the base.
        number = (min(base_bytes, self.size_bytes) - 1) // self._writer.grid.chunk_bytes
        if number >= 0 and not is_zero(self.base_id(number)):
            self.put(number, self.base_chunk(number))
