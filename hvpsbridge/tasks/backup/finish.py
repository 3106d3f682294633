"""Rows 9 and 10: conversion and ids, older reference points, merges, and a last look at the host."""

from __future__ import annotations

from hvpsbridge.contract.results import ReferencePointInfo
from hvpsbridge.errors import HostNotClean
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.backup.checkpoint import Frozen
from hvpsbridge.tasks.backup.clean_up import cleanup_context
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased, Planned
from hvpsbridge.tasks.backup.state import BackupState, Committed, step
from hvpsbridge.tasks.backup.store import Stored
from hvpsbridge.tasks.cleanup.cleaner import close_run, unclean
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.cleanup.ownership import has_ids_of, ids_of, rct_ids_of, why_no_ids
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints, left_unproven
from hvpsbridge.tasks.planning.modes import Reason
from hvpsbridge.tasks.policy import OnUnexpectedFull
from hvpsbridge.tasks.steps import Step

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
    unproven = _convert(context, state, leased, frozen, stored, committed)
    _leave(context, state, leased, planned, frozen, stored, unproven)


def _convert(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    frozen: Frozen,
    stored: Stored,
    committed: Committed,
) -> tuple[str, ...]:
    """Close the readers, convert the checkpoint to a reference point and publish its ids.

    Without an RCT id of any disk a reference point is no base, and nothing would show that it is ours. So the
    checkpoint is removed instead.

    Returns:
        A line for each thing that stays on the host and cannot be proved to be ours.
    """
    host, vm_id, point = context.host, context.vm_id, committed.point
    checkpoint = frozen.checkpoint
    rct_ids = rct_ids_of(point.manifest)
    before: tuple[ReferencePointInfo, ...] = ()
    made: ReferencePointInfo | None = None
    with step(context, state, Step.CLOSE_READERS):
        for disk in stored.disks:
            disk.reader.close()
    with step(context, state, Step.INTEND_CONVERSION):
        leased.lease.check()
        if rct_ids:
            before = host.reference_points(vm_id)
            leased.journal.conversion_intended(checkpoint.checkpoint_id, point.point_id, before)
    with step(context, state, Step.CONVERT):
        job_seconds = cleanup_context(context, state, leased.journal).job_seconds
        if rct_ids:
            made = host.convert(
                vm_id,
                checkpoint.checkpoint_id,
                rct_ids=rct_ids,
                existing=[one.instance_id for one in before],
                job_seconds=job_seconds,
            )
        else:
            host.remove_checkpoint(vm_id, checkpoint.checkpoint_id, checkpoint.name, job_seconds=job_seconds)
    ours = made is not None and has_ids_of(point.manifest, made)
    with step(context, state, Step.RECORD_REFERENCE_POINT):
        if made is not None and ours:
            leased.journal.reference_point_made(made.instance_id, point.point_id)
    with step(context, state, Step.PUBLISH_IDS):
        if made is not None:
            _publish(context, state, point, made)
    return () if made is None or ours else left_unproven(host, vm_id, made)


def _publish(context: BackupContext, state: BackupState, point: Point, made: ReferencePointInfo) -> None:
    ids = ids_of(point.manifest, made, context.host.disks(context.vm_id))
    if ids is None:
        state.warn(f"{why_no_ids(made)}: the next backup compares")
        return
    context.repository.catalog.publish_ids(point, ids)


def _leave(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    stored: Stored,
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
        _warn_unexpected(context, state, planned, stored)


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
