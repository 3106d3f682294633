"""What takes space: of VMs and of points, alone and shared; growth and the forecast."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.formats.manifest import DiskStats
from hvpsbridge.repository import Point, Repository
from tests.repository.conftest import CHUNK, START, disk_of, manifest_of, store_point
from tests.repository.memory_store import MemoryStore

ONE, TWO = UUID(int=1), UUID(int=2)


def noise(seed: int, chunks: int) -> bytes:
    return random.Random(seed).randbytes(chunks * CHUNK)


def near(stored: int, chunks: int) -> bool:
    """Whether so many bytes are those of so many chunks that cannot be compressed, and their nodes."""
    return chunks * CHUNK <= stored <= chunks * (CHUNK + 200) + 4 * 9000


def test_what_only_one_vm_needs_and_what_two_share(repository: Repository) -> None:
    common = noise(1, 4)
    store_point(repository, common + noise(2, 3), vm_id=ONE, vm_name="one")
    store_point(repository, common + noise(3, 5), vm_id=TWO, vm_name="two")
    stats = repository.stats(START + timedelta(days=1))
    one, two = stats.vms
    assert (one.vm, two.vm) == ("one", "two")
    assert near(one.space.unique_bytes, 3)
    assert near(one.space.shared_bytes, 4)
    assert near(two.space.unique_bytes, 5)
    assert one.space.shared_bytes == two.space.shared_bytes
    assert near(stats.needed_bytes, 12)
    assert stats.stored_bytes > stats.needed_bytes
    assert one.of_points == ()
    assert one.space.disk_bytes == 7 * CHUNK


def test_what_a_point_would_free(repository: Repository) -> None:
    content = bytearray(noise(1, 8))
    first = store_point(repository, bytes(content), vm_id=ONE)
    content[:CHUNK] = noise(2, 1)
    second = store_point(repository, bytes(content), base=first, changed=[0], vm_id=ONE)
    (vm,) = repository.stats(START + timedelta(days=1), frozenset([ONE])).vms
    old, new = vm.of_points
    assert (old.point_id, new.point_id) == (first.point_id, second.point_id)
    assert near(old.space.unique_bytes, 1)
    assert near(new.space.unique_bytes, 1)
    assert near(new.space.shared_bytes, 7)
    before = vm.space.unique_bytes
    repository.pruner.prune([first])
    (vm,) = repository.stats(START + timedelta(days=1), frozenset([ONE])).vms
    assert vm.space.unique_bytes == before - old.space.unique_bytes


def _committed(repository: Repository, day: float, stored: int) -> Point:
    with repository.begin(uuid4()) as writer:
        disk = writer.disk(CHUNK)
        disk.put(0, noise(int(day * 10), 1))
        made = disk_of(disk.finish(), stats=DiskStats(stored_bytes=stored))
        return writer.commit(manifest_of([made], vm_id=ONE, created=START + timedelta(days=day)))


def test_growth_leaves_the_first_full_out_and_gives_the_day_when_the_store_is_full(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    _committed(repository, 0, 10**12)
    for day in range(1, 11):
        _committed(repository, day, 1000)
    monkeypatch.setattr(MemoryStore, "free_bytes", lambda self: 50_000)
    stats = repository.stats(START + timedelta(days=10))
    assert stats.added_bytes_a_day == 1000
    assert stats.full_in_days == 50
    # Later, old points do not count any more.
    stats = repository.stats(START + timedelta(days=45))
    assert stats.added_bytes_a_day == 0
    assert stats.full_in_days is None


def test_an_empty_repository_has_nothing(repository: Repository) -> None:
    stats = repository.stats(START)
    assert (stats.vms, stats.packs, stats.needed_bytes, stats.full_in_days) == ((), 0, 0, None)
