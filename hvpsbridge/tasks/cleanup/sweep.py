"""Sweeps a host: cleans up what :mod:`.leftovers` found, VM by VM, under the VM's lease.

A sweep is the clean-up at the start of every backup, without the backup. In addition, a user can decide
which unclear objects hvps created. Forgetting a VM also destroys the reference points that increments start
from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import ExitCode, HostNotClean, HvpsError, NotEligible, worst
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.cleaner import clean_up, close_run
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.leftovers import HostObject, Owner, VmObjects
from hvpsbridge.tasks.cleanup.ownership import runs_that_may_have_made
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.policy import BackupLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepContext:
    """What the sweeps of a host share.

    Attributes:
        host: the host.
        repository: the one whose leftovers are removed.
        run_id: of this command, for leases and the ledger.
        limits: how long to wait for jobs and merges.
        cancel: asks the sweep to stop.
        ours: ids of unclear objects that, as a user says, hvps created.
        foreign: ids of those that it did not.
    """

    host: HyperVHost
    repository: Repository
    run_id: UUID
    limits: BackupLimits
    cancel: Cancellation
    ours: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What was done for one VM.

    Attributes:
        found: what was on the host before.
        done: what was done, one line each.
        left: what is left and why, one line each.
        error: what ended the sweep; None if nothing did.
    """

    found: VmObjects
    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    error: HvpsError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code for this VM."""
        codes = [] if self.error is None else [self.error.code]
        if self.left:
            codes.append(ExitCode.HOST_NOT_CLEAN)
        return worst(codes)


def sweep_vm(context: SweepContext, found: VmObjects) -> SweepResult:
    """Remove what runs that ended early left. A VM that a run is working on is left alone."""
    return _sweep(context, found, forget=False)


def forget_vm(context: SweepContext, found: VmObjects) -> SweepResult:
    """Sweep, and destroy all reference points that hvps created: the next backup compares."""
    return _sweep(context, found, forget=True)


def _sweep(context: SweepContext, found: VmObjects, *, forget: bool) -> SweepResult:
    vm = found.vm
    done: list[str] = []
    try:
        context.cancel.check()
        if context.host.vm(vm.vm_id, read_events=True).commit_fork_events:
            # Removing anything there may lose the VM's data (docs/hyperv-facts.md#commit-forks).
            raise NotEligible(vm.name, "event 3216 is in its Hyper-V Worker log; see docs/troubleshooting.md")
        with context.repository.lease(vm.vm_id, current_holder(context.run_id)):
            journal = Journal(
                context.repository.ledger(vm.vm_id), context.run_id, vm.vm_id, context.host.name
            )
            for one in found.objects:
                _prepare(context, one, journal, done)
            cleanup = _cleanup(context, vm.vm_id, journal, done)
            references = ReferencePoints(cleanup)
            left = clean_up(cleanup, references)
            if forget:
                left = (*left, *references.forget())
            left = (*left, *_undecided(context, found, left))
            if not left:
                close_run(cleanup, references, note="swept")
    except HvpsError as err:
        return SweepResult(found, tuple(done), (), err)
    error = HostNotClean(context.host.name, vm.name, left) if left else None
    return SweepResult(found, tuple(done), left, error)


def _prepare(context: SweepContext, found: HostObject, journal: Journal, done: list[str]) -> None:
    """End a shell, or record the owner of an object that a user claimed."""
    if found.kind == "shell":
        if context.host.end_shell(found.thing_id):
            done.append(f"ended shell {found.thing_id}")
    elif found.whose is Owner.UNCLEAR and found.thing_id in context.ours:
        if found.kind == "checkpoint":
            _claim(context, UUID(found.thing_id), journal)
        else:
            journal.reference_point_claimed(found.thing_id)
        done.append(f"recorded that hvps created {found.kind} {found.thing_id}")


def _claim(context: SweepContext, checkpoint_id: UUID, journal: Journal) -> None:
    """Record the checkpoint as that of every run that may have created it.

    If not, their intents would stay open and make another product's checkpoint unclear.
    """
    open_entries = journal.ledger.open_entries()
    for checkpoint in context.host.checkpoints(journal.vm_id):
        if checkpoint.checkpoint_id == checkpoint_id:
            for run_id in runs_that_may_have_made(checkpoint, open_entries):
                journal.checkpoint_claimed(checkpoint_id, run_id)


def _undecided(context: SweepContext, found: VmObjects, left: Sequence[str]) -> tuple[str, ...]:
    """Unclear objects that no user has decided about and that ``left`` does not name."""
    decided = context.ours | context.foreign
    return tuple(
        f"cannot tell whether {one.kind} {one.name} ({one.thing_id}) was created by hvps"
        for one in found.of(Owner.UNCLEAR)
        if one.thing_id not in decided and not any(one.thing_id in line for line in left)
    )


def _cleanup(context: SweepContext, vm_id: UUID, journal: Journal, done: list[str]) -> CleanupContext:
    def note(text: str) -> None:
        logger.info("%s", text)
        done.append(text)

    return CleanupContext(
        host=context.host,
        repository=context.repository,
        vm_id=vm_id,
        journal=journal,
        limits=context.limits,
        own_run=context.run_id,
        pause=context.cancel.pause,
        note=note,
        claimed_ids=context.ours,
        foreign_ids=context.foreign,
    )
