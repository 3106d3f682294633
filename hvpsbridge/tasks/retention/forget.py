"""Forgets points by hand: those that a user names, whatever rules say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import PointsNeeded
from hvpsbridge.formats.retention import Rules, Why, decide
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.points import vms_named
from hvpsbridge.tasks.retention.points import retention_points

# Forgotten only with --newest: without such a point the next backup is larger, or the newest state is lost.
_NEEDED = (Why.NEWEST, Why.BASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPlan:
    """Points to forget.

    Attributes:
        points: by VM and oldest first.
        needed: why a point is needed, by id; without points that are not.
        protected: those that are protected.
        emptied: VMs of which no point is left, with the host of the newest.
    """

    points: tuple[Point, ...]
    needed: dict[UUID, tuple[str, ...]]
    protected: tuple[Point, ...]
    emptied: tuple[Point, ...]


def plan_forget(repository: Repository, selectors: Sequence[str]) -> ForgetPlan:
    """The points that selectors name: each is a point, or a VM by its name or id, which means all its points.

    Raises:
        PointNotFound: there is no such point or VM.
        AmbiguousPoint: there are several such points.
        PointLost: it may be a point that cannot be read.
    """
    everything = repository.catalog.points()
    chosen: dict[UUID, Point] = {}
    for selector in selectors:
        vm_ids = vms_named(everything, selector)
        found = [point for point in everything if point.vm_id in vm_ids]
        for point in found or [repository.catalog.find_point(selector)]:
            chosen[point.point_id] = point
    points = tuple(point for point in everything if point.point_id in chosen)
    vm_ids = frozenset(point.vm_id for point in points)
    known = [known for _, known in retention_points(repository, vm_ids)]
    # Any rule will do: only reasons that do not depend on rules are looked at.
    decisions = [each for vm in decide(Rules(keep_last=1), known, datetime.now(UTC)) for each in vm.decisions]
    needed = {
        each.point.point_id: texts
        for each in decisions
        if each.point.point_id in chosen
        if (texts := tuple(reason.text for reason in each.reasons if reason.why in _NEEDED))
    }
    protected = {each.point_id for each in known if each.protected}
    newest = {point.vm_id: point for point in everything}
    left = {point.vm_id for point in everything if point.point_id not in chosen}
    return ForgetPlan(
        points=points,
        needed=needed,
        protected=tuple(point for point in points if point.point_id in protected),
        emptied=tuple(newest[vm_id] for vm_id in newest if vm_id in vm_ids - left),
    )


def refuse_needed(repository: Repository, plan: ForgetPlan, *, with_newest: bool) -> None:
    """Return if all points of the plan may be forgotten.

    Raises:
        PointsNeeded: one is protected, or is needed and ``with_newest`` is false.
    """
    protected = tuple(f"{name_of(point)} is protected" for point in plan.protected)
    if protected:
        raise PointsNeeded(repository.url, protected, "run `hvps unprotect` first")
    if plan.needed and not with_newest:
        needed = tuple(
            f"{name_of(point)} is needed ({', '.join(plan.needed[point.point_id])})"
            for point in plan.points
            if point.point_id in plan.needed
        )
        raise PointsNeeded(repository.url, needed, "use --newest to forget it anyway")


def name_of(point: Point) -> str:
    """A point as errors and notes show it."""
    return f"{point.vm_name}@{point.short_id}"
