"""Decides which checkpoints and reference points of a VM hvps created. Pure.

A checkpoint is ours if it is a recovery checkpoint whose name is a mark of this repository. Where a host
does not let hvps name it, it is ours if the ledger has both its id and the name that it has, and nobody
without the key can have written that: in a plain repository it is unclear. A reference point carries no
mark: it is ours if the ledger or an ids object names it and it has the RCT ids of that recovery point. No
other id in the repository is enough by itself: a host may have given it falsely, and whoever can write to a
plain repository can forge it. What hvps may have created, but cannot prove, is unclear and never removed
until a person decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
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
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.formats.ids import DiskIds, IdWay, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.tasks.planning.mark import has_mark_of, parse_mark

# How far a checkpoint's creation may be from its intent: the longest job, and two clocks that differ.
CANDIDATE_SPAN = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reference point that a conversion may have made.

    Attributes:
        reference_point: as the host lists it.
        points: the recovery points whose checkpoints were being converted.
    """

    reference_point: ReferencePointInfo
    points: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Ownership:
    """What of a VM's checkpoints and reference points hvps created.

    Attributes:
        ours: checkpoints to remove or convert.
        unclear: checkpoints that a dead run of this repository or somebody else may have created.
        reference_points: those that hvps created for certain, in the host's order.
        unproven: reference points that the ledger names, but that have the ids of no recovery point.
        candidates: reference points that appeared since a conversion was intended; hvps created those that
            have the ids of the conversion's recovery point.
    """

    ours: tuple[CheckpointInfo, ...]
    unclear: tuple[CheckpointInfo, ...]
    reference_points: tuple[ReferencePointInfo, ...]
    unproven: tuple[ReferencePointInfo, ...]
    candidates: tuple[Candidate, ...]


def decide_ownership(
    entries: Sequence[LedgerEntry],
    open_entries: Sequence[LedgerEntry],
    checkpoints: Sequence[CheckpointInfo],
    reference_points: Sequence[ReferencePointInfo],
    lineage: Lineage,
    repository_id: UUID,
    claimed: Collection[str] = (),
    *,
    authentic: bool = False,
) -> Ownership:
    """Which checkpoints and reference points of a VM hvps created.

    Args:
        entries: those of the VM's ledger that a run needs.
        open_entries: those of runs that were not cleaned up after.
        checkpoints: all that are on the host.
        reference_points: all that are on the host.
        lineage: the VM's recovery points in this repository.
        repository_id: of this repository, as marks carry it.
        claimed: ids of unclear objects that, as a user or the run says now, hvps created.
        authentic: whether only hvps can have written the entries, as in an encrypted repository.
    """
    ours = [one for one in checkpoints if is_ours(repository_id, one, entries if authentic else ())]
    unclear = _unclear(entries, open_entries, [one for one in checkpoints if one not in ours], ours)
    proven = own_reference_points(entries, lineage, reference_points)
    named = {name for entry in entries for name in entry.own_reference_points}
    unproven = [one for one in reference_points if one not in proven and one.instance_id in named]
    return Ownership(
        (*ours, *(one for one in unclear if str(one.checkpoint_id) in claimed)),
        tuple(one for one in unclear if str(one.checkpoint_id) not in claimed),
        tuple(
            one
            for one in reference_points
            if one in proven or (one in unproven and one.instance_id in claimed)
        ),
        tuple(one for one in unproven if one.instance_id not in claimed),
        tuple(
            Candidate(one, points)
            for one in reference_points
            if one not in proven
            and one not in unproven
            and one.kind is ReferencePointKind.RCT
            and (points := _converted_to(one, open_entries))
        ),
    )


def is_ours(
    repository_id: UUID, checkpoint: CheckpointInfo, authentic_entries: Iterable[LedgerEntry] = ()
) -> bool:
    """Whether hvps created a checkpoint for that repository: its kind and its mark say so, or the ledger."""
    return checkpoint.kind is CheckpointKind.RECOVERY and (
        has_mark_of(repository_id, checkpoint.name) or unmarked_run(checkpoint, authentic_entries) is not None
    )


def unmarked_run(checkpoint: CheckpointInfo, entries: Iterable[LedgerEntry]) -> UUID | None:
    """The run that created a checkpoint which it could not name, as the ledger has its id and its name."""
    for entry in entries:
        if (
            entry.kind is LedgerKind.CHECKPOINT_MADE
            and entry.checkpoint_id == checkpoint.checkpoint_id
            and entry.mark == checkpoint.name
        ):
            return entry.run_id
    return None


def _unclear(
    entries: Sequence[LedgerEntry],
    open_entries: Sequence[LedgerEntry],
    others: Sequence[CheckpointInfo],
    ours: Sequence[CheckpointInfo],
) -> tuple[CheckpointInfo, ...]:
    """Recovery checkpoints without a mark that a run intended, or that the ledger names by id."""
    made = {entry.checkpoint_id for entry in entries if entry.kind is LedgerKind.CHECKPOINT_MADE}
    intents = list(open_intents(open_entries, ours))
    return tuple(
        one
        for one in others
        if any(may_be_intended(one, intent) for intent in intents)
        or (
            one.checkpoint_id in made and one.kind is CheckpointKind.RECOVERY and parse_mark(one.name) is None
        )
    )


