"""What a repository contains: which VM and which point takes how much space, and how fast it grows.

A chunk that only one VM needs is unique to it: its bytes come back when the VM is removed. One that several
need is shared. The same holds for the points of one VM.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.repository.check.verify import VerifyContext
from hvpsbridge.repository.collect.marking import Marks
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.stored_packs import pack_sizes

# How far back new data is counted.
GROWTH = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceOf:
    """Space of a VM, or of one of its points.

    Attributes:
        points: how many points.
        disk_bytes: size of all disks in these points.
        unique_bytes: stored bytes that nothing else needs: they come back when it is removed and collected.
        shared_bytes: stored bytes that something else needs, too.
        ratio: size of the disks divided by these stored bytes; 0 if nothing is stored.
    """

    points: int
    disk_bytes: int
    unique_bytes: int
    shared_bytes: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpace:
    """Space of one point."""

    point_id: UUID
    created: datetime
    space: SpaceOf


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpace:
    """Space of a VM.

    Attributes:
        added_bytes_a_day: bytes that its points of the last 30 days added, a day.
        of_points: of each point, oldest first; empty for VMs that were not named.
    """

    vm: str
    vm_id: UUID
    space: SpaceOf
    oldest: datetime
    newest: datetime
    added_bytes_a_day: int
    of_points: tuple[PointSpace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryStats:
    """What takes space in a repository.

    Attributes:
        packs: how many packs there are.
        stored_bytes: of all packs.
        needed_bytes: of what points need of them.
        free_bytes: that the store has left; None if it does not say.
        added_bytes_a_day: of all VMs.
        full_in_days: when the store is full if nothing is pruned; None if that is not known.
    """

    packs: int
    stored_bytes: int
    needed_bytes: int
    free_bytes: int | None
    added_bytes_a_day: int
    full_in_days: float | None
    vms: tuple[VmSpace, ...]


def repository_stats(
    context: VerifyContext, points: Sequence[Point], now: datetime, *, in_detail: frozenset[UUID]
) -> RepositoryStats:
    """What a repository contains.

    Args:
        context: the repository, just refreshed.
        points: all of its points, sorted by VM, then oldest first.
        now: the time, UTC.
        in_detail: VMs whose points are counted one by one, which reads all of their trees.

    Raises:
        Damaged: a node of a point cannot be read.
    """
    while True:
        renewals = context.cache.renewals
        stats = _stats(context, points, now, in_detail)
        # What is marked are numbers of the index cache, and one that is rebuilt has others.
        if context.cache.renewals == renewals:
            return stats


def _stats(
    context: VerifyContext, points: Sequence[Point], now: datetime, in_detail: frozenset[UUID]
) -> RepositoryStats:
    lines = [list(group) for _, group in groupby(points, key=lambda point: point.vm_id)]
    whole = _Owners(context)
    for line in lines:
        whole.add(point.manifest for point in line)
    vms = []
    for line, (unique, shared) in zip(lines, whole.counts(), strict=True):
        detail: tuple[PointSpace, ...] = ()
        if line[0].vm_id in in_detail:
            one_by_one = _Owners(context)
            for point in line:
                one_by_one.add([point.manifest])
            each = zip(line, one_by_one.counts(), strict=True)
            detail = tuple(
                PointSpace(point_id=point.point_id, created=point.created, space=_space([point], *counts))
                for point, counts in each
            )
        vms.append(
            VmSpace(
                vm=line[-1].vm_name,
                vm_id=line[0].vm_id,
                space=_space(line, unique, shared),
                oldest=line[0].created,
                newest=line[-1].created,
                added_bytes_a_day=_added_a_day(line, now),
                of_points=detail,
            )
        )
    sizes = pack_sizes(context.objects).values()
    free_bytes, added = context.objects.store.free_bytes(), sum(vm.added_bytes_a_day for vm in vms)
    return RepositoryStats(
        packs=len(sizes),
        stored_bytes=sum(sizes),
        needed_bytes=whole.needed_bytes(),
        free_bytes=free_bytes,
        added_bytes_a_day=added,
        full_in_days=None if free_bytes is None or not added else free_bytes / added,
        vms=tuple(vms),
    )


def _space(points: Sequence[Point], unique: int, shared: int) -> SpaceOf:
    disks = sum(disk.size_bytes for point in points for disk in point.disks)
    stored = unique + shared
    return SpaceOf(
        points=len(points),
        disk_bytes=disks,
        unique_bytes=unique,
        shared_bytes=shared,
        ratio=disks / stored if stored else 0.0,
    )


def _added_a_day(line: Sequence[Point], now: datetime) -> int:
    """New bytes a day, without the first point of the VM: a first full does not come every month."""
    recent = [point for point in line[1:] if now - GROWTH <= point.created <= now]
    if not recent:
        return 0
    since = max(line[0].created, now - GROWTH)
    days = max((now - since) / timedelta(days=1), 1.0)
    return int(sum(disk.stats.stored_bytes for point in recent for disk in point.disks) / days)


class _Owners:
    """Says which frames only one of several owners needs.

    A bitmap for each owner, compressed: at 20 TiB one has 21 MB, and that of an increment is nearly empty.
    """

    def __init__(self, context: VerifyContext) -> None:
        self._context = context
        self._bitmaps: list[bytes] = []
        self._seen = 0
        self._shared = 0

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Add an owner, who needs what these manifests need."""
        context = self._context
        marks = Marks(context.cache, context.frames, context.grid, (), (), ())
        marks.add(manifests)
        bits = marks.copy()
        self._bitmaps.append(zlib.compress(bits, 1))
        mine = int.from_bytes(bits, "little")
        self._shared |= self._seen & mine
        self._seen |= mine

    def counts(self) -> Iterator[tuple[int, int]]:
        """For each owner, in the order of adding: stored bytes that only it needs, and that others need."""
        for packed in self._bitmaps:
            bits = int.from_bytes(zlib.decompress(packed), "little")
            yield self._count(bits & ~self._shared), self._count(bits & self._shared)

    def needed_bytes(self) -> int:
        """Stored bytes that any owner needs."""
        return self._count(self._seen)

    def _count(self, bits: int) -> int:
        data = bits.to_bytes(-(-bits.bit_length() // 8), "little")
        return sum(live for _, live in self._context.cache.live_bytes(data).values())
