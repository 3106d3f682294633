"""A repository: what everything above this package works with."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from hvpsbridge.errors import (
    Damaged,
    NewerFormat,
    NoRepository,
    ObjectExists,
    ObjectMissing,
    RepositoryExists,
    WrongKey,
)
from hvpsbridge.formats.envelope import FORMAT, Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.index import IndexObject, decode_index
from hvpsbridge.formats.keyslot import KdfCost
from hvpsbridge.formats.lease import LeaseHolder
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.formats.manifest import FileRef, ManifestDisk
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.record import encode_record
from hvpsbridge.formats.settings import CONFIG_NAME, Settings, decode_settings, new_settings
from hvpsbridge.repository import compression
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.keys import DEFAULT_COST, KeyRing, make_slot, unlock, write_slot
from hvpsbridge.repository.layout import INDEX, LEASES, index_name
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import FrameReader
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.rebuild import RebuildReport, rebuild_index
from hvpsbridge.repository.runs import start_run
from hvpsbridge.repository.sealing import MASTER_BYTES, KeySealer, PlainSealer, Sealer
from hvpsbridge.repository.stores.base import Store, Sweeping
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.repository.stores.url import open_store
from hvpsbridge.repository.verify import Level, VerifyReport, verify
from hvpsbridge.repository.writer import Writer
from hvpsbridge.resources import resource_folder
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB

logger = logging.getLogger(__name__)

# See docs/format.md for the measurement behind it (benchmarks/churn_chunks.py).
DEFAULT_CHUNK_BYTES = 128 * KIB
RESTORE_NAME = "restore.py"
READ_PIECE_BYTES = 256 * KIB


def default_cache_folder() -> Path:
    """Where index caches go when nobody says: ``$XDG_CACHE_HOME/hvps``, else ``~/.cache/hvps``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "hvps"


def create_repository(
    url: str,
    *,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    key: Secret | None = None,
    label: str = "first",
    cost: KdfCost = DEFAULT_COST,
    cache_folder: Path | None = None,
) -> Repository:
    """Make a repository at ``url`` and open it.

    Args:
        url: see ``stores.url.open_store``; a directory is made when missing.
        chunk_bytes: the grid, for ever.
        key: passphrase of its first key slot; without one the repository is plain, for ever.
        label: of that slot.
        cost: Argon2id costs of that slot.
        cache_folder: as with :func:`open_repository`.

    Raises:
        RepositoryExists: there is one, or the place holds something else.
        ConfigurationError: the URL means nothing.
        StoreError: the store fails.
    """
    grid = ChunkGrid(chunk_bytes)
    store = open_store(url, create=True)
    folder = cache_folder or default_cache_folder()
    return create_on_store(store, grid, key=key, label=label, cost=cost, cache_folder=folder)


def create_on_store(
    store: Store,
    grid: ChunkGrid,
    *,
    key: Secret | None = None,
    label: str = "first",
    cost: KdfCost = DEFAULT_COST,
    cache_folder: Path | None = None,
) -> Repository:
    """Make a repository in a store at hand and open it. See :func:`create_repository`."""
    repository_id = uuid4()
    master = None if key is None else secrets.token_bytes(MASTER_BYTES)
    sealer = _sealer(master, repository_id)
    settings = new_settings(repository_id, datetime.now(UTC), grid.chunk_bytes, sealed=sealer.sealed)
    settings = replace(settings, check=sealer.settings_check(settings))
    if _exists(store, CONFIG_NAME):
        raise RepositoryExists(store.url, "there is one")
    with contextlib.suppress(ObjectExists):  # of a repo init that died before its config
        store.put(RESTORE_NAME, restore_tool())
    if key is not None and master is not None:
        write_slot(store, make_slot(master, repository_id, key, label, cost))
    # The settings come last: with them the repository exists, and opens.
    try:
        store.put(CONFIG_NAME, encode_record(settings))
    except ObjectExists as err:
        raise RepositoryExists(store.url, "there is one") from err
    store.commit_barrier()
    return Repository(store, settings, sealer, cache_folder, master=master)


def open_repository(url: str, *, key: Secret | None = None, cache_folder: Path | None = None) -> Repository:
    """The repository at ``url``.

    Args:
        url: see ``stores.url.open_store``.
        key: passphrase or exported key; needed when it is sealed.
        cache_folder: where the index cache goes; a folder of its own for each repository is made in it.

    Raises:
        NoRepository, NewerFormat, WrongKey, Damaged, StoreError: as they say.
    """
    return open_on_store(open_store(url), key=key, cache_folder=cache_folder or default_cache_folder())


def open_on_store(store: Store, *, key: Secret | None = None, cache_folder: Path | None = None) -> Repository:
    """The repository in a store at hand; its index cache stays in memory without a ``cache_folder``."""
    try:
        settings = decode_settings(store.get(CONFIG_NAME))
    except ObjectMissing as err:
        raise NoRepository(store.url) from err
    except UnknownVersion as err:
        raise NewerFormat(store.url, err.found, FORMAT) from err
    except Malformed as err:
        raise Damaged(store.url, CONFIG_NAME, str(err)) from err
    master = None
    if settings.sealed:
        master = unlock(store, settings.repository_id, key)
    elif key is not None:
        raise WrongKey(store.url, "a key was given, and the repository has none")
    sealer = _sealer(master, settings.repository_id)
    if sealer.settings_check(settings) != settings.check:
        raise Damaged(store.url, CONFIG_NAME, "its check differs")
    return Repository(store, settings, sealer, cache_folder, master=master)


