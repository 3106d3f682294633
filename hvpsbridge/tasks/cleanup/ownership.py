"""Owner the checkpoints and reference points of a VM are. Pure: ledger and what is there in, verdicts out.

The law: a thing is ours when the ledger or a point names its id, when its name is our mark, or, for a
checkpoint that a run intended and could not write down, when it is the only newcomer since. What may be
ours but cannot be told is unclear, and nobody's to remove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

# How far a newcomer's time of creation may be from its intent: a job's longest run and two clocks.
NEWCOMER_SPAN = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What of a VM's checkpoints and reference points is ours.

    Attributes:
        ours: checkpoints to be removed or converted.
        unclear: checkpoints that a dead run of ours or somebody else may have made.
        known_references: ``InstanceID`` of reference points that are ours for certain.
        newcomers: reference points that appeared since a conversion was intended; ours when their ids
            are a point's.
    """

    ours: tuple[CheckpointInfo, ...]
    unclear: tuple[CheckpointInfo, ...]
    known_references: frozenset[str]
    newcomers: tuple[ReferencePointInfo, ...]


def judge(
    entries: Sequence[LedgerEntry],
    open_entries: Sequence[LedgerEntry],
    checkpoints: Sequence[CheckpointInfo],
    reference_points: Sequence[ReferencePointInfo],
    lineage: Lineage,
    repository_id: UUID,
) -> Ownership:
    """Owner each checkpoint and reference point of a VM is.

    Args:
        entries: of the VM's ledger, those that a run needs.
        open_entries: those of runs that are not settled.
        checkpoints, reference_points: all that are on the host.
        lineage: the VM's points here.
        repository_id: ours, as marks carry it.
    """
    made = {entry.checkpoint_id for entry in entries if entry.kind is LedgerKind.CHECKPOINT_MADE}
    ours: list[CheckpointInfo] = []
    strangers: list[CheckpointInfo] = []
    for checkpoint in checkpoints:
        if checkpoint.checkpoint_id in made or has_mark_of(repository_id, checkpoint.name):
            ours.append(checkpoint)
        else:
            strangers.append(checkpoint)
    unclear: list[CheckpointInfo] = []
    for intent in unfulfilled(open_entries, ours):
        fresh = [checkpoint for checkpoint in strangers if may_be(checkpoint, intent)]
        if len(fresh) == 1:
            ours.extend(fresh)
        else:
            unclear.extend(checkpoint for checkpoint in fresh if checkpoint not in unclear)
    known = known_references(entries, lineage)
    before = _references_before(open_entries)
    newcomers = tuple(
        point
        for point in reference_points
        if before is not None
        and point.instance_id not in before
        and point.instance_id not in known
        and point.kind is ReferencePointKind.RCT
    )
    return Ownership(tuple(ours), tuple(unclear), known, newcomers)


def known_references(entries: Iterable[LedgerEntry], lineage: Lineage) -> frozenset[str]:
    """``InstanceID`` of the reference points that a ledger entry or an ids object names."""
    return lineage.reference_points | {
        reference_point for entry in entries for reference_point in entry.own_reference_points
    }


def unfulfilled(open_entries: Sequence[LedgerEntry], ours: Sequence[CheckpointInfo]) -> Iterable[LedgerEntry]:
    """Intents whose checkpoint is neither in the ledger nor to be seen by its mark."""
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
    """The unsettled runs that intended a checkpoint which this may be."""
    return tuple(
        entry.run_id
        for entry in open_entries
        if entry.kind is LedgerKind.CHECKPOINT_INTENDED and may_be(checkpoint, entry)
    )


def may_be(checkpoint: CheckpointInfo, intent: LedgerEntry) -> bool:
    """Whether a checkpoint may be the one that was intended: nobody has marked it, and its time fits."""
    return (
        checkpoint.kind is CheckpointKind.RECOVERY
        and parse_mark(checkpoint.name) is None
        and checkpoint.checkpoint_id not in intent.checkpoints_before
        and abs(checkpoint.created - intent.at) <= NEWCOMER_SPAN
    )


def _references_before(open_entries: Sequence[LedgerEntry]) -> frozenset[str] | None:
    """Reference points there before the newest conversion that may have happened; None without one."""
    converting = {entry.run_id for entry in open_entries if entry.kind is LedgerKind.CONVERSION_INTENDED}
    for entry in reversed(open_entries):
        if entry.kind is LedgerKind.CHECKPOINT_INTENDED and entry.run_id in converting:
            return frozenset(entry.reference_points_before)
    return None


def ids_of(
    manifest: Manifest, reference_point: ReferencePointInfo, disks: Iterable[DiskInfo]
) -> PointIds | None:
    """The ids object of a point from its reference point; None unless every id equals the manifest's.

    An id that was read from the frozen handle before the data, and comes back from the conversion, seals
    the moment of the point. Any other id may seal any other moment (docs/hyperv-facts.md#sealed-moment). The
    reference point's arrays are parallel (docs/hyperv-facts.md#reference-point-ids).
    """
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
    """Which of our reference points on the host stay: that of the newest point with usable ids, else the
    newest one there.

    A store that cannot promise durability may yet lose its newest point. Then the one before stays, too.

    Args:
        lineage: the VM's points.
        there: ours that are on the host, in the host's order.
        durable: whether the store keeps what it has taken.
    """
    usable = [
        point.ids.reference_point
        for point in reversed(lineage.points)
        if point.usable and point.ids is not None and point.ids.reference_point in there
    ]
    return tuple(usable[: 1 if durable else 2]) or tuple(there[-1:])
