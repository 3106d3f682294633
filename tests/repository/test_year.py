"""A year of nights: prune and collect keep time and space of a night flat, and every kept point restores."""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.formats.retention import RetentionPoint, Rules, Usable, decide
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.collect.report import CollectOptions
from tests.repository.conftest import CHUNK, START, content_of, make, reopen, store_point
from tests.repository.memory_store import MemoryStore

SEED = int(os.environ.get("HVPS_SEED", "20261127"))
CHUNKS = 24


class Vm:
    """A VM whose disk changes a little each day."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.vm_id = UUID(int=number)
        self._dice = dice
        self._content = bytearray(dice.randbytes(CHUNKS * CHUNK))
        self.expected: dict[UUID, bytes] = {}
        self.last: Point | None = None

    def back_up(self, repository: Repository, night: int) -> None:
        changed = sorted(self._dice.sample(range(CHUNKS), 2)) if self.last else None
        for number in changed or ():
            self._content[number * CHUNK : (number + 1) * CHUNK] = self._dice.randbytes(CHUNK)
        point = store_point(
            repository,
            bytes(self._content),
            base=self.last,
            changed=changed,
            vm_id=self.vm_id,
            vm_name=f"vm{self.vm_id.int}",
            created=START + timedelta(days=night, minutes=self.vm_id.int),
        )
        self.last = point
        self.expected[point.point_id] = bytes(self._content)


def _prune(repository: Repository, rules: Rules, night: int) -> None:
    points = repository.catalog.points()
    decided = decide(rules, map(_of, points), START + timedelta(days=night, hours=1))
    removed = {point.point_id for vm in decided for point in vm.removed}
    assert not repository.pruner.prune([point for point in points if point.point_id in removed])


def _of(point: Point) -> RetentionPoint:
    manifest = point.manifest
    return RetentionPoint(
        vm_id=point.vm_id,
        point_id=point.point_id,
        made=point.created,
        vm_name=point.vm_name,
        sequence=manifest.sequence,
        tags=frozenset(),
        disks=tuple(str(disk.disk_id) for disk in point.disks),
        protected=False,
        base=False,
        usable=Usable.GOOD,
        consistency=manifest.consistency,
        consistency_asked=manifest.consistency_asked,
    )


def _play(store: MemoryStore, nights: int, rules: Rules) -> tuple[list[float], list[int]]:
    """Seconds of each night, and stored bytes after it; three VMs, the last of which begins halfway."""
    dice = random.Random(SEED)
    sys.stdout.write(f"seed {SEED}, {nights} nights\n")
    vms = [Vm(number, dice) for number in (1, 2, 3)]
    seconds, sizes = [], []
    for night in range(nights):
        started = time.perf_counter()
        with reopen(store) as repository:
            for vm in vms:
                vm.back_up(repository, night)
            _prune(repository, rules, night)
            # What was pruned two nights ago goes.
            repository.collect(uuid4(), CollectOptions(grace=timedelta(0)))
        seconds.append(time.perf_counter() - started)
        sizes.append(sum(map(len, store.objects.values())))
    _check(store, vms, dice)
    return seconds, sizes


def _check(store: MemoryStore, vms: list[Vm], dice: random.Random) -> None:
    with reopen(store) as repository:
        for vm in vms:
            points = repository.catalog.points(vm.vm_id)
            assert points[-1].point_id == vm.last.point_id  # type: ignore[union-attr]  # backed up each night
            for point in {points[0], points[-1], *dice.sample(points, min(len(points), 10))}:
                assert content_of(repository, point) == vm.expected[point.point_id]
        assert not repository.verify(Level.HASHED).problems


def _assert_flat(store: MemoryStore, sizes: list[int]) -> None:
    half = len(sizes) // 2
    late, early = statistics.median(sizes[-7:]), statistics.median(sizes[half - 7 : half])
    assert late < 1.15 * early
    with reopen(store) as repository:
        stats = repository.stats(START)
        # Packs that were doomed in the last night are still there.
        assert stats.stored_bytes < 1.3 * stats.needed_bytes


def test_a_quarter_of_nights_is_flat(store: MemoryStore) -> None:
    make(store).close()
    _, sizes = _play(store, 90, Rules(keep_daily=7, keep_weekly=4))
    _assert_flat(store, sizes)


@pytest.mark.soak
def test_a_year_of_nights_is_flat(store: MemoryStore) -> None:
    make(store, sealed=True).close()
    # After half a year, the number of points is what it stays.
    seconds, sizes = _play(store, 365, Rules(keep_daily=7, keep_weekly=4, keep_monthly=6))
    _assert_flat(store, sizes)
    half = len(seconds) // 2
    assert statistics.median(seconds[-30:]) < 2 * statistics.median(seconds[half - 30 : half])
