"""The reference points of a VM that hvps created: adopts and destroys them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hvpsbridge.contract.results import ReferencePointInfo
from hvpsbridge.errors import OperationFailed
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.ownership import ids_of, known_references, reference_points_to_keep
from hvpsbridge.tasks.planning.lineage import read_lineage


def publish_ids(context: CleanupContext, made: ReferencePointInfo, point: Point) -> bool:
    """Publish the ids of ``made`` if they are those of ``point``; whether they are."""
    ids = ids_of(point.manifest, made, context.host.disks(context.vm_id))
    if ids is None:
        return False
    if context.repository.catalog.ids(point) is None:
        context.repository.catalog.publish_ids(point, ids)
    return True


def adopt(context: CleanupContext, candidates: Iterable[ReferencePointInfo]) -> Iterator[str]:
    """Record the reference points that are a recovery point's by their ids; a line for each other one."""
    points = context.repository.catalog.points(context.vm_id)
    for candidate in candidates:
        for point in reversed(points):
            if publish_ids(context, candidate, point):
                context.journal.reference_point_made(candidate.instance_id, point.point_id)
                context.note(f"adopted the reference point of point {point.short_id}")
                break
        else:
            yield (
                f"cannot tell whether reference point {candidate.instance_id} was created by hvps, because "
                "no recovery point has its ids; decide with `hvps host sweep`"
            )


class ReferencePoints:
    """Reference points on the host that hvps created, as last seen.

    Args:
        context: the clean-up.

    Attributes:
        there: their ``InstanceID``; None before the first look.
        keep: those that must stay.
        out_of_sight: whether the ledger names one that may be on another host, where the VM was.
    """

    def __init__(self, context: CleanupContext) -> None:
        self._context = context
        self._destroyed: set[str] = set()
        self.there: tuple[str, ...] | None = None
        self.keep: tuple[str, ...] = ()
        self.out_of_sight = False

    def look(self) -> tuple[str, ...]:
        """Ask the host again; ``InstanceID`` of those that are there."""
        context = self._context
        lineage = read_lineage(context.repository, context.vm_id)
        entries = context.journal.ledger.current_entries()
        known = known_references(entries, lineage)
        there = tuple(
            point.instance_id
            for point in context.host.reference_points(context.vm_id)
            if point.instance_id in known
        )
        # One that is missing on the host that created it was destroyed. On another host, where the VM was, it
        # may still exist, and only the ledger may know it.
        found = {*there, *self._destroyed, *lineage.reference_points}
        self.out_of_sight = any(
            entry.host != context.host.name and not found.issuperset(entry.own_reference_points)
            for entry in entries
        )
        self.keep = reference_points_to_keep(lineage, there, durable=context.repository.durable)
        self.there = there
        return there

    def retire(self) -> Iterator[str]:
        """Destroy those that no base needs; a line for each that stays."""
        there = self.look()
        yield from self._destroy([one for one in there if one not in self.keep])

    def forget(self) -> Iterator[str]:
        """Destroy all of them; a line for each that stays."""
        yield from self._destroy(self.look())

    def _destroy(self, instance_ids: Iterable[str]) -> Iterator[str]:
        context = self._context
        for instance_id in instance_ids:
            try:
                context.host.remove_reference_point(
                    context.vm_id, instance_id, job_seconds=context.job_seconds
                )
            except OperationFailed as err:
                yield f"reference point {instance_id}: {err.describe()}"
            else:
                self._destroyed.add(instance_id)
                self.there = tuple(one for one in self.there or () if one != instance_id)
                context.note(f"destroyed reference point {instance_id}")
