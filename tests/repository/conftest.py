"""Builders for repository tests: repositories in memory, points with keyword overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.keyslot import KdfCost
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB
from tests.repository.memory_store import MemoryStore
from tests.repository.servers import s3, ssh  # noqa: F401 - fixtures

CHUNK = 64 * KIB
KEY = Secret("correct horse battery staple")
# The lowest costs that are accepted, since tests open hundreds of slots.
CHEAP = KdfCost(memory_kib=1024, iterations=1, lanes=1)
VM = UUID("6f6e2f0e-57a7-4f8e-9a51-000000000001")
START = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=["plain", "sealed"])
def repository(request: pytest.FixtureRequest, store: MemoryStore) -> Iterator[Repository]:
    with make(store, sealed=request.param == "sealed") as opened:
        yield opened


def make(store: Store, *, sealed: bool = False) -> Repository:
    """A new repository with an index cache in memory."""
    return create_on_store(store, ChunkGrid(CHUNK), key=KEY if sealed else None, cost=CHEAP)


def reopen(store: Store) -> Repository:
    """The repository once more, as another process would open it."""
    sealed = b'"sealed":true' in store.get("config")
    return open_on_store(store, key=KEY if sealed else None)


def disk_of(tree: TreeRoot, **changes: object) -> ManifestDisk:
    fields: dict[str, object] = {
        "slot": "scsi 0:0",
        "disk_id": UUID(int=7),
        "size_bytes": tree.size_bytes,
        "sector_bytes": 512,
        "path": "C:\\vm\\disk.avhdx",
        "chain": ("C:\\vm\\disk.avhdx", "C:\\vm\\disk.vhdx"),
        "tree": tree,
        "rct_id": "rctX:1",
        "mode": "full",
        "reason": "first",
    }
    return ManifestDisk(**(fields | changes))  # type: ignore[arg-type]  # overrides by keyword


def manifest_of(disks: Sequence[ManifestDisk], **changes: object) -> Manifest:
    fields: dict[str, object] = {
        "point_id": uuid4(),
        "vm_id": VM,
        "vm_name": "web",
        "host": "hv01",
        "run_id": uuid4(),
        "created": START,
        "hvps_version": "0.1",
        "contract": 1,
        "consistency_asked": "application",
        "consistency": "application",
        "checkpoint_id": uuid4(),
        "disks": tuple(disks),
    }
    return Manifest(**(fields | changes))  # type: ignore[arg-type]  # overrides by keyword


def store_point(
    repository: Repository,
    content: bytes,
    *,
    base: Point | None = None,
    changed: Sequence[int] | None = None,
    **changes: object,
) -> Point:
    """A point with one disk; only chunks ``changed`` are put, or all without it."""
    with repository.begin(uuid4()) as writer:
        disk = writer.disk(len(content), None if base is None else base.disks[0].tree)
        size = repository.grid.chunk_bytes
        for number in range(repository.grid.count(len(content))) if changed is None else changed:
            disk.put(number, content[number * size : (number + 1) * size])
        changes.setdefault("created", START + timedelta(hours=len(repository.catalog.points())))
        return writer.commit(manifest_of([disk_of(disk.finish())], **changes))


def store_disks(repository: Repository, disks: Sequence[Path]) -> Point:
    """A point of these images, on one controller in this order."""
    with repository.begin(uuid4()) as writer:
        stored = []
        for slot, path in enumerate(disks):
            content = path.read_bytes()
            disk = writer.disk(len(content), None)
            size = repository.grid.chunk_bytes
            for number in range(repository.grid.count(len(content))):
                disk.put(number, content[number * size : (number + 1) * size])
            stored.append(disk_of(disk.finish(), slot=f"scsi 0:{slot}", disk_id=uuid4()))
        created = START + timedelta(hours=len(repository.catalog.points()))
        return writer.commit(manifest_of(stored, created=created))


def content_of(repository: Repository, point: Point) -> bytes:
    return repository.image(point, point.disks[0]).readall() or b""


@pytest.fixture
def sealed(store: MemoryStore) -> Repository:
    return make(store, sealed=True)
