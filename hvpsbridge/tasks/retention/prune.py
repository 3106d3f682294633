"""Prunes the points that no rule keeps, and that nothing else needs.

A prune takes no lease. It removes nothing that a backup in progress counts from: the newest points of a VM
and the bases of its next increments stay, and a backup that lists them later only knows newer ones. With the
lease, a prune could not run beside a backup of many hours, nor a backup start beside a prune. A writer checks
its bases before and after its manifest all the same, for points that are forgotten by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import PointNotFound
from hvpsbridge.formats.retention import (
    GuardVerdict,
    Rules,
    VmDecisions,
    decide,
    guard,
    past_prunes,
    refuse_out_of_line,
)
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.points import vms_named
from hvpsbridge.tasks.retention.points import retention_points
from hvpsbridge.tasks.retention.shown import PruneReport, prune_report


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What a prune is about to do.

    Attributes:
        at: when it was decided.
        points: all points that were decided about, by id.
        unreadable: points of these VMs whose manifest cannot be read, described for people.
    """

    rules: Rules
    at: datetime
    decisions: tuple[VmDecisions, ...]
    verdict: GuardVerdict
    points: Mapping[UUID, Point]
    unreadable: tuple[str, ...]

    @property
    def report(self) -> PruneReport:
        """What reports show of it."""
        return prune_report(self.rules, self.decisions, self.verdict, self.at, self.unreadable)


def find_vms(repository: Repository, names: tuple[str, ...]) -> frozenset[UUID] | None:
    """VMs of the repository with these names or ids; None for all, if there are no names.

    Raises:
        PointNotFound: one of them has no point.
    """
    if not names:
        return None
    points = repository.catalog.points()
    found: set[UUID] = set()
    for name in names:
        mine = vms_named(points, name)
        if not mine:
            raise PointNotFound(name, repository.url)
        found |= mine
    return frozenset(found)


def plan_prune(
    repository: Repository, rules: Rules, vm_ids: frozenset[UUID] | None = None, now: datetime | None = None
) -> PrunePlan:
    """Decide which points stay. Nothing is changed.

    Args:
        repository: the repository.
        rules: what to keep.
        vm_ids: only points of these VMs; of all by default.
        now: points after it are in the future.
    """
    now = datetime.now(UTC) if now is None else now
    found = retention_points(repository, vm_ids)
    decisions = decide(rules, (known for _, known in found), now)
    # Points of other VMs, and of those that were forgotten whole, say nothing about these.
    mine = {vm.vm_id for vm in decisions}
    removals = ((tomb.vm_id, tomb.at) for tomb in repository.catalog.tombstones() if tomb.vm_id in mine)
    lost = repository.catalog.lost_points()
    return PrunePlan(
        rules=rules,
        at=now,
        decisions=decisions,
        verdict=guard(decisions, past_prunes(removals), now),
        points={point.point_id: point for point, _ in found},
        unreadable=tuple(
            f"{each.name}: {each.what}"
            for each in lost
            if vm_ids is None or each.vm_id is None or each.vm_id in vm_ids
        ),
    )


def prune(repository: Repository, plan: PrunePlan, confirmed: int | None = None) -> PruneReport:
    """Prune what was decided.

    Args:
        repository: the repository.
        plan: the decisions.
        confirmed: the number of points that a user confirmed.

    Raises:
        PruneOutOfLine: the number is out of line, and was not confirmed; nothing was pruned.
        CollectRefused: the repository has format 1.
    """
    refuse_out_of_line(plan.verdict, confirmed)
    removed = [plan.points[point.point_id] for vm in plan.decisions for point in vm.removed]
    kept = repository.pruner.prune(removed)
    return replace(plan.report, protected=tuple(point.point_id for point in kept))
