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
from hvpsbridge.repository.layout import PACK_FOLDERS
from hvpsbridge.repository.points import Point

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
    """

    points: int
    disk_bytes: int
    unique_bytes: int
    shared_bytes: int

    @property
    def ratio(self) -> float:
        """How many times the stored bytes the disks have; 0 if nothing is stored."""
        stored = self.unique_bytes + self.shared_bytes
        return self.disk_bytes / stored if stored else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpace:
    """Space of a VM.

    Attributes:
        added_bytes_a_day: bytes that its points of the last days added, a day.
        of_points: of each point, oldest first; empty unless asked for.
    """

    vm_id: UUID
    vm_name: str
    space: SpaceOf
    oldest: datetime
    newest: datetime
    added_bytes_a_day: int
    of_points: tuple[tuple[Point, SpaceOf], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryStats:
    """What a repository contains.

    Attributes:
        stored_bytes: of all packs.
        needed_bytes: of frames that points need.
        free_bytes: that the store has left; None if it does not say.
        added_bytes_a_day: of all VMs.
        full_in_days: when the store is full if nothing is pruned; None if that is not known.
    """

    packs: int
    stored_bytes: int
    needed_bytes: int
    free_bytes: int | None
    added_bytes_a_day: int
    vms: tuple[VmSpace, ...]

    @property
    def unneeded_bytes(self) -> int:
        """Bytes in packs that no point needs, footers included; a collect brings most of them back."""
        return max(self.stored_bytes - self.needed_bytes, 0)

    @property
    def full_in_days(self) -> float | None:
        """When the store is full if nothing is pruned; None if that is not known."""
        if self.free_bytes is None or not self.added_bytes_a_day:
            return None
        return self.free_bytes / self.added_bytes_a_day


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
        detail: tuple[tuple[Point, SpaceOf], ...] = ()
        if line[0].vm_id in in_detail:
            one_by_one = _Owners(context)
            for point in line:
                one_by_one.add([point.manifest])
            each = zip(line, one_by_one.counts(), strict=True)
            detail = tuple((point, _space([point], *counts)) for point, counts in each)
        vms.append(
            VmSpace(
                vm_id=line[0].vm_id,
                vm_name=line[-1].vm_name,
                space=_space(line, unique, shared),
                oldest=line[0].created,
                newest=line[-1].created,
                added_bytes_a_day=_added_a_day(line, now),
                of_points=detail,
            )
        )
    sizes = [info.size_bytes for folder in PACK_FOLDERS.values() for info in context.objects.list(folder)]
    return RepositoryStats(
        packs=len(sizes),
        stored_bytes=sum(sizes),
        needed_bytes=whole.needed_bytes(),
        free_bytes=context.objects.store.free_bytes(),
        added_bytes_a_day=sum(vm.added_bytes_a_day for vm in vms),
        vms=tuple(vms),
    )


def _space(points: Sequence[Point], unique: int, shared: int) -> SpaceOf:
    disks = sum(disk.size_bytes for point in points for disk in point.disks)
    return SpaceOf(points=len(points), disk_bytes=disks, unique_bytes=unique, shared_bytes=shared)


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
