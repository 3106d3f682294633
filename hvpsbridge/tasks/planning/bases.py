"""Points that the next increments and compares count from: removing one makes a backup read whole disks."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.tasks.planning.restored import read_restored


def next_bases(repository: Repository, points: Sequence[Point]) -> frozenset[UUID]:
    """Points that the next backups count from, of any VM.

    Args:
        repository: of the points.
        points: all points of each VM that counts, by VM and oldest first.
    """
    by_vm: dict[UUID, list[Point]] = {}
    for point in points:
        by_vm.setdefault(point.vm_id, []).append(point)
    return frozenset(found for vm_id, mine in by_vm.items() for found in _of_vm(repository, vm_id, mine))


def _of_vm(repository: Repository, vm_id: UUID, points: Sequence[Point]) -> set[UUID]:
    found: set[UUID] = set()
    restored = read_restored(repository, vm_id)
    after = 0
    if restored is not None:
        after = restored.after
        newer = {disk.slot for point in points if point.manifest.sequence > after for disk in point.disks}
        if restored.manifest is not None and restored.slots - newer:
            found.add(restored.manifest.point_id)
    # A disk of any point may be attached again, and its increments count from its newest ids.
    wanted = {(disk.slot, disk.disk_id) for point in points for disk in point.disks if disk.disk_id}
    for point in reversed(points):
        if not wanted or point.manifest.sequence <= after:
            break
        mine = wanted & {(disk.slot, disk.disk_id) for disk in point.disks}
        if not mine:
            continue
        alone = Lineage([KnownPoint(point.manifest, repository.catalog.ids(point))])
        for slot, disk_id in mine:
            if disk_id is not None and alone.newest_with_ids(slot, disk_id) is not None:
                found.add(point.point_id)
                wanted.discard((slot, disk_id))
    return found
