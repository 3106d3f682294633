"""The writer: stores chunks in packs, builds trees, and commits recovery points.

The order is what makes it safe: packs before the index object that lists them, the index object before the
manifest that needs it, with a barrier after each. A writer that stops before its manifest leaves unused
objects, but never a wrong point. The next run uses what is in a published index.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

from hvpsbridge.errors import StoreError
from hvpsbridge.formats.chunk import ZERO_ID, is_zeros, zero_digest
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import FileRef, Manifest, check_manifest
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import compression
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.chunk_queue import ChunkQueue
from hvpsbridge.repository.disk import DiskWriter, WriterStats
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.layout import point_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import PackWriter, StoredFrame
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.run_packs import RunPacks
from hvpsbridge.repository.tree import TreeBuilder, TreeReader
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

# Raw bytes of chunks that are accepted but not in a pack yet, and of those that a thread takes at a time.
WAITING_BYTES = 16 * MIB
BATCH_BYTES = 1 * MIB
# Threads that store chunks: one more than cores, because some wait while a pack is flushed.
MAX_WORKERS = 8
# Numbers the writers of this process, for their rows in the cache.
_writers = itertools.count(1)


class _Chunk(NamedTuple):
    """A chunk to be stored; see :meth:`Writer.store_chunk`."""

    raw: bytes
    stats: WriterStats
    stored: Callable[[bytes], None]


class Writer:
    """Stores disks and files of a run and commits its points. Thread-safe.

    Created by ``Repository.begin``. As a context manager it abandons, at the end, what was not committed.
    """

    def __init__(
        self,
        objects: Objects,
        cache: IndexCache,
        frames: FrameReader,
        grid: ChunkGrid,
        link: Callable[[UUID], tuple[int, bytes | None]],
        *,
        level: int = compression.DEFAULT_LEVEL,
        guard: RunGuard,
        read_back: bool = False,
        spill_folder: Path | None = None,
    ) -> None:
        self._objects = objects
        self._guard = guard
        self._cache = cache
        self._frames = frames
        self._grid = grid
        self._link = link
        self._level = level
        self._read_back = read_back
        self._spill_folder = spill_folder
        self._data = PackWriter(objects, Kind.DATA_PACK, self._pack_published)
        self._nodes = PackWriter(objects, Kind.NODE_PACK, self._pack_published)
        workers = min(MAX_WORKERS, len(os.sched_getaffinity(0)) + 1)
        self._queue = ChunkQueue(
            self._store, workers=workers, batch_bytes=BATCH_BYTES, waiting_bytes=WAITING_BYTES
        )
        self._lock = threading.RLock()
        # Ids of frames that are in progress or in an open pack, and so not in the cache yet.
        self._claimed: set[tuple[Kind, bytes]] = set()
        self._number = next(_writers)
        self._packs = RunPacks(objects, cache, self._number, guard.name)
        self.stats = WriterStats()

    # -- for callers ------------------------------------------------------------------------------------

    def disk(self, size_bytes: int, base: TreeRoot | None = None) -> DiskWriter:
        """A writer for a disk; chunks that are not put are those of ``base``, or zeros without one."""
        return DiskWriter(self, size_bytes, base)

    def file(self, name: str, pieces: Iterable[bytes]) -> FileRef:
        """Store a file, given its bytes in order; the reference to put into a manifest."""
        tree = TreeBuilder(self.store_node, None, self._spill_folder)
        sha = hashlib.sha256()
        size = number = 0
        gathered = bytearray()
        for piece in pieces:
            sha.update(piece)
            size += len(piece)
            gathered += piece
            while len(gathered) >= self._grid.chunk_bytes:
                chunk = bytes(gathered[: self._grid.chunk_bytes])
                del gathered[: self._grid.chunk_bytes]
                self._store([_Chunk(chunk, self.stats, partial(tree.put, number))])
                number += 1
        if gathered:
            self._store([_Chunk(bytes(gathered), self.stats, partial(tree.put, number))])
        root = tree.finish(self._grid.count(size), size)
        return FileRef(name, size, sha.digest(), root)

    def commit(self, manifest: Manifest, bases: Iterable[UUID] = ()) -> Point:
        """Make everything durable, and then create the point.

        This sets the manifest's writer, its sequence number and the digest of the one before. The caller has
        to call :meth:`check` once more before it relies on the point.

        Args:
            manifest: of the point.
            bases: points whose trees were bases of the disks.

        Raises:
            StoreError: the store failed, or no reader would accept the manifest; the point does not exist.
            LeaseLost: see :meth:`check`; the point does not exist.
            Damaged: see :meth:`check`; the point does not exist.
            PointGone: a base was pruned; the point does not exist.
        """
        self.flush()
        self._guard.check_bases(bases)
        self.check()
        sequence, previous = self._link(manifest.vm_id)
        durable = self._objects.store.durable
        linked = replace(
            manifest, sequence=sequence, previous=previous, durable=durable, writer=self._guard.name
        )
        name = point_name(linked.point_id)
        try:
            check_manifest(linked)
        except Malformed as err:
            raise StoreError(self._objects.store.url, "create", name, str(err)) from err
        self._objects.write_record(name, Kind.MANIFEST, linked)
        self._objects.store.commit_barrier()
        return Point(linked)

    def flush(self) -> None:
        """Make everything put so far durable in packs and index objects."""
        self.wait()
        with self._failing_for_good():
            self._data.flush()
            self._nodes.flush()
        self._packs.publish()

    def check(self) -> None:
        """Check that the run goes on, and that every pack that it stored or used still exists.

        Done before the manifest is written, so that a point never lacks chunks, and by the caller once more
        after it, before the old reference point on the host is destroyed.

        Raises:
            LeaseLost: the run counts as dead, and what it stored may have been removed.
            Damaged: a pack is missing or has another length. Its frames are now listed as bad, so that no
                later run uses them.
        """
        self._guard.check()
        self._packs.check()

    def close(self) -> None:
        """Abandon what is not committed, and end the run. May be called more than once."""
        self._queue.close()
        self._data.abandon()
        self._nodes.abandon()
        self._packs.abandon()
        self._guard.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as err:
            if error is None:
                raise
            logger.warning("cannot close the writer: %s", err)

    # -- chunks and nodes -------------------------------------------------------------------------------

    def store_chunk(self, raw: bytes, stats: WriterStats, stored: Callable[[bytes], None]) -> None:
        """Have ``raw`` stored unless it is already.

        Returns while that is still to be done, and waits if too much is; :meth:`wait` waits for it.

        Args:
            raw: the chunk.
            stats: what it is counted in, beside :attr:`stats`.
            stored: called with its id (the zero id for zeros), by another thread.

        Raises:
            StoreError: an earlier chunk could not be stored.
        """
        self._queue.put(_Chunk(raw, stats, stored), len(raw))

    def wait(self) -> None:
        """Return when all chunks so far have their ids and are in packs.

        Raises:
            StoreError: one could not be stored.
        """
        self._queue.wait()

    def _store(self, chunks: Sequence[_Chunk]) -> None:
        """Store some chunks one after another in a pack, in the calling thread."""
        frames: list[StoredFrame] = []
        owners: list[WriterStats] = []
        with self._failing_for_good():
            for raw, stats, stored in chunks:
                identity, what = self._identified(raw)
                if what == "new_chunks":
                    frames.append(self._data.encoded(identity, raw, self._level))
                    owners.append(stats)
                self._count(stats, len(raw), what)
                stored(identity)
            added = self._data.append_all(frames)
        with self._lock:
            for stats, stored_bytes in zip(owners, added, strict=True):
                for target in self._counted_in(stats):
                    target.stored_bytes += stored_bytes

    def _identified(self, raw: bytes) -> tuple[bytes, str]:
        """Id of a chunk, and what it counts as; if new, the caller has to store it."""
        if is_zeros(raw):
            return ZERO_ID, "zero_chunks"
        identity = self._objects.sealer.identify(hashlib.sha256(raw).digest())
        return identity, "new_chunks" if self._claim(Kind.DATA_PACK, identity) else "known_chunks"

    def store_node(self, node: bytes) -> bytes:
        identity = self._objects.sealer.identify(hashlib.sha256(node).digest())
        if self._claim(Kind.NODE_PACK, identity):
            with self._failing_for_good():
                stored_bytes = self._nodes.add(identity, node, self._level)
            with self._lock:
                self.stats.stored_bytes += stored_bytes
        return identity

    @contextlib.contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """Remember an error, so that everything fails from now on. A pack that could not be stored had frames
        whose ids callers already have, and a commit must not lack them."""
        try:
            yield
        except BaseException as err:
            self._queue.fail(err)
            raise

    def _claim(self, kind: Kind, identity: bytes) -> bool:
        """Whether the caller has to store it: it is neither stored nor in progress."""
        self._queue.check()
        with self._lock:
            if (kind, identity) in self._claimed or self._is_stored(kind, identity):
                return False
            self._claimed.add((kind, identity))
            return True

    def _is_stored(self, kind: Kind, identity: bytes) -> bool:
        pack = self._cache.holder(identity, kind, self._number)
        if pack is None:
            return False
        self._packs.use(kind, pack)
        return True

    def _count(self, stats: WriterStats, raw_bytes: int, what: str) -> None:
        with self._lock:
            for target in self._counted_in(stats):
                target.chunks += 1
                target.raw_bytes += raw_bytes
                setattr(target, what, getattr(target, what) + 1)

    def _counted_in(self, stats: WriterStats) -> tuple[WriterStats, ...]:
        """The statistics of the writer, and those of a disk if they are not the same."""
        return (self.stats,) if stats is self.stats else (self.stats, stats)

    def _pack_published(self, pack: IndexedPack) -> None:
        if self._read_back:
            self._frames.check_pack(pack)
        with self._lock:
            self._packs.add(pack)
            self._claimed.difference_update((pack.kind, entry.id) for entry in pack.entries)
        if self._packs.enough:
            self._packs.publish()

    # -- for disks --------------------------------------------------------------------------------------

    def tree(self, base: TreeRoot | None) -> tuple[TreeBuilder, TreeReader | None]:
        """A builder on ``base``, and a reader of the base."""
        reader = None
        if base is not None:
            reader = TreeReader(self._frames, base, self._grid.count(base.size_bytes))
        return TreeBuilder(self.store_node, reader, self._spill_folder), reader

    @property
    def grid(self) -> ChunkGrid:
        """The repository's grid."""
        return self._grid

    @property
    def frames(self) -> FrameReader:
        """Reads chunks and nodes of the repository."""
        return self._frames

    def known_chunk(self, digest: bytes, length: int) -> bytes | None:
        """Id of the stored chunk with this SHA-256 and length; None when there is none."""
        if digest == zero_digest(length):
            return ZERO_ID
        identity = self._objects.sealer.identify(digest)
        with self._lock:
            claimed = (Kind.DATA_PACK, identity) in self._claimed
        return identity if claimed or self._is_stored(Kind.DATA_PACK, identity) else None

    def lost(self) -> frozenset[bytes]:
        """Ids of frames that are listed as bad and have no good copy."""
        return self._cache.lost()

    def identify(self, digest: bytes) -> bytes:
        """The chunk id of a SHA-256."""
        return self._objects.sealer.identify(digest)

    @property
    def encrypted(self) -> bool:
        """Whether ids are keyed."""
        return self._objects.sealer.sealed
