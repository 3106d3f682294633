"""Sweeping a host: what :mod:`.leftovers` has found is settled, VM by VM, under the VM's lease.

A sweep is the settling that begins every backup, without the backup, and with two things only a person
can do: say of what cannot be told whether it is ours. Forgetting goes further and destroys the reference
points that increments start from, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import ExitCode, HostNotClean, HvpsError, NotEligible, worst
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.lease import current_holder
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.cleaner import Cleaner
from hvpsbridge.tasks.cleanup.leftovers import HostObject, Owner, VmObjects
from hvpsbridge.tasks.cleanup.ownership import runs_that_may_have_made
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.policy import Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What came of one VM.

    Attributes:
        there: what was found before.
        done: what was done, one line each.
        left: what of ours is still there and why, one line each.
        error: what ended it, else None.
    """

    there: VmObjects
    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    error: HvpsError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The one code that stands for this VM."""
        codes = [] if self.error is None else [self.error.code]
        if self.left:
            codes.append(ExitCode.HOST_NOT_CLEAN)
        return worst(codes)


class Sweeper:
    """Sweeps VMs of one host.

    Args:
        host: the host.
        repository: whose things.
        run_id: of this command, for leases and the ledger.
        limits: how long jobs and merges are waited for.
        cancel: asks it to stop.
        ours: ids of unclear things that somebody who knows says are ours.
        strangers: ids of those that are not.
    """

    def __init__(
        self,
        host: HyperVHost,
        repository: Repository,
        run_id: UUID,
        limits: Limits,
        cancel: Cancellation,
        *,
        ours: frozenset[str] = frozenset(),
        strangers: frozenset[str] = frozenset(),
    ) -> None:
        self._host = host
        self._repository = repository
        self._run_id = run_id
        self._limits = limits
        self._cancel = cancel
        self._ours = ours
        self._strangers = strangers

    def sweep(self, there: VmObjects) -> SweepResult:
        """Remove what runs that ended early left. A VM at which a run is at work is left alone."""
        return self._work(there, lambda settler: settler.run())

    def forget(self, there: VmObjects) -> SweepResult:
        """Sweep, and destroy every reference point of ours: the next backup compares."""
        return self._work(there, lambda settler: (*settler.run(), *settler.forget()))

    def _work(self, there: VmObjects, act: Callable[[Cleaner], Sequence[str]]) -> SweepResult:
        vm = there.vm
        done: list[str] = []
        try:
            if vm.commit_fork_events:
                # Removing anything there may lose the VM's data (docs/hyperv-facts.md#commit-forks).
                raise NotEligible(vm.name, "event 3216 stands in its log; see docs/troubleshooting.md")
            with self._repository.lease(vm.vm_id, current_holder(self._run_id)):
                journal = Journal(self._repository.ledger(vm.vm_id), self._run_id, vm.vm_id, self._host.name)
                for thing in there.things:
                    self._prepare(thing, journal, done)
                cleaner = self._settler(vm.vm_id, journal, done)
                left = tuple(act(cleaner))
                left = (*left, *self._undecided(there, left))
                if not left:
                    cleaner.settle(note="swept")
        except HvpsError as err:
            return SweepResult(there, tuple(done), (), err)
        error = HostNotClean(self._host.name, vm.name, left) if left else None
        return SweepResult(there, tuple(done), left, error)

    def _prepare(self, thing: HostObject, journal: Journal, done: list[str]) -> None:
        """End shells, and write down whose the things are that somebody has claimed."""
        if thing.kind == "shell":
            if self._host.end_shell(thing.thing_id):
                done.append(f"ended shell {thing.thing_id}")
        elif thing.whose is Owner.UNCLEAR and thing.thing_id in self._ours:
            if thing.kind == "checkpoint":
                self._claim(UUID(thing.thing_id), journal)
            else:
                journal.reference_point_claimed(thing.thing_id)
            done.append(f"took {thing.kind} {thing.thing_id} for ours")

    def _claim(self, checkpoint_id: UUID, journal: Journal) -> None:
        """Let the checkpoint be what every run intended that may have made it.

        Else the intents would go on looking, and take the only one that is left for theirs.
        """
        open_entries = journal.ledger.open_entries()
        for checkpoint in self._host.checkpoints(journal.vm_id):
            if checkpoint.checkpoint_id == checkpoint_id:
                for run_id in runs_that_may_have_made(checkpoint, open_entries):
                    journal.checkpoint_claimed(checkpoint_id, run_id)

    def _undecided(self, there: VmObjects, left: Sequence[str]) -> tuple[str, ...]:
        """Unclear things that nobody has decided about and the settling has not named."""
        decided = self._ours | self._strangers
        return tuple(
            f"{thing.kind} {thing.name} ({thing.thing_id}) may be ours or not"
            for thing in there.of(Owner.UNCLEAR)
            if thing.thing_id not in decided and not any(thing.thing_id in line for line in left)
        )

    def _settler(self, vm_id: UUID, journal: Journal, done: list[str]) -> Cleaner:
        def note(text: str) -> None:
            logger.info("%s", text)
            done.append(text)

        return Cleaner(
            self._host,
            self._repository,
            vm_id,
            journal,
            self._limits,
            own_run=self._run_id,
            pause=self._cancel.pause,
            note=note,
            strangers=self._strangers,
        )
