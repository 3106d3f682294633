"""What a backup has come to so far: what its result reports and its undo needs, wherever it stops.

Everything else goes from one step to the next as a value, so that a step cannot run before the one whose
value it takes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from hvpsbridge.contract.results import CheckpointInfo, Consistency
from hvpsbridge.errors import HvpsError
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.ending import Ending
from hvpsbridge.tasks.planning.eligibility import Finding
from hvpsbridge.tasks.planning.plan import VmPlan
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_backup import DiskBackup
from hvpsbridge.tasks.transfer.guard import Guard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """The recovery point, and what was added to the repository for it."""

    point: Point
    stored_bytes: int


class BackupState:
    """The state of one attempt; belongs to the backup's own thread.

    Args:
        context: of the attempt.
        warnings: of the attempt before, which its result reports as well.

    Attributes:
        guard: stops the attempt.
        ending: deadline of cleaning up after the attempt.
        findings: what matters to the backup about the VM and its disks.
        forks: number of events 3216 of the VM, and time of the last one; None before they were looked for.
        plan: None before it is made.
        consistency: of the checkpoint; None before it is made.
        disks: those that are or were read.
        committed: None until the recovery point exists.
        warnings: one line each, for people.
        conditions: errors that do not end the backup.
        host_failures: errors of the host that became warnings.
        leftovers: what is left on the host, one line each.
        mark: of a checkpoint that may be on the host; empty when there is none.
        unmarked_ids: id of the checkpoint if the host did not let it be named; else empty.
        uncertain: whether that checkpoint may be in the making, unseen, at this moment.
    """

    def __init__(self, context: BackupContext, warnings: Iterable[str] = ()) -> None:
        self.guard = Guard(context.vm_id, context.vm_name, context.options.limits, context.cancel)
        self.ending = Ending(context)
        self.findings: tuple[Finding, ...] = ()
        self.forks: tuple[int | None, datetime | None] | None = None
        self.plan: VmPlan | None = None
        self.consistency: Consistency | None = None
        self.disks: list[DiskBackup] = []
        self.committed: Committed | None = None
        self.warnings = list(warnings)
        self.conditions: list[HvpsError] = []
        self.host_failures: list[HvpsError] = []
        self.leftovers: tuple[str, ...] = ()
        self.mark = ""
        self.unmarked_ids: frozenset[str] = frozenset()
        self.uncertain = False
        self._on_left = context.on_left

    @property
    def left(self) -> tuple[str, ...]:
        """What may be on the host at this moment, one line each."""
        if self.leftovers or not self.mark:
            return self.leftovers
        return (f"recovery checkpoint {self.mark!r}",)

    def expect_checkpoint(self, mark: str) -> None:
        """A checkpoint of that mark may exist from now on."""
        self.mark = mark
        self._on_left(self.left)

    def found_unmarked(self, checkpoint: CheckpointInfo) -> None:
        """The checkpoint exists and does not have its mark."""
        self.unmarked_ids = frozenset({str(checkpoint.checkpoint_id)})
        self.expect_checkpoint(f"{checkpoint.name} ({checkpoint.checkpoint_id})")

    def cleaned_up(self, leftovers: tuple[str, ...]) -> None:
        """The host was cleaned up, of the checkpoint too; these are left."""
        self.mark = ""
        self.leftovers = leftovers
        self._on_left(self.left)

    def warn(self, text: str) -> None:
        """Add a warning to the result, once."""
        if text not in self.warnings:
            self.warnings.append(text)


@contextlib.contextmanager
def step(context: BackupContext, state: BackupState, now: Step) -> Iterator[None]:
    """One step: begins only if the backup may go on; the observer is called before and after.

    Once the recovery point exists, a request to stop waits: what remains is cleaning up the host.

    Raises:
        HvpsError: the backup must stop, see :meth:`Guard.check`.
    """
    if state.committed is None:
        state.guard.check()
    elif context.cancel.gave_up:
        raise context.cancel.error
    logger.debug("VM %s: %s", context.vm_name, now.label)
    context.observer.step(context.vm, now, "before")
    yield
    context.observer.step(context.vm, now, "after")
