"""Rows 9 and 10: conversion and ids, older reference points, merges, and a last look at the host."""

from __future__ import annotations

from dataclasses import replace

from hvpsbridge.contract.results import ReferencePointInfo
from hvpsbridge.errors import HostNotClean
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.backup.checkpoint import Frozen
from hvpsbridge.tasks.backup.clean_up import cleanup_context
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased, Planned
from hvpsbridge.tasks.backup.state import BackupState, Committed, step
from hvpsbridge.tasks.backup.store import Stored
from hvpsbridge.tasks.cleanup.cleaner import close_run, unclean
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.cleanup.ownership import ids_of, rct_ids_of, why_no_ids
from hvpsbridge.tasks.cleanup.reference_points import (
    ReferencePoints,
    discard,
    known_by,
    left_unproven,
)
from hvpsbridge.tasks.planning.modes import Reason
from hvpsbridge.tasks.planning.plan import may_be_tracked
from hvpsbridge.tasks.policy import OnUnexpectedFull
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_backup import DiskBackup

_EXPECTED = tuple(reason.word for reason in Reason if reason.expected)


def finish(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    stored: Stored,
    committed: Committed,
) -> None:
    """Make the recovery point a base for the next increment, and leave the host clean.

    Raises:
        HostError: the host did not do its part; the recovery point is safe all the same.
    """
    # The point is committed: what is to be said of it does not depend on what the host does next.
    _warn_unexpected(context, state, planned, stored)
    unproven = _convert(context, state, leased, planned, frozen, stored, committed)
    _leave(context, state, leased, planned, frozen, unproven)


def _convert(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    stored: Stored,
    committed: Committed,
) -> tuple[str, ...]:
    """Close the readers, convert the checkpoint to a reference point and publish its ids.

    Where reference points are known to have other ids than frozen disks, the ids that the conversion gives
    show later that this one is ours; elsewhere one with other ids is destroyed at once. Without a disk that
    can be tracked the checkpoint is removed instead.

    Returns:
        A line for each thing that stays on the host and cannot be proved to be ours.
    """
    host, vm_id, point = context.host, context.vm_id, committed.point
    checkpoint = frozen.checkpoint
    rct_ids = rct_ids_of(point.manifest)
    converts = bool(rct_ids) or any(_may_get_ids(planned, disk) for disk in stored.disks)
    before: tuple[ReferencePointInfo, ...] = ()
    made: ReferencePointInfo | None = None
    with step(context, state, Step.CLOSE_READERS):
        for disk in stored.disks:
            disk.reader.close()
    with step(context, state, Step.INTEND_CONVERSION):
        leased.lease.check()
        if converts:
            before = host.reference_points(vm_id)
            leased.journal.conversion_intended(checkpoint.checkpoint_id, point.point_id, before)
    job_seconds = cleanup_context(context, state, leased.journal).job_seconds
    with step(context, state, Step.CONVERT):
        if converts:
            made = host.convert(
                vm_id,
                checkpoint.checkpoint_id,
                rct_ids=() if planned.trust.ids_differ else rct_ids,
                existing=[one.instance_id for one in before],
                job_seconds=job_seconds,
            )
        else:
            host.remove_checkpoint(vm_id, checkpoint.checkpoint_id, checkpoint.name, job_seconds=job_seconds)
    own_ids: tuple[str, ...] | None = None
    with step(context, state, Step.RECORD_REFERENCE_POINT):
        if made is not None:
            differ = planned.trust.ids_differ or not rct_ids
            own_ids = known_by(host, vm_id, point.manifest, made, before, differ=differ)
            if own_ids is not None:
                leased.journal.reference_point_made(made.instance_id, point.point_id, own_ids)
    with step(context, state, Step.PUBLISH_IDS):
        if made is None:
            return ()
        published = _publish(context, state, leased, planned, point, made, ours=own_ids is not None)
        if own_ids is not None and (published or not own_ids):
            return ()
        if own_ids is None and made.rct_ids:
            return left_unproven(host, vm_id, made)
        # Ids that are only in the ledger are forgotten when it is closed.
        return discard(host, vm_id, made, before, job_seconds)


def _may_get_ids(planned: Planned, disk: DiskBackup) -> bool:
    """Whether a conversion may give an id for a disk that showed none, or start its tracking."""
    tracking = disk.tracking
    trackable = may_be_tracked(planned.plan.vm, disk.plan.facts)
    return trackable and tracking is not None and not tracking.refusal


def _publish(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    point: Point,
    made: ReferencePointInfo,
    *,
    ours: bool,
) -> bool:
    """Publish the ids of a point, and remember whether they differ; false if there are none."""
    ids = ids_of(point.manifest, made, context.host.disks(context.vm_id))
    if ids is None:
        state.warn(f"{why_no_ids(made)}: the next backup compares")
        return False
    ways = {disk.way for disk in ids.disks}
    if IdWay.LATE in ways:
        context.note("tracking starts with this reference point: the next backup compares")
    elif IdWay.REFERENCE in ways and planned.trust.missing:
        text = "the reference point's ids are not those of the frozen disks: the next backup compares"
        # A compare for this reason has a warning of its own.
        if any(disk.reason is Reason.IDS_UNPROVED for disk in planned.plan.disks):
            context.note(text)
        else:
            state.warn(text)
    differ = IdWay.REFERENCE in ways
    if IdWay.LATE not in ways and context.shared.records.load(leased.info).differ is not differ:
        context.shared.records.save(leased.info, differ=differ)
    # Without a name they claim no reference point, and still show the next run what this host does.
    context.repository.catalog.publish_ids(point, ids if ours else replace(ids, reference_point=""))
    return True


def _leave(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    unproven: tuple[str, ...],
) -> None:
    """Destroy older reference points, wait for the merge, and see that the host is clean."""
    cleanup = cleanup_context(context, state, leased.journal)
    references = ReferencePoints(cleanup)
    left = [*unproven]
    with step(context, state, Step.RETIRE):
        leased.lease.check()
        left.extend(references.retire())
    with step(context, state, Step.MERGE):
        left.extend(
            wait_for_merge(
                context.host, context.vm_id, frozen.children, context.options.limits, state.ending.pause
            )
        )
    with step(context, state, Step.CHECK_CLEAN):
        left.extend(unclean(cleanup, references))
        if left:
            state.cleaned_up(tuple(left))
            state.conditions.append(HostNotClean(context.host.name, context.vm_name, tuple(left)))
        else:
            state.cleaned_up(state.leftovers)
            close_run(cleanup, references)


def _warn_unexpected(context: BackupContext, state: BackupState, planned: Planned, stored: Stored) -> None:
    if context.options.on_unexpected_full is OnUnexpectedFull.ACCEPT:
        return
    for disk in stored.disks:
        plan = disk.plan
        if plan.reason.expected or disk.lied_chunks:
            continue
        before = planned.lineage.unexpected_in_a_row(plan.slot, plan.facts.disk_id, _EXPECTED)
        again = f", {before + 1} times in a row now" if before else ""
        state.warn(f"disk {plan.slot}: {plan.mode.value}{again}: {plan.why}")