def own_reference_points(
    entries: Iterable[LedgerEntry], lineage: Lineage, reference_points: Iterable[ReferencePointInfo]
) -> tuple[ReferencePointInfo, ...]:
    """Those that the ledger or an ids object names for a recovery point whose RCT ids they have."""
    entries = tuple(entries)
    named: dict[str, set[UUID | None]] = {}
    for point in lineage.points:
        if point.ids is not None:
            named.setdefault(point.ids.reference_point, set()).add(point.manifest.point_id)
    for entry in entries:
        for name in entry.own_reference_points:
            named.setdefault(name, set()).add(entry.point_id)

    def proven(one: ReferencePointInfo) -> bool:
        points = named.get(one.instance_id, set())
        if one.kind is not ReferencePointKind.RCT:
            return False
        return any(
            has_ids_of(point.manifest, one) or has_published_ids(point, one)
            for point in lineage.points
            # An entry that closes the ledger names reference points without their recovery points.
            if point.manifest.point_id in points or None in points
        ) or any(has_recorded_ids(entry, one) for entry in entries)

    return tuple(one for one in reference_points if proven(one))


def rct_ids_of(manifest: Manifest) -> tuple[str, ...]:
    """The RCT ids of a recovery point's disks; without any, no reference point can be known by them."""
    return tuple(disk.rct_id for disk in manifest.disks if disk.rct_id)


def has_ids_of(manifest: Manifest, reference_point: ReferencePointInfo) -> bool:
    """Whether a reference point has the RCT id of every tracked disk of a recovery point.

    Slots are not compared: a reference point keeps its ids when disks of the VM are moved or removed.
    """
    tracked = rct_ids_of(manifest)
    return bool(tracked) and set(tracked).issubset(reference_point.rct_ids)


def has_published_ids(point: KnownPoint, reference_point: ReferencePointInfo) -> bool:
    """Whether a reference point has the ids that its conversion gave, as the ids object of a point says."""
    ids = point.ids
    if ids is None or not point.usable or ids.reference_point != reference_point.instance_id:
        return False
    published = {disk.rct_id for disk in ids.disks}
    return bool(published) and published.issubset(reference_point.rct_ids)


def has_recorded_ids(entry: LedgerEntry, reference_point: ReferencePointInfo) -> bool:
    """Whether a reference point has the ids that its conversion gave, as the ledger says."""
    named = reference_point.instance_id in entry.own_reference_points
    return named and bool(entry.rct_ids) and set(entry.rct_ids).issubset(reference_point.rct_ids)


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


def _converted_to(
    reference_point: ReferencePointInfo, open_entries: Sequence[LedgerEntry]
) -> frozenset[UUID]:
    """The recovery points whose open conversions may have made a reference point: it was not there before."""
    points: set[UUID] = set()
    before: set[str] = set()
    for entry in open_entries:
        if entry.kind in (LedgerKind.CHECKPOINT_INTENDED, LedgerKind.CONVERSION_INTENDED):
            before.update(entry.reference_points_before)
        if (
            entry.kind is LedgerKind.CONVERSION_INTENDED
            and entry.point_id is not None
            and reference_point.instance_id not in before
        ):
            points.add(entry.point_id)
    return frozenset(points)


def ids_of(
    manifest: Manifest, reference_point: ReferencePointInfo, disks: Iterable[DiskInfo]
) -> PointIds | None:
    """The ids object of a recovery point, from its reference point; None if that lacks a tracked disk.

    An id that was read from the frozen disk before its data, and comes back from the conversion, marks the
    moment of the recovery point. Any other id may mark any other moment (docs/hyperv-facts.md#sealed-moment),
    so it says how it relates to the frozen disk. Arrays of unequal length do not say which id belongs to
    which disk (docs/hyperv-facts.md#reference-point-ids).
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
    if any(disk.rct_id is not None and disk.slot not in returned for disk in manifest.disks):
        return None
    ids = [
        DiskIds(disk.slot, disk.disk_id, returned[disk.slot], _way(disk, returned[disk.slot]))
        for disk in manifest.disks
        if disk.slot in returned
    ]
    # Late ids only show whose a reference point is that has no others.
    usable = [disk for disk in ids if disk.way is not IdWay.LATE] or ids
    if not usable:
        return None
    return PointIds(manifest.digest(), manifest.vm_id, reference_point.instance_id, tuple(usable))


def _way(disk: ManifestDisk, rct_id: str) -> IdWay:
    if rct_id == disk.rct_id:
        return IdWay.FROZEN
    return IdWay.REFERENCE if disk.rct_id is not None or disk.tracked_without_id else IdWay.LATE


def why_no_ids(reference_point: ReferencePointInfo) -> str:
    """Why :func:`ids_of` found no ids in a reference point."""
    disks, ids = len(reference_point.disk_instance_ids), len(reference_point.rct_ids)
    if disks != ids:
        return f"the reference point does not say which ids belong to which disks ({disks} disks, {ids} ids)"
    return "the reference point has no ids of some disks"


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
