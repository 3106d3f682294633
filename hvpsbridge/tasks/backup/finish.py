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
from hvpsbridge.tasks.cleanup.ownership import ids_of
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints
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
    _convert(context, state, leased, frozen, stored, committed)
    _leave(context, state, leased, planned, frozen, stored)


def _convert(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    frozen: Frozen,
    stored: Stored,
    committed: Committed,
) -> None:
    """Close the readers, convert the checkpoint to a reference point and publish its ids."""
    point, checkpoint_id = committed.point, frozen.checkpoint.checkpoint_id
    with step(context, state, Step.CLOSE_READERS):
        for disk in stored.disks:
            disk.reader.close()
    with step(context, state, Step.INTEND_CONVERSION):
        leased.lease.check()
        leased.journal.conversion_intended(checkpoint_id, point.point_id)
    with step(context, state, Step.CONVERT):
        job_seconds = cleanup_context(context, state, leased.journal).job_seconds
        made = context.host.convert(context.vm_id, checkpoint_id, job_seconds=job_seconds)
    with step(context, state, Step.RECORD_REFERENCE_POINT):
        leased.journal.reference_point_made(made.instance_id, point.point_id)
    with step(context, state, Step.PUBLISH_IDS):
        _publish(context, state, point, made)


def _publish(context: BackupContext, state: BackupState, point: Point, made: ReferencePointInfo) -> None:
    if not any(disk.rct_id for disk in point.disks):
        return
    ids = ids_of(point.manifest, made, context.host.disks(context.vm_id))
    if ids is None:
        state.warn("the reference point's ids are not those of the frozen disks: the next backup compares")
        return
    context.repository.catalog.publish_ids(point, ids)


def _leave(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    stored: Stored,
) -> None:
    """Destroy older reference points, wait for the merge, and see that the host is clean."""
    cleanup = cleanup_context(context, state, leased.journal)
    references = ReferencePoints(cleanup)
    left: list[str] = []
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
