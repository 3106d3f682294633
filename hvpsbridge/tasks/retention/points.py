"""What retention must know about the points of a repository, read from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.retention import RetentionPoint, Usable
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.planning.bases import next_bases


def retention_points(
    repository: Repository, vm_ids: frozenset[UUID] | None = None
) -> tuple[tuple[Point, RetentionPoint], ...]:
    """Each point with what retention must know about it, by VM and oldest first.

    Points whose manifests cannot be read are left out: nothing says when they were made.

    Args:
        repository: the repository.
        vm_ids: only points of these VMs; of all by default.
    """
    everything = repository.catalog.points()
    points = [point for point in everything if vm_ids is None or point.vm_id in vm_ids]
    states = repository.catalog.states.read()
    safe = repository.catalog.safe_bases()
    damaged = repository.damaged_points(points)
    # A VM may have been restored from a point of another.
    bases = next_bases(repository, everything)
    names = _disk_names(points)
    found = []
    for point in points:
        manifest = point.manifest
        tags = states.tags_of(manifest)
        usable = Usable.GOOD
        if point.point_id not in safe:
            usable = Usable.FENCED
        elif point.point_id in damaged:
            usable = Usable.DAMAGED
        known = RetentionPoint(
            vm_id=point.vm_id,
            point_id=point.point_id,
            made=point.created,
            vm_name=point.vm_name,
            sequence=manifest.sequence,
            tags=tags.tags,
            disks=frozenset(names[point.vm_id, _key(disk)] for disk in point.disks),
            protected=tags.protected,
            base=point.point_id in bases,
            usable=usable,
            consistency=manifest.consistency,
            consistency_asked=manifest.consistency_asked,
        )
        found.append((point, known))
    return tuple(found)


def _key(disk: ManifestDisk) -> str:
    return str(disk.disk_id or disk.slot)


def _disk_names(points: Iterable[Point]) -> Mapping[tuple[UUID, str], str]:
    """Names of the disks of each VM: the slot of the newest point that has the disk, if no other has it."""
    slots: dict[tuple[UUID, str], str] = {}
    for point in points:
        for disk in point.disks:
            slots.pop((point.vm_id, _key(disk)), None)
            slots[point.vm_id, _key(disk)] = disk.slot
    taken: set[tuple[UUID, str]] = set()
    names: dict[tuple[UUID, str], str] = {}
    # The disk that has a slot now comes last.
    for (vm_id, key), slot in reversed(slots.items()):
        names[vm_id, key] = f"{slot} ({key[:8]})" if (vm_id, slot) in taken else slot
        taken.add((vm_id, slot))
    return names
