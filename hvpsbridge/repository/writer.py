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
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from hvpsbridge.errors import StoreError
from hvpsbridge.formats.chunk import ZERO_ID, zero_digest
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import FileRef, Manifest, check_manifest
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import compression
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.disk import DiskWriter, WriterStats
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.layout import point_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import PackWriter
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.run_packs import RunPacks
from hvpsbridge.repository.tree import TreeBuilder, TreeReader

logger = logging.getLogger(__name__)

# Chunks accepted but not yet in a pack: enough to keep both workers busy, at most 8 MiB raw.
CHUNKS_IN_FLIGHT = 8
WORKERS = 2
# Numbers the writers of this process, for their rows in the cache.
_writers = itertools.count(1)


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
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="pack")
        self._slots = threading.BoundedSemaphore(CHUNKS_IN_FLIGHT)
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._in_flight = 0
        self._failure: BaseException | None = None
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
        tree = TreeBuilder(self._store_node, None, self._spill_folder)
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
                tree.put(number, self.store_chunk(chunk, self.stats))
                number += 1
        if gathered:
            tree.put(number, self.store_chunk(bytes(gathered), self.stats))
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
        self._wait_idle()
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
        self._pool.shutdown(wait=True, cancel_futures=True)
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

    def store_chunk(self, raw: bytes, stats: WriterStats) -> bytes:
        """Store ``raw`` unless it is stored already; its id (the zero id for zeros).

        Returns while it is still being written; :meth:`flush` waits for it.

        Raises:
            StoreError: an earlier chunk could not be stored.
        """
        digest = hashlib.sha256(raw).digest()
        if digest == zero_digest(len(raw)):
            self._count(stats, len(raw), zero_chunks=1)
            return ZERO_ID
        identity = self._objects.sealer.identify(digest)
        if not self._claim(Kind.DATA_PACK, identity):
            self._count(stats, len(raw), known_chunks=1)
            return identity
        self._count(stats, len(raw), new_chunks=1)
        self._slots.acquire()
        with self._lock:
            self._in_flight += 1
        try:
            future = self._pool.submit(self._data.add, identity, raw, self._level)
        except BaseException:
            self._done(None, stats)
            raise
        future.add_done_callback(lambda done: self._done(done, stats))
        return identity

    def _store_node(self, node: bytes) -> bytes:
        identity = self._objects.sealer.identify(hashlib.sha256(node).digest())
        if self._claim(Kind.NODE_PACK, identity):
            with self._failing_for_good():
                stored = self._nodes.add(identity, node, self._level)
            with self._lock:
                self.stats.stored_bytes += stored
        return identity

    @contextlib.contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """Remember an error, so that everything fails from now on. A pack that could not be stored had frames
        whose ids callers already have, and a commit must not lack them."""
        try:
            yield
        except BaseException as err:
            with self._lock:
                self._failure = self._failure or err
            raise

    def _claim(self, kind: Kind, identity: bytes) -> bool:
        """Whether the caller has to store it: it is neither stored nor in progress."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
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

    def _count(self, stats: WriterStats, raw_bytes: int, **what: int) -> None:
        with self._lock:
            for target in self._counted_in(stats):
                target.chunks += 1
                target.raw_bytes += raw_bytes
                for name, count in what.items():
                    setattr(target, name, getattr(target, name) + count)

    def _counted_in(self, stats: WriterStats) -> tuple[WriterStats, ...]:
        """The statistics of the writer, and those of a disk if they are not the same."""
        return (self.stats,) if stats is self.stats else (self.stats, stats)

    def _done(self, future: Future[int] | None, stats: WriterStats) -> None:
        with self._lock:
            self._in_flight -= 1
            if future is not None and not future.cancelled():
                if (failure := future.exception()) is not None:
                    self._failure = self._failure or failure
                else:
                    for target in self._counted_in(stats):
                        target.stored_bytes += future.result()
            self._idle.notify_all()
        self._slots.release()

    def _wait_idle(self) -> None:
        with self._lock:
            self._idle.wait_for(lambda: not self._in_flight)
            if self._failure is not None:
                raise self._failure

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
        return TreeBuilder(self._store_node, reader, self._spill_folder), reader

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
