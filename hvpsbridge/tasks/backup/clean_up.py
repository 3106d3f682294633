"""Cleaning up the host: after earlier runs (row 2), and after this one when it fails (the undo)."""

from __future__ import annotations

import logging

from hvpsbridge.errors import (
    CommitForkFailed,
    HostNotClean,
    HostUnreachable,
    HvpsError,
    LeaseLost,
    OperationTimedOut,
    SessionLost,
    VmBusy,
    VmNotFound,
)
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased
from hvpsbridge.tasks.backup.state import BackupState
from hvpsbridge.tasks.cleanup.cleaner import Cleaner, left_unknown
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.mark import has_mark_of

logger = logging.getLogger(__name__)


def clean_up_earlier_runs(context: BackupContext, state: BackupState, leased: Leased) -> None:
    """Finish or remove what earlier runs left on the host.

    Raises:
        HostNotClean: a checkpoint of theirs cannot be removed.
    """
    left = cleaner_of(context, state, leased.journal).run()
    state.cleaned_up(left)
    if not left:
        return
    unclean = HostNotClean(context.host.name, context.vm_name, left)
    checkpoints = context.host.checkpoints(context.vm_id)
    if any(has_mark_of(context.repository.repository_id, one.name) for one in checkpoints):
        # One checkpoint of ours at a time: a second one would pin the first one's chain.
        raise unclean
    state.conditions.append(unclean)


def undo(context: BackupContext, state: BackupState, journal: Journal, error: Exception) -> None:
    """Remove what this run has on the host, on a fresh connection; the state says what is left.

    A crash, an error and a signal all end in the same code: the cleaner takes this run for a dead one.

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
    limits = context.policy.limits
    until = context.clock() + limits.undo_seconds
    while True:
        try:
            with context.connect() as host:
                return _cleaner_for_undo(context, state, journal, host, until).run()
        except (SessionLost, HostUnreachable, OperationTimedOut, VmNotFound, VmBusy) as err:
            # The VM may be moving between two hosts, or be busy with whatever it is doing there.
            failure: HvpsError = err
        except HvpsError as err:
            return (*state.left, left_unknown(err))
        logger.warning("VM %s: undo: %s", context.vm_name, failure)
        if context.clock() > until or not context.cancel.pause_undo(limits.poll_seconds):
            return (*state.left, left_unknown(failure))


def cleaner_of(context: BackupContext, state: BackupState, journal: Journal) -> Cleaner:
    """A cleaner that leaves this run alone."""
    return Cleaner(
        context.host,
        context.repository,
        context.vm_id,
        journal,
        context.policy.limits,
        own_run=context.run_id,
        pause=context.cancel.pause,
        note=context.note,
        warn=state.warn,
        connect_to=context.connect_to,
    )


def _cleaner_for_undo(
    context: BackupContext, state: BackupState, journal: Journal, host: HyperVHost, until: float
) -> Cleaner:
    """A cleaner of this run and all earlier ones, which waits no longer than ``until``."""

    def pause(seconds: float) -> bool:
        return context.clock() < until and context.cancel.pause_undo(seconds)

    return Cleaner(
        host,
        context.repository,
        context.vm_id,
        journal,
        context.policy.limits,
        own_run=None,
        pause=pause,
        uncertain=state.uncertain,
        note=context.note,
        warn=state.warn,
        connect_to=context.connect_to,
    )