def restore_tool() -> bytes:
    """restore.py as shipped with this hvps."""
    return (resource_folder("restore_tool") / RESTORE_NAME).read_bytes()


def _sealer(master: bytes | None, repository_id: UUID) -> Sealer:
    return PlainSealer(repository_id) if master is None else KeySealer(master, repository_id)


def _exists(store: Store, name: str) -> bool:
    try:
        store.size(name)
    except ObjectMissing:
        return False
    return True


class Repository(Catalog):
    """An open repository. A context manager; usable from several threads.

    Attributes:
        grid: how disks are cut.
        keys: its key slots and export.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        sealer: Sealer,
        cache_folder: Path | None,
        *,
        master: bytes | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.grid = ChunkGrid(settings.chunk_bytes)
        super().__init__(Objects(store, sealer, settings.repository_id))
        self.keys = KeyRing(self._objects, master, restore_tool)
        path = None
        if cache_folder is not None:
            path = cache_folder / str(settings.repository_id) / "index.sqlite"
        self._cache = IndexCache(path)
        self._frames = FrameReader(self._objects, self._cache, self.refresh)
        self._spill_folder = None if path is None else path.parent
        try:
            self.refresh()
        except BaseException:
            self._cache.close()
            raise

    @property
    def repository_id(self) -> UUID:
        """Given when it was made."""
        return self.settings.repository_id

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self.store.url

    @property
    def durable(self) -> bool:
        """Whether what is committed here survives a power loss, as far as the store can promise."""
        return self.store.durable

    @property
    def sealed(self) -> bool:
        """Whether content is encrypted."""
        return self.settings.sealed

    def holds(self, path: Path) -> bool:
        """Whether ``path`` lies in the directory of this repository, where nothing else may be written."""
        return isinstance(self.store, LocalStore) and self.store.holds(path)

    def close(self) -> None:
        """Give up the cache and the store's connections."""
        self._cache.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def refresh(self) -> None:
        """Bring the chunk index up to what is published."""
        names = [bytes.fromhex(info.name.rsplit("/", 1)[1]) for info in self._objects.list(INDEX)]
        self._cache.synchronise(names, self._load_index)
        self._cache.set_bad((frame.id, frame.pack) for frame in self.bad_frames())

    def _load_index(self, name: bytes) -> IndexObject | None:
        try:
            return decode_index(self._objects.read(index_name(name), Kind.INDEX))
        except ObjectMissing:
            return None  # merged by a collector since the listing
        except Damaged as err:
            # What it names counts as lost until verify says how much that is; the rest stays usable.
            self.complain(err)
            return None
        except Malformed as err:
            self.complain(self._objects.damaged(index_name(name), err))
            return None

    @property
    def remote(self) -> bool:
        """Whether reading a chunk is a request over a network."""
        return self._objects.store.remote

    # -- working --------------------------------------------------------------------------------------

    def lease(self, vm_id: UUID, holder: LeaseHolder) -> Lease:
        """The lease on a VM, held until released.

        Raises:
            RepositoryLocked: somebody alive holds it.
        """
        prefix = f"{LEASES}/{self._objects.sealer.opaque(LEASES, vm_id)}"
        return Lease(self._objects, prefix, holder, f"VM {vm_id}")

    def ledger(self, vm_id: UUID) -> Ledger:
        """What we set out to make, and made, on hosts for a VM."""
        return Ledger(self._objects, vm_id)

    def begin(
        self, run_id: UUID, *, level: int = compression.DEFAULT_LEVEL, read_back: bool = False
    ) -> Writer:
        """A writer for a run. Its run object is published before the index is read, as the design asks.

        Args:
            run_id: the run.
            level: zstd level.
            read_back: read every pack once it is stored and check it, before any index names it.
        """
        run = start_run(self._objects, run_id)
        if isinstance(self.store, Sweeping):
            self.store.sweep()
        try:
            self.refresh()
        except BaseException:
            run.release()
            raise
        return Writer(
            self._objects,
            self._cache,
            self._frames,
            self.grid,
            run,
            self.link,
            level=level,
            read_back=read_back,
            spill_folder=self._spill_folder,
        )

    def image(self, point: Point, disk: ManifestDisk) -> DiskImage:
        """The disk of the point as a seekable file."""
        return self.image_of(disk.tree)

    def image_of(self, root: TreeRoot) -> DiskImage:
        """Any stored tree as a seekable file."""
        return DiskImage(self._frames, self.grid, root)

    def read_file(self, reference: FileRef) -> Iterator[bytes]:
        """Bytes of a stored file, in order.

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
    ) -> VerifyReport:
        """What holds of the points (all without ``points``).

        Args:
            level: written or hashed.
            points: which; the whole repository without.
            subset: part and count, ``(3, 14)`` hashes the third fourteenth of the chunks.
        """
        return verify(self, self._objects, self._cache, self._frames, Level(level), points, subset)

    def rebuild_index(
        self, run_id: UUID, *, check: bool = False, told: Callable[[int, int], None] | None = None
    ) -> RebuildReport:
        """Name every pack in an index object that reads, and supersede those that do not.

        Args:
            run_id: of this run, for the run object.
            check: only look.
            told: called with the count of footers read and of all to read.

        Raises:
            RepositoryLocked: a writer is at work.
        """
        report = rebuild_index(self._objects, run_id, check=check, told=told)
        self.refresh()
        return report
