"""Cleaning up the host: after earlier runs (row 2), and after this one when it fails (the undo)."""

from __future__ import annotations

import logging
from dataclasses import replace

from hvpsbridge import stopping
from hvpsbridge.backoff import Backoff, retry
from hvpsbridge.errors import (
    CommitForkFailed,
    HostNotClean,
    HostUnreachable,
    LeaseLost,
    OperationTimedOut,
    SessionLost,
    VmBusy,
    VmNotFound,
)
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased
from hvpsbridge.tasks.backup.state import BackupState
from hvpsbridge.tasks.cleanup.cleaner import clean_up, left_unknown
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.ownership import is_ours
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints
from hvpsbridge.tasks.hosts import host_error
from hvpsbridge.tasks.journal import Journal

logger = logging.getLogger(__name__)


def clean_up_earlier_runs(context: BackupContext, state: BackupState, leased: Leased) -> None:
    """Finish or remove what earlier runs left on the host.

    Raises:
        HostNotClean: a checkpoint of theirs cannot be removed.
    """
    cleanup = cleanup_context(context, state, leased.journal)
    left = clean_up(cleanup, ReferencePoints(cleanup))
    state.cleaned_up(left)
    # What an entry that cannot be read says was made is unknown. The backup goes on, and the report says so.
    state.conditions.extend(leased.journal.ledger.damaged)
    if not left:
        return
    unclean = HostNotClean(context.host.name, context.vm_name, left)
    checkpoints = context.host.checkpoints(context.vm_id)
    entries = cleanup.authentic_entries
    if any(is_ours(context.repository.repository_id, one, entries) for one in checkpoints):
        # Only one checkpoint at a time: a second one would keep the chain of the first from being merged.
        raise unclean
    state.conditions.append(unclean)


def undo(context: BackupContext, state: BackupState, journal: Journal, error: Exception) -> None:
    """Remove what this run has on the host, on a fresh connection; the state says what is left.

    A crash, an error and a signal all end in the same code: this run is cleaned up after like a dead one.

    Args:
        context: the backup.
        state: of the attempt.
        journal: of the run.
        error: what ended the backup.
    """
    logger.info("VM %s: undoing after: %s", context.vm_name, error)
    if isinstance(error, (LeaseLost, CommitForkFailed)):
        # The new holder of the lease cleans up; acting now would be acting without one. And where a fork of
        # the chain failed, removing anything may lose the VM's data (docs/hyperv-facts.md#commit-forks).
        state.cleaned_up(state.left)
    else:
        state.cleaned_up(_clean_up_own_run(context, state, journal))
    if state.leftovers:
        state.conditions.append(HostNotClean(context.host.name, context.vm_name, state.leftovers))


def _clean_up_own_run(context: BackupContext, state: BackupState, journal: Journal) -> tuple[str, ...]:
    limits, ending = context.options.limits, state.ending
    ending.begin()

    def attempt() -> tuple[str, ...]:
        with context.connect() as host:
            cleanup = replace(
                cleanup_context(context, state, journal),
                host=host,
                own_run=None,
                pause=ending.pause,
                until=ending.until,
                uncertain=state.uncertain,
            )
            return clean_up(cleanup, ReferencePoints(cleanup))

    try:
        with stopping.checked_by(ending.check):
            # The VM may be moving between two hosts, or be busy with whatever it is doing there.
            return retry(
                attempt,
                (SessionLost, HostUnreachable, OperationTimedOut, VmNotFound, VmBusy),
                Backoff(limits.poll_seconds, limits.poll_seconds),
                pause=ending.pause,
                on_retry=lambda err, _: logger.warning("VM %s: undo: %s", context.vm_name, err),
            )
    except Exception as err:  # noqa: BLE001 - what may be left must be reported whatever ends the undo
        return (*state.left, left_unknown(host_error(context.host.name, "undo", err)))


def cleanup_context(context: BackupContext, state: BackupState, journal: Journal) -> CleanupContext:
    """For a clean-up that leaves this run alone."""
    return CleanupContext(
        host=context.host,
        repository=context.repository,
        vm_id=context.vm_id,
        journal=journal,
        limits=context.options.limits,
        own_run=context.run_id,
        pause=context.cancel.pause if state.committed is None else state.ending.pause,
        until=None if state.committed is None else state.ending.until,
        note=context.note,
        warn=state.warn,
        connect_to=context.connect_to,
        claimed_ids=state.unmarked_ids,
    )
