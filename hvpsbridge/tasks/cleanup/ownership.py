"""Decides which checkpoints and reference points of a VM hvps created. Pure.

hvps created an object if the ledger or a recovery point names its id, if its name is a mark of this
repository, or, for a checkpoint that a run intended but could not record, if it is the only one that can
be it. If hvps may have created an object, but it is not certain, the object is unclear and never removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    DiskInfo,
    ReferencePointInfo,
    ReferencePointKind,
)
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.mark import has_mark_of, parse_mark
from hvpsbridge.tasks.planning.plan import slot_of

# How far a checkpoint's creation may be from its intent: the longest job, and two clocks that differ.
CANDIDATE_SPAN = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What of a VM's checkpoints and reference points hvps created.

    Attributes:
        ours: checkpoints to remove or convert.
        unclear: checkpoints that a dead run of this repository or somebody else may have created.
        known_references: ``InstanceID`` of reference points that hvps created for certain.
        candidates: reference points that appeared since a conversion was intended; hvps created those whose
            ids are a recovery point's.
    """

    ours: tuple[CheckpointInfo, ...]
    unclear: tuple[CheckpointInfo, ...]
    known_references: frozenset[str]
    candidates: tuple[ReferencePointInfo, ...]


def decide_ownership(
    entries: Sequence[LedgerEntry],
    open_entries: Sequence[LedgerEntry],
    checkpoints: Sequence[CheckpointInfo],
    reference_points: Sequence[ReferencePointInfo],
    lineage: Lineage,
    repository_id: UUID,
) -> Ownership:
    """Which checkpoints and reference points of a VM hvps created.

    Args:
        entries: those of the VM's ledger that a run needs.
        open_entries: those of runs that were not cleaned up after.
        checkpoints: all that are on the host.
        reference_points: all that are on the host.
        lineage: the VM's recovery points in this repository.
        repository_id: of this repository, as marks carry it.
    """
    made = {entry.checkpoint_id for entry in entries if entry.kind is LedgerKind.CHECKPOINT_MADE}
    ours: list[CheckpointInfo] = []
    others: list[CheckpointInfo] = []
    for checkpoint in checkpoints:
        if checkpoint.checkpoint_id in made or has_mark_of(repository_id, checkpoint.name):
            ours.append(checkpoint)
        else:
            others.append(checkpoint)
    unclear: list[CheckpointInfo] = []
    for intent in open_intents(open_entries, ours):
        candidates = [checkpoint for checkpoint in others if may_be_intended(checkpoint, intent)]
        if len(candidates) == 1:
            ours.extend(candidates)
        else:
            unclear.extend(checkpoint for checkpoint in candidates if checkpoint not in unclear)
    known = known_references(entries, lineage)
    before = _references_before(open_entries)
    return Ownership(
        tuple(ours),
        tuple(unclear),
        known,
        tuple(
            point
            for point in reference_points
            if before is not None
            and point.instance_id not in before
            and point.instance_id not in known
            and point.kind is ReferencePointKind.RCT
        ),
    )


def known_references(entries: Iterable[LedgerEntry], lineage: Lineage) -> frozenset[str]:
    """``InstanceID`` of the reference points that a ledger entry or an ids object names."""
    return lineage.reference_points | {
        reference_point for entry in entries for reference_point in entry.own_reference_points
    }


def open_intents(
    open_entries: Sequence[LedgerEntry], ours: Sequence[CheckpointInfo]
) -> Iterator[LedgerEntry]:
    """Intended checkpoints that neither the ledger nor a mark among ``ours`` shows as created."""
    made = {entry.run_id for entry in open_entries if entry.kind is LedgerKind.CHECKPOINT_MADE}
    marks = {checkpoint.name for checkpoint in ours}
    for entry in open_entries:
        if (
            entry.kind is LedgerKind.CHECKPOINT_INTENDED
            and entry.run_id not in made
            and entry.mark not in marks
        ):
            yield entry


def runs_that_may_have_made(
    checkpoint: CheckpointInfo, open_entries: Iterable[LedgerEntry]
) -> tuple[UUID, ...]:
    """The runs that intended a checkpoint which may be this one."""
    return tuple(
        entry.run_id
        for entry in open_entries
        if entry.kind is LedgerKind.CHECKPOINT_INTENDED and may_be_intended(checkpoint, entry)
    )


def may_be_intended(checkpoint: CheckpointInfo, intent: LedgerEntry) -> bool:
    """Whether a checkpoint may be the intended one: it has no mark, is new, and was created at that time."""
    return (
        checkpoint.kind is CheckpointKind.RECOVERY
        and parse_mark(checkpoint.name) is None
        and checkpoint.checkpoint_id not in intent.checkpoints_before
        and abs(checkpoint.created - intent.at) <= CANDIDATE_SPAN
    )


def _references_before(open_entries: Sequence[LedgerEntry]) -> frozenset[str] | None:
    """Reference points from before the newest conversion that may have happened; None if none may have."""
    converting = {entry.run_id for entry in open_entries if entry.kind is LedgerKind.CONVERSION_INTENDED}
    for entry in reversed(open_entries):
        if entry.kind is LedgerKind.CHECKPOINT_INTENDED and entry.run_id in converting:
            return frozenset(entry.reference_points_before)
    return None


def ids_of(
    manifest: Manifest, reference_point: ReferencePointInfo, disks: Iterable[DiskInfo]
) -> PointIds | None:
    """The ids object of a recovery point, from its reference point; None unless all ids equal the manifest's.

    An id that was read from the frozen disk before its data, and comes back from the conversion, marks the
    moment of the recovery point. Any other id may mark any other moment
    (docs/hyperv-facts.md#sealed-moment). Arrays of unequal length do not say which id belongs to which disk
    (docs/hyperv-facts.md#reference-point-ids).
    """
    if len(reference_point.disk_instance_ids) != len(reference_point.rct_ids):
        return None
    slots = {disk.instance_id: slot_of(disk) for disk in disks if disk.instance_id is not None}
    returned = {
        slots[instance_id]: rct_id
        for instance_id, rct_id in zip(
            reference_point.disk_instance_ids, reference_point.rct_ids, strict=True
        )
        if instance_id in slots
    }
    tracked = [disk for disk in manifest.disks if disk.rct_id is not None]
    if not tracked or any(returned.get(disk.slot) != disk.rct_id for disk in tracked):
        return None
    return PointIds(
        manifest.digest(),
        manifest.vm_id,
        reference_point.instance_id,
        tuple(DiskIds(disk.slot, disk.disk_id, disk.rct_id or "") for disk in tracked),
    )


def reference_points_to_keep(lineage: Lineage, there: Sequence[str], *, durable: bool) -> tuple[str, ...]:
    """Which reference points stay: that of the newest point with usable ids, else the newest one there.

    A store that does not guarantee durability may lose its newest point, so the one before stays as well.

    Args:
        lineage: the VM's recovery points.
        there: ``InstanceID`` of those on the host that hvps created, in the host's order.
        durable: whether the store guarantees durability.
    """
    usable = [
        point.ids.reference_point
        for point in reversed(lineage.points)
        if point.usable and point.ids is not None and point.ids.reference_point in there
    ]
    return tuple(usable[: 1 if durable else 2]) or tuple(there[-1:])
