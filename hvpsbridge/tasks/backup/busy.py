"""Tells a VM that is busy for the moment from one that is busy in every run."""

from __future__ import annotations

import logging
from uuid import UUID

from hvpsbridge.errors import Gated, HvpsError, RepositoryError, StaysBusy, VmBusy
from hvpsbridge.formats.ledger import LedgerKind
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.state import BackupState

logger = logging.getLogger(__name__)

# From so many days of runs without a recovery point on, being busy is no longer taken for a passing state.
PATIENT_DAYS = 3


def judge_busy(context: BackupContext, state: BackupState, error: HvpsError) -> HvpsError:
    """The error of a backup: another one, or another condition, if the VM has been busy for days."""
    if not isinstance(error, Gated | VmBusy):
        return error
    try:
        days = days_without_point(context.repository, context.vm_id)
    except RepositoryError as err:
        logger.warning("VM %s: cannot see for how long it was busy: %s", context.vm_name, err)
        return error
    if days < PATIENT_DAYS:
        return error
    reason = error.reason if isinstance(error, Gated) else error.describe()
    lasting = StaysBusy(context.vm_name, reason, days)
    if isinstance(error, Gated):
        return lasting
    state.conditions.append(lasting)
    return error


def days_without_point(repository: Repository, vm_id: UUID) -> int:
    """On how many days (UTC) runs began for a VM after its newest recovery point was made.

    Raises:
        RepositoryError: the ledger cannot be read.
    """
    points = repository.catalog.points(vm_id)
    newest = points[-1] if points else None
    return len(
        {
            entry.at.date()
            for entry in repository.ledger(vm_id).entries()
            if entry.kind is LedgerKind.RUN_STARTED
            # The run that made the point opened shells after its checkpoint, too.
            and (newest is None or (entry.at > newest.created and entry.run_id != newest.manifest.run_id))
        }
    )
