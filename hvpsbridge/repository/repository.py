"""An open repository: the interface of this package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from hvpsbridge.errors import (
    ConfigurationError,
    Damaged,
    NoDataKey,
    RepositoryError,
)
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.lease import LeaseHolder
from hvpsbridge.formats.manifest import FileRef, ManifestDisk
from hvpsbridge.formats.marks import BadFrame
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.settings import Settings
from hvpsbridge.repository import compression
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.cache_file import FOLDER_NAME
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.check.ages import unverified_since
from hvpsbridge.repository.check.coverage import Budget, Checked
from hvpsbridge.repository.check.rebuild import RebuildReport, rebuild_index
from hvpsbridge.repository.check.repair import RepairReport, repair
from hvpsbridge.repository.check.restore_tool import in_repository
from hvpsbridge.repository.check.verify import Level, VerifyContext, VerifyReport, parts_of, verify
from hvpsbridge.repository.collect.collector import collect
from hvpsbridge.repository.collect.doomed_lists import doomed_packs
from hvpsbridge.repository.collect.report import CollectOptions, CollectReport
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.index_source import IndexSource
from hvpsbridge.repository.keys import KeyRing
from hvpsbridge.repository.layout import FOLDERS, LEASES
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.pruning import Pruner
from hvpsbridge.repository.reading import CACHE_BYTES, ChunkReaders, DiskReader
from hvpsbridge.repository.refilling import RefillReport, refill
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.runs import start_run
from hvpsbridge.repository.sealing import Sealer
from hvpsbridge.repository.stats import RepositoryStats, repository_stats
from hvpsbridge.repository.stored_packs import write_bad_list
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.repository.unreadable import Unreadable
from hvpsbridge.repository.upgrading import UpgradeReport, upgrade
from hvpsbridge.repository.writer import Writer
from hvpsbridge.units import KIB

logger = logging.getLogger(__name__)

READ_PIECE_BYTES = 256 * KIB
# Index objects that are loaded from a remote store at a time; each has 1.5 MiB.
INDEX_LOADERS = 8


class Repository:
    """An open repository. A context manager; usable from several threads.

    Args:
        store: where it is.
        settings, sealer: of the repository.
        folder: on this machine, for its index cache and what is remembered of it; memory without one.
        master: its master key; None for a plain one.
        slot_id: the key slot that opened it; None for the exported key.

    Attributes:
        grid: how disks are cut into chunks.
        catalog: its points, and the small objects about them.
        keys: its key slots.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        sealer: Sealer,
        folder: Path | None,
        *,
        master: bytes | None = None,
        slot_id: UUID | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.grid = ChunkGrid(settings.chunk_bytes)
        self._objects = Objects(store, sealer, settings.repository_id, settings.format)
        self._unreadable = Unreadable(folder)
        self.catalog = Catalog(self._objects, self._unreadable, folder)
        self.keys = KeyRing(self._objects, master, lambda: in_repository(self._objects), opened_by=slot_id)
        self._cache = IndexCache(
            None if folder is None else folder / FOLDER_NAME,
            IndexSource(self._objects, self.catalog, self._unreadable),
            keyed=settings.sealed,
            loaders=INDEX_LOADERS if store.remote else 1,
        )
        self._frames = FrameReader(self._objects, self._cache, self.refresh, self.catalog.selected.check)
        self._spill_folder = folder
        try:
            self.refresh()
        except BaseException:
            self._cache.close()
            raise

    @property
    def repository_id(self) -> UUID:
        """Its id, random since its creation."""
        return self.settings.repository_id

    @property
    def url(self) -> str:
        """Where it is, as shown to people; without credentials."""
        return self.store.url

    @property
    def durable(self) -> bool:
        """Whether committed points survive a power loss, as far as the store can tell."""
        return self.store.durable

    @property
    def encrypted(self) -> bool:
        """Whether it is encrypted."""
        return self.settings.sealed

    def holds(self, path: Path) -> bool:
        """Whether ``path`` is in the directory of this repository, where nothing else may be written."""
        return isinstance(self.store, LocalStore) and self.store.holds(path)

    def close(self) -> None:
        """Close the cache and the store."""
        self._cache.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def refresh(self) -> None:
        """Update the chunk index to what is published."""
        self._cache.synchronise()
        self._cache.set_bad((frame.id, frame.pack) for frame in self.catalog.bad_frames())
        self._unreadable.save()

    @property
    def remote(self) -> bool:
        """Whether each read costs a round trip."""
        return self._objects.store.remote

    # -- runs -----------------------------------------------------------------------------------------

    def require_data_key(self) -> None:
        """Raise NoDataKey if the repository was opened with a key for prunes."""
        if not self._objects.sealer.reads_data:
            raise NoDataKey

    def lease(self, vm_id: UUID, holder: LeaseHolder) -> Lease:
        """Take the lease on a VM; it is held until it is released.

        Raises:
            RepositoryLocked: another process holds it.
        """
        prefix = f"{LEASES}/{self._objects.sealer.opaque(LEASES, vm_id)}"
        return Lease(self._objects, prefix, holder, f"VM {vm_id}")

    def ledger(self, vm_id: UUID) -> Ledger:
        """The ledger of a VM: what hvps makes, or is about to make, on hosts."""
        return Ledger(self._objects, vm_id)

    def begin(
        self, run_id: UUID, *, level: int = compression.DEFAULT_LEVEL, read_back: bool = False
    ) -> Writer:
        """A writer for a run. Its run object is published before the index is read.

        Args:
            run_id: the run.
            level: zstd level.
            read_back: read and check every pack after it is stored, before an index lists it.

        Raises:
            NoDataKey: the key is for prunes.
        """
        self.require_data_key()
        run = start_run(self._objects, run_id)
        self.store.make_folders(FOLDERS)
        self.store.sweep()
        try:
            # After the run object and before the index: a collect that does not see the run has published its
            # lists already.
            self.store.commit_barrier()
            self._cache.add_doomed(doomed_packs(self._objects))
            self.refresh()
        except BaseException:
            run.release()
            raise
        return Writer(
            self._objects,
            self._cache,
            self._frames,
            self.grid,
            self.catalog.next_link,
            level=level,
            guard=RunGuard(self._objects, self.catalog, run),
            read_back=read_back,
            spill_folder=self._spill_folder,
        )

    def image(self, point: Point, disk: ManifestDisk) -> DiskImage:
        """A disk of a point as a seekable file."""
        return self.image_of(disk.tree)

    def identify(self, sha256: bytes) -> bytes:
        """The chunk id of a SHA-256."""
        return self._objects.sealer.identify(sha256)

    def image_of(self, root: TreeRoot) -> DiskImage:
        """A stored tree as a seekable file."""
        return DiskImage(self._frames, self.grid, root)

    def readers(self, cache_bytes: int = CACHE_BYTES) -> ChunkReaders:
        """A cache and threads for readers of disks; the caller closes it."""
        return ChunkReaders(self._frames, cache_bytes=cache_bytes, remote=self.store.remote)

    def reader(self, readers: ChunkReaders, disk: ManifestDisk) -> DiskReader:
        """A disk, for several threads."""
        return DiskReader(readers, self.grid, disk.tree)

    def read_file(self, reference: FileRef) -> Iterator[bytes]:
        """The bytes of a stored file, in order.

        Raises:
            Damaged: a chunk is not what was written.
        """
        image = self.image_of(reference.tree)
        while piece := image.read(READ_PIECE_BYTES):
            yield piece

    def verify(
        self,
        level: Level = Level.WRITTEN,
        points: Sequence[Point] | None = None,
        *,
        subset: tuple[int, int] = (1, 1),
        budget: Budget | None = None,
        checked: Checked | None = None,
    ) -> VerifyReport:
        """Check points, or the whole repository.

        Args:
            level: written or hashed.
            points: which points; the whole repository when None.
            subset: part and count: ``(3, 14)`` hashes the third fourteenth of the chunks.
            budget: how many packs are hashed: those that were not for longest.
            checked: which packs were is noted there, for :meth:`record_checked`. If the verification ends
                early, they are recorded at once.

        Raises:
            ConfigurationError: a budget, and the repository has format 1.
        """
        if budget is not None and self._objects.format < 2:
            what = "format 1 does not keep what a budget has covered; run `hvps repo upgrade` first"
            raise ConfigurationError(self.url, what)
        context = self._verify_context()
        try:
            return verify(context, Level(level), points, subset, budget, checked)
        except BaseException:
            if checked is not None:
                with contextlib.suppress(RepositoryError):
                    self.record_checked(checked)
            raise

    def record_checked(self, checked: Checked) -> None:
        """Record which packs a verification read, so that a budget goes on with others."""
        if self._objects.format > 1:
            checked.record(self._objects)

    def unverified_since(self, point: Point | None = None) -> datetime | None:
        """Since when one of the packs that a point needs, or any pack, was not hashed.

        When it was hashed last, or, if it never was, the earliest time at which a part of it may have been
        stored. A point is walked. None without packs, and in a repository of format 1, which does not keep
        this.

        Raises:
            Damaged: a node of the point cannot be read.
        """
        images = None if point is None else (self.image_of(tree) for _, tree in parts_of(point))
        return unverified_since(self._objects, self._cache, self.catalog, images)

    def _verify_context(self) -> VerifyContext:
        self.catalog.clear_cache()
        self.refresh()
        return VerifyContext(
            catalog=self.catalog,
            objects=self._objects,
            cache=self._cache,
            frames=self._frames,
            grid=self.grid,
            keys=self.keys,
        )

    def lost_chunks(self, points: Iterable[Point]) -> int:
        """How many chunks and nodes that the points need are known to be lost; nothing is read to check them.

        They are listed as bad, and there is no other copy. ``verify`` tells which points need them. Points
        are not asked for if there are no such chunks.
        """
        lost, walked = self._cache.lost(), set[bytes]()
        needed: set[bytes | str] = set()
        for point in points if lost else ():
            needed.update(self._losses(point, lost, walked))
        return len(needed)

    def damaged_points(self, points: Iterable[Point]) -> frozenset[UUID]:
        """Points that need chunks or nodes that are known to be lost, as in :meth:`lost_chunks`."""
        lost, damaged = self._cache.lost(), set[UUID]()
        # By VM, whose points share most of their trees: subtrees of points that need nothing lost.
        clean: dict[UUID, set[bytes]] = {}
        for point in points if lost else ():
            walked = set(clean.get(point.vm_id, ()))
            if any(True for _ in self._losses(point, lost, walked)):
                damaged.add(point.point_id)
            else:
                clean[point.vm_id] = walked
        return frozenset(damaged)

    def _losses(self, point: Point, lost: Container[bytes], walked: set[bytes]) -> Iterator[bytes | str]:
        """Chunks that are lost, by id, and nodes, by name; see ``TreeReader.leaves`` for ``walked``."""
        for _, tree in parts_of(point):
            try:
                for _, identity in self.image_of(tree).chunk_ids(walked):
                    if identity in lost:
                        yield identity
            except Damaged as err:  # a node
                yield err.name

    def repair(self, run_id: UUID, *, check: bool = False) -> RepairReport:
        """Take lost packs out of the index whose chunks exist elsewhere, and remove what says nothing more.

        Args:
            run_id: of this run.
            check: change nothing.

        Raises:
            RepositoryLocked: a run is writing to the repository.
        """
        report = repair(self._verify_context(), run_id, check=check)
        self.refresh()
        return report

    def upgrade(self, run_id: UUID, *, wait: bool, check: bool = False) -> UpgradeReport:
        """Upgrade to the current format, see ``upgrading.upgrade``; open the repository again afterwards."""
        return upgrade(self._objects, self.settings, run_id, wait=wait, check=check)

    def refill(self, source: Repository, run_id: UUID, *, check: bool = False) -> RefillReport:
        """Take lost chunks and nodes from another copy of the points; see ``refilling.refill``."""
        report = refill(self._verify_context(), self, source, run_id, check=check)
        self.refresh()
        return report

    def collect(
        self,
        run_id: UUID,
        options: CollectOptions,
        on_decided: Callable[[CollectReport], None] = lambda report: None,
    ) -> CollectReport:
        """Get space back; see ``collect.collector.collect``."""
        report = collect(self._verify_context(), run_id, options, on_decided)
        self.refresh()
        return report

    def stats(self, now: datetime, in_detail: frozenset[UUID] = frozenset()) -> RepositoryStats:
        """What takes space, see ``stats.repository_stats``."""
        context = self._verify_context()
        return repository_stats(context, self.catalog.points(), now, in_detail=in_detail)

    @property
    def pruner(self) -> Pruner:
        """Prunes, tags and protects points."""
        return Pruner(self._objects, self.catalog)

    def publish_bad(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """List frames (id, pack name), from ``VerifyReport.bad``, as bad for this and every later writer.

        Frames that are listed already are left out: a verify each night must not add a list each night.
        """
        listed = set(self.catalog.bad_frames())
        new = [bad for frame in frames if (bad := BadFrame(*frame)) not in listed]
        if new:
            write_bad_list(self._objects, new)
            self.refresh()

    def rebuild_index(
        self, run_id: UUID, *, check: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> RebuildReport:
        """List every pack in an index object that can be read, and supersede those that cannot.

        Args:
            run_id: of this run.
            check: change nothing.
            on_progress: called with the count of footers read so far and of all footers to read.

        Raises:
            RepositoryLocked: a run is writing to the repository.
        """
        report = rebuild_index(self._objects, run_id, check=check, on_progress=on_progress)
        self.refresh()
        return report
