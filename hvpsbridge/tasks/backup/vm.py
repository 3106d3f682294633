"""The backup of one VM: the steps of :mod:`hvpsbridge.tasks.steps` in order, and the undo when one fails.

How it holds together: everything that will exist on the host is in the ledger before it is made. Until the
manifest is durable, an error undoes everything; from then on the recovery point is safe, and an error only
costs its use as a base.

Errors are exceptions in all modules of this package; :func:`run` and :func:`check` are the boundary where
they become the error of a result.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from hvpsbridge import stopping
from hvpsbridge.errors import CheckpointGone, HvpsError, InternalError, Interrupted, LeaseLost, as_error
from hvpsbridge.tasks.backup.busy import judge_busy
from hvpsbridge.tasks.backup.checkpoint import freeze
from hvpsbridge.tasks.backup.clean_up import clean_up_earlier_runs, undo
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.evidence import gather
from hvpsbridge.tasks.backup.finish import finish
from hvpsbridge.tasks.backup.prepare import Leased, plan, resolve
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.backup.state import BackupState, step
from hvpsbridge.tasks.backup.store import commit, store
from hvpsbridge.tasks.planning.plan import stop_if_unexpected
from hvpsbridge.tasks.steps import Step

logger = logging.getLogger(__name__)


def run(context: BackupContext) -> BackupResult:
    """Make a recovery point; the result carries any error."""
    started = datetime.now(UTC)
    state = BackupState(context)
    error: HvpsError | None = None
    try:
        try:
            _attempt(context, state)
        except CheckpointGone as err:
            if state.leftovers:
                raise
            # Once, and under a run id of its own: the ledger of the first attempt is closed.
            context.note(f"starting over: {err}")
            context = replace(context, run_id=uuid4())
            state = BackupState(context, [*state.warnings, f"started over: {err}"])
            _attempt(context, state)
        context.cancel.check()
    except Exception as err:  # noqa: BLE001 - the boundary: any error becomes the result's
        error = judge_busy(context, state, _known(context, err))
    return replace(
        _result(context, state, started, error), host_events=gather(context, state, started, error)
    )


def check(context: BackupContext) -> BackupResult:
    """Plan only: what a backup would do. Nothing is changed on the host or in the repository."""
    started = datetime.now(UTC)
    state = BackupState(context)
    error: HvpsError | None = None
    try:
        # Rows 1 and 3 without lease, ledger or waiting, and whether the reader's C# compiles.
        plan(context, state, context.host.host_info(), wait=False)
        context.host.check_reader()
    except Exception as err:  # noqa: BLE001 - the boundary: any error becomes the result's
        error = _known(context, err)
    return replace(_result(context, state, started, error), planned_only=True)


def _attempt(context: BackupContext, state: BackupState) -> None:
    """All steps. When one fails after the checkpoint was intended, the host is cleaned up.

    With the recovery point committed, an error of the host only costs its ids and becomes a warning.
    """
    with resolve(context, state) as leased:
        try:
            _make_point(context, state, leased)
        except Exception as err:
            if not state.mark:
                raise
            undo(context, state, leased.journal, err)
            lasting = (Interrupted, LeaseLost, InternalError)
            known = as_error(err)
            if state.committed is None or isinstance(known, lasting):
                raise
            state.warn(f"the point is safe, but after it: {known.describe()}")
            state.host_failures.append(known)


def _make_point(context: BackupContext, state: BackupState, leased: Leased) -> None:
    """Rows 2 to 10. However they end, no reader holds a disk afterwards."""
    context.repository.require_data_key()
    with stopping.checked_by(state.guard.check):
        with step(context, state, Step.SETTLE):
            clean_up_earlier_runs(context, state, leased)
        with step(context, state, Step.PLAN):
            planned = plan(context, state, leased.info, wait=True)
            for disk in planned.plan.disks:
                stop_if_unexpected(context.options, context.vm_name, disk)
    with context.repository.begin(context.run_id) as writer, _letting_go(state):
        with stopping.checked_by(state.guard.check):
            frozen = freeze(context, state, leased, planned)
            stored = store(context, state, leased, planned, frozen, writer)
            committed = commit(context, state, leased, planned, frozen, stored, writer)
        with stopping.checked_by(state.ending.check):
            finish(context, state, leased, planned, frozen, stored, committed)


@contextlib.contextmanager
def _letting_go(state: BackupState) -> Iterator[None]:
    """End the shells that hold disks when the block ends; nothing for those that were closed."""
    try:
        yield
    except BaseException:
        state.ending.begin()
        raise
    finally:
        with stopping.checked_by(state.ending.check):
            for disk in state.disks:
                disk.reader.abandon()


def _known(context: BackupContext, err: Exception) -> HvpsError:
    """The error for the result; an unexpected exception is logged."""
    known = as_error(err)
    if known is not err:
        level = logging.ERROR if isinstance(known, InternalError) else logging.DEBUG
        logger.log(level, "VM %s", context.vm_name, exc_info=err)
    return known


def _result(
    context: BackupContext, state: BackupState, started: datetime, error: HvpsError | None
) -> BackupResult:
    committed = state.committed
    return BackupResult(
        vm=context.vm,
        task="backup",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        conditions=tuple(state.conditions),
        warnings=tuple(state.warnings),
        plan=state.plan,
        findings=state.findings,
        point_id=None if committed is None else committed.point.point_id,
        consistency="" if state.consistency is None else state.consistency.value,
        disks=tuple(disk.figures() for disk in state.disks),
        stored_bytes=0 if committed is None else committed.stored_bytes,
        leftovers=state.leftovers,
    )
