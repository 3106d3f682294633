"""The backup of one VM: the steps of :mod:`hvpsbridge.tasks.steps` in order, and the undo when one fails.

How it holds together: everything that will exist on the host is in the ledger before it is made. Until
the manifest is durable, an error undoes everything; from then on the point is safe, and an error only
costs its usefulness as a base. The undo is the settling of our own run on a fresh connection, so a crash,
an error and a signal all end in the same code.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.errors import (
    CheckpointGone,
    CommitForkFailed,
    HostNotClean,
    HostUnreachable,
    HvpsError,
    InternalError,
    Interrupted,
    LeaseLost,
    OperationTimedOut,
    SessionLost,
    VmBusy,
    VmNotFound,
)
from hvpsbridge.repository.lease import Lease, current_holder
from hvpsbridge.tasks.backup.checkpoint import Freezing
from hvpsbridge.tasks.backup.finish import Leaving
from hvpsbridge.tasks.backup.prepare import Beginning
from hvpsbridge.tasks.backup.store import Storing
from hvpsbridge.tasks.cleanup.cleaner import left_unknown, read_lineage
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.results import BackupResult, DiskFigures
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.guard import Guard

logger = logging.getLogger(__name__)


class BackupVm(Beginning, Freezing, Storing, Leaving):
    """One backup of one VM. Used once; made as :class:`Work` is."""

    @property
    def left(self) -> tuple[str, ...]:
        """What this backup may have on the host at this moment, one line each; for a run that gives up."""
        if self._leftovers or not self._armed:
            return self._leftovers
        return (f"recovery checkpoint {self._mark!r}",)

    def run(self) -> BackupResult:
        """Make a recovery point; what came of it, errors included."""
        error = self._guarded(self._make)
        if isinstance(error, CheckpointGone) and not self._leftovers:
            error = self._start_over(error)
        if error is None and self._around.cancel.requested:
            error = self._around.cancel.error
        return self._result(error)

    def _start_over(self, error: CheckpointGone) -> HvpsError | None:
        """Make the backup anew, once, under a run id of its own: the first one's is settled for good."""
        self._note(f"starting over: {error}")
        self._warnings.append(f"started over: {error}")
        self._around = replace(self._around, run_id=uuid4())
        self._guard = Guard(self._vm.vm_id, self._vm.name, self._policy.limits, self._around.cancel)
        self._backups.clear()
        self._plan = self._consistency = None
        return self._guarded(self._make)

    def check(self) -> BackupResult:
        """Plan only: what a backup would do. Nothing is changed on the host or in the repository."""
        return replace(self._result(self._guarded(self._make_plan)), planned_only=True)

    def _result(self, error: HvpsError | None) -> BackupResult:
        return BackupResult(
            vm=self._ref,
            task="backup",
            started=self._started,
            seconds=(datetime.now(UTC) - self._started).total_seconds(),
            error=error,
            conditions=tuple(self._conditions),
            warnings=tuple(self._warnings),
            plan=self._plan,
            findings=self._findings,
            point_id=None if self._point is None else self._point.point_id,
            consistency="" if self._consistency is None else self._consistency.value,
            disks=self._figures(),
            stored_bytes=self._stored_bytes,
            leftovers=self._leftovers,
        )

    def _figures(self) -> tuple[DiskFigures, ...]:
        return tuple(backup.figures() for backup in self._backups)

    def _make_plan(self) -> None:
        """What ``--check`` does: steps 1 and 3 without lease, ledger or waiting, and the reader's C#."""
        info = self._host.host_info()
        vm, disks = self._look(wait=False)
        self._decide(vm, disks, info, read_lineage(self._repository, vm.vm_id))
        self._host.check_reader()

    def _make(self) -> None:
        with contextlib.ExitStack() as stack:
            with self._step(Step.RESOLVE):
                info = self._host.host_info()
                self._vm = self._host.vms(self._vm.vm_id)[0]
                self._refuse_unfit(self._vm, self._host.disks(self._vm.vm_id), None)
                lease = stack.enter_context(
                    self._repository.lease(self._vm.vm_id, current_holder(self._around.run_id))
                )
                ledger = self._repository.ledger(self._vm.vm_id)
                journal = Journal(ledger, self._around.run_id, self._vm.vm_id, self._host.name)
                self._journal = journal
                # From here on something of ours is on the host: this shell.
                journal.shell_opened(self._host.shell_id, info)
            error = self._guarded(lambda: self._make_leased(info, journal, lease))
            if error is not None and self._armed:
                error = self._undo(error)
            if error is not None:
                raise error

    def _make_leased(self, info: HostInfo, journal: Journal, lease: Lease) -> None:
        """Steps 2 to 10. When it is left, by whatever way, no reader of ours holds a disk."""
        with self._step(Step.SETTLE):
            self._settle(journal)
        with self._step(Step.PLAN):
            vm, disks = self._look(wait=True)
            lineage = read_lineage(self._repository, vm.vm_id)
            plan = self._decide(vm, disks, info, lineage)
            self._stop_at_unexpected(plan.disks)
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(self._repository.begin(self._around.run_id))
            stack.callback(self._drop_readers)
            checkpoint, frozen, children = self._freeze(plan, journal, lease)
            taken = datetime.now(UTC)
            with self._noticing_loss(checkpoint):
                with self._guard.watching(self._host), self._step(Step.READ):
                    self._read(plan, frozen, journal, writer)
                with self._step(Step.CONFIGURATION):
                    files = self._files(checkpoint, writer)
                    definition = self._host.definition(vm.vm_id).json
                with self._guard.watching(self._host), self._step(Step.PROVE):
                    self._prove(lineage.last_sequence)
            with self._step(Step.COMMIT):
                point = self._commit(checkpoint, taken, info, files, definition, writer, lease)
            self._convert(point, checkpoint, journal, lease)
            self._leave(journal, lineage, children, lease)

    def _undo(self, error: HvpsError) -> HvpsError | None:
        """Settle our own run on a fresh connection; what the backup's error is afterwards.

        With the point committed, an error of the host only costs its ids: it becomes a warning.
        """
        logger.info("VM %s: undoing after: %s", self._vm.name, error)
        if isinstance(error, (LeaseLost, CommitForkFailed)):
            # Whoever took the lease settles; acting now would be acting without one. And where a fork of
            # the chain failed, removing anything may lose the VM's data
            # (docs/hyperv-facts.md#commit-forks).
            self._leftovers = self.left
        else:
            self._leftovers = self._settle_own_run()
        self._armed = False
        if self._leftovers:
            self._conditions.append(HostNotClean(self._host.name, self._vm.name, self._leftovers))
        if self._point is None or isinstance(error, (Interrupted, LeaseLost, InternalError)):
            return error
        self._warnings.append(f"the point is safe, but after it: {error.describe()}")
        return None

    def _settle_own_run(self) -> tuple[str, ...]:
        journal = self._journal
        assert journal is not None
        until = self._clock() + self._policy.limits.undo_seconds
        while True:
            try:
                with self._around.connect() as host:
                    return self._settler(host, journal, undo_until=until).run()
            except (SessionLost, HostUnreachable, OperationTimedOut, VmNotFound, VmBusy) as err:
                # The VM may be between two hosts, or held by what it is just doing there.
                failure: HvpsError = err
            except HvpsError as err:
                return (*self.left, left_unknown(err))
            logger.warning("VM %s: undo: %s", self._vm.name, failure)
            if self._clock() > until or not self._around.cancel.pause_undo(self._policy.limits.poll_seconds):
                return (*self.left, left_unknown(failure))
