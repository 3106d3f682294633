"""The reference points of a VM that hvps created: adopts and destroys them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from uuid import UUID

from hvpsbridge.contract.results import ReferencePointInfo
from hvpsbridge.errors import CommitForkFailed, OperationFailed
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.ownership import (
    Candidate,
    has_ids_of,
    has_recorded_ids,
    ids_of,
    own_reference_points,
    reference_points_to_keep,
    why_no_ids,
)
from hvpsbridge.tasks.planning.lineage import read_lineage

logger = logging.getLogger(__name__)


def known_by(
    host: HyperVHost,
    vm_id: UUID,
    manifest: Manifest,
    made: ReferencePointInfo,
    before: Iterable[ReferencePointInfo],
    *,
    differ: bool,
) -> tuple[str, ...] | None:
    """The ids by which the result of a conversion is known to be ours later; None if nothing shows that.

    Empty if they are those of the recovery point. Other ids count only where they are expected, and only if
    no other reference point appeared meanwhile.

    Args:
        host: the host.
        vm_id: the VM.
        manifest: of the recovery point.
        made: what the host says it made.
        before: reference points that were there before the conversion.
        differ: whether other ids than those of the frozen disks are expected.
    """
    if has_ids_of(manifest, made):
        return ()
    if not differ or not made.rct_ids or not _is_only_new_one(host, vm_id, made, before):
        return None
    return made.rct_ids


def _is_only_new_one(
    host: HyperVHost, vm_id: UUID, made: ReferencePointInfo, before: Iterable[ReferencePointInfo]
) -> bool:
    known = {one.instance_id for one in before}
    new = [one.instance_id for one in host.reference_points(vm_id) if one.instance_id not in known]
    return new == [made.instance_id]


def publish_ids(context: CleanupContext, made: ReferencePointInfo, point: Point) -> bool:
    """Publish the ids of the reference point of ``point``; false if it has none."""
    ids = ids_of(point.manifest, made, context.host.disks(context.vm_id))
    if ids is None:
        context.note(f"{why_no_ids(made)}: the next backup compares")
        return False
    if context.repository.catalog.ids(point) is None:
        context.repository.catalog.publish_ids(point, ids)
    return True


def publish_recorded(
    context: CleanupContext, entries: Iterable[LedgerEntry], there: Iterable[ReferencePointInfo]
) -> None:
    """Publish ids that a run which ended early had only recorded in the ledger."""
    recorded = [entry for entry in entries if entry.rct_ids]
    if not recorded:
        return
    points = {point.point_id: point for point in context.repository.catalog.points(context.vm_id)}
    for one in there:
        for entry in recorded:
            point = None if entry.point_id is None else points.get(entry.point_id)
            if point is not None and has_recorded_ids(entry, one):
                publish_ids(context, one, point)


def discard(
    host: HyperVHost,
    vm_id: UUID,
    made: ReferencePointInfo,
    before: Iterable[ReferencePointInfo],
    job_seconds: int,
) -> tuple[str, ...]:
    """Destroy the result of a conversion, by which nothing could know it later; a line for it if it stays.

    It stays if another reference point appeared during the conversion: the host may have named the wrong one.
    """
    if _is_only_new_one(host, vm_id, made, before):
        try:
            host.remove_reference_point(vm_id, made.instance_id, made.rct_ids, job_seconds=job_seconds)
        except CommitForkFailed:
            raise
        except OperationFailed as err:
            logger.info("cannot destroy reference point %s: %s", made.instance_id, err)
    return left_unproven(host, vm_id, made)


def left_unproven(host: HyperVHost, vm_id: UUID, made: ReferencePointInfo) -> tuple[str, ...]:
    """A line for a reference point without the expected ids, if the host did not destroy it."""
    there = any(one.instance_id == made.instance_id for one in host.reference_points(vm_id))
    return (unproven_line(made),) if there else ()


def unproven_line(reference_point: ReferencePointInfo) -> str:
    """The line for a reference point that hvps may have created."""
    return (
        f"cannot tell whether reference point {reference_point.instance_id} was created by hvps, because it "
        "does not have the ids of the recovery point; decide with `hvps host sweep`"
    )


def adopt(context: CleanupContext, candidates: Iterable[Candidate]) -> Iterator[str]:
    """Record the reference points that have the ids of their recovery point; a line for each other one."""
    points = {point.point_id: point for point in context.repository.catalog.points(context.vm_id)}
    for candidate in candidates:
        made = candidate.reference_point
        found = [points[point_id] for point_id in candidate.points if point_id in points]
        point = next((one for one in found if has_ids_of(one.manifest, made)), None)
        if point is not None:
            context.journal.reference_point_made(made.instance_id, point.point_id)
            publish_ids(context, made, point)
            context.note(f"adopted the reference point of point {point.short_id}")
        elif made.instance_id not in context.claimed_ids:
            yield unproven_line(made)


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

    def look(self) -> tuple[ReferencePointInfo, ...]:
        """Ask the host again; those that are there."""
        context = self._context
        lineage = read_lineage(context.repository, context.vm_id)
        entries = context.journal.ledger.current_entries()
        listed = context.host.reference_points(context.vm_id)
        own = own_reference_points(entries, lineage, listed)
        found = tuple(one for one in listed if one in own or one.instance_id in context.claimed_ids)
        there = tuple(one.instance_id for one in found)
        # One that is missing on the host that created it was destroyed. On another host, where the VM was, it
        # may still exist, and only the ledger may know it.
        seen = {*there, *self._destroyed, *lineage.reference_points}
        self.out_of_sight = any(
            entry.host != context.host.name and not seen.issuperset(entry.own_reference_points)
            for entry in entries
        )
        self.keep = reference_points_to_keep(
            lineage, [one.instance_id for one in own], durable=context.repository.durable
        )
        self.there = there
        return found

    def retire(self) -> Iterator[str]:
        """Destroy those that no base needs; a line for each that stays."""
        there = self.look()
        yield from self._destroy([one for one in there if one.instance_id not in self.keep])

    def forget(self) -> Iterator[str]:
        """Destroy all of them; a line for each that stays."""
        yield from self._destroy(self.look())

    def _destroy(self, reference_points: Iterable[ReferencePointInfo]) -> Iterator[str]:
        context = self._context
        for one in reference_points:
            try:
                context.host.remove_reference_point(
                    context.vm_id, one.instance_id, one.rct_ids, job_seconds=context.job_seconds
                )
            except OperationFailed as err:
                yield f"reference point {one.instance_id}: {err.describe()}"
            else:
                self._destroyed.add(one.instance_id)
                self.there = tuple(there for there in self.there or () if there != one.instance_id)
                context.note(f"destroyed reference point {one.instance_id}")
