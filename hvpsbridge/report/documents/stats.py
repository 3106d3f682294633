"""The document of ``hvps repo stats``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.report.documents.document import Document
from hvpsbridge.repository.stats import RepositoryStats, SpaceOf


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceShown:
    """Space of a VM or a point.

    Attributes:
        points: how many points.
        disk_bytes: size of all disks in these points.
        unique_bytes: stored bytes that nothing else needs.
        shared_bytes: stored bytes that something else needs, too.
        ratio: how many times the stored bytes the disks have.
    """

    points: int
    disk_bytes: int
    unique_bytes: int
    shared_bytes: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpaceShown:
    """Space of one point."""

    point_id: UUID
    created: datetime
    space: SpaceShown


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpaceShown:
    """Space of a VM.

    Attributes:
        added_bytes_a_day: bytes that its points of the last 30 days added, a day.
        of_points: of each point, oldest first; empty for VMs that were not named.
    """

    vm: str
    vm_id: UUID
    space: SpaceShown
    oldest: datetime
    newest: datetime
    added_bytes_a_day: int
    of_points: tuple[PointSpaceShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsShown:
    """What takes space in a repository.

    Attributes:
        packs: how many packs there are.
        stored_bytes: of all packs.
        needed_bytes: of what points need of them.
        free_bytes: that the store has left; null if it does not say.
        added_bytes_a_day: of all VMs.
        full_in_days: when the store is full if nothing is pruned; null if that is not known.
    """

    packs: int
    stored_bytes: int
    needed_bytes: int
    free_bytes: int | None
    added_bytes_a_day: int
    full_in_days: float | None
    vms: tuple[VmSpaceShown, ...]


@dataclass(frozen=True, slots=True)
class RepositoryStatsShown(Document):
    """What takes space in a repository, and how fast it grows."""

    repository_id: UUID
    url: str
    stats: StatsShown


def stats_shown(found: RepositoryStats) -> StatsShown:
    """The part of the document about space."""
    return StatsShown(
        packs=found.packs,
        stored_bytes=found.stored_bytes,
        needed_bytes=found.needed_bytes,
        free_bytes=found.free_bytes,
        added_bytes_a_day=found.added_bytes_a_day,
        full_in_days=found.full_in_days,
        vms=tuple(
            VmSpaceShown(
                vm=vm.vm_name,
                vm_id=vm.vm_id,
                space=_space(vm.space),
                oldest=vm.oldest,
                newest=vm.newest,
                added_bytes_a_day=vm.added_bytes_a_day,
                of_points=tuple(
                    PointSpaceShown(point_id=point.point_id, created=point.created, space=_space(space))
                    for point, space in vm.of_points
                ),
            )
            for vm in found.vms
        ),
    )


def _space(space: SpaceOf) -> SpaceShown:
    return SpaceShown(
        points=space.points,
        disk_bytes=space.disk_bytes,
        unique_bytes=space.unique_bytes,
        shared_bytes=space.shared_bytes,
        ratio=space.ratio,
    )
