"""What the parts of a backup share: its state, its steps, and the settler of what it leaves.

One class for each part of the steps, each with what the others may use of it: :class:`Beginning` plans,
:class:`Freezing` makes the checkpoint, :class:`Storing` brings the data over, :class:`Leaving` leaves the
host clean. :class:`~hvpsbridge.tasks.backup.vm.BackupVm` is all of them, in their order.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.contract.results import CheckpointInfo, Consistency, VmInfo, VolumeInfo
from hvpsbridge.errors import CheckpointGone, HostError, HvpsError, InternalError, StoppedByPolicy
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.cleaner import Cleaner
from hvpsbridge.tasks.events import Observer, VmRef
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.eligibility import Finding
from hvpsbridge.tasks.planning.plan import DiskPlan, VmPlan
from hvpsbridge.tasks.policy import BackupPolicy, OnUnexpectedFull
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_backup import DiskBackup
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.guard import Guard
from hvpsbridge.tasks.transfer.limits import SharedLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackupContext:
    """What the backups of a run share.

    Attributes:
        connect: a fresh session on the host that has the VM now, for the undo.
        connect_to: a session on a host by name, to end shells where the VM has been; None when the run
            does not know that host.
        budget: the process's byte budget.
        sharing: permits, the rate and what is known of hosts.
    """

    repository: Repository
    connect: Callable[[], HyperVHost]
    run_id: UUID
    observer: Observer
    cancel: Cancellation
    budget: ByteBudget
    connect_to: Callable[[str], HyperVHost | None] = lambda name: None
    sharing: SharedLimits = field(default_factory=SharedLimits)


class Work:
    """One backup of one VM, as far as all of its parts need it.

    Args:
        host: a session on the VM's host, used by nobody else meanwhile.
        vm: the VM as the inventory listed it.
        policy: the task's options.
        around: what is shared.
    """

    def __init__(self, host: HyperVHost, vm: VmInfo, policy: BackupPolicy, around: BackupContext) -> None:
        self._host = host
        self._vm = vm
        self._policy = policy
        self._around = around
        self._repository = around.repository
        self._ref = VmRef(host.name, vm.vm_id, vm.name)
        self._started = datetime.now(UTC)
        self._clock = time.monotonic
        self._guard = Guard(vm.vm_id, vm.name, policy.limits, around.cancel)
        self._journal: Journal | None = None
        self._readers: list[DiskReader] = []
        self._backups: list[DiskBackup] = []
        self._findings: tuple[Finding, ...] = ()
        self._plan: VmPlan | None = None
        self._volumes: tuple[VolumeInfo, ...] = ()
        self._ignore_disks = False
        self._point: Point | None = None
        self._consistency: Consistency | None = None
        self._stored_bytes = 0
        self._armed = False
        self._mark = ""
        self._uncertain = False
        self._warnings: list[str] = []
        self._conditions: list[HvpsError] = []
        self._leftovers: tuple[str, ...] = ()

    def _guarded(self, work: Callable[[], None]) -> HvpsError | None:
        try:
            work()
        except HvpsError as err:
            return err
        except Exception as err:
            logger.exception("VM %s", self._vm.name)
            internal = InternalError(f"{type(err).__name__}: {err}")
            internal.__cause__ = err
            return internal
        return None

    @contextlib.contextmanager
    def _noticing_loss(self, checkpoint: CheckpointInfo) -> Iterator[None]:
        """Tell an error of the host whose cause is that our checkpoint is not there any more.

        Raises:
            CheckpointGone: that is so.
        """
        try:
            yield
        except HostError as err:
            gone = False
            with contextlib.suppress(HostError):
                there = {one.checkpoint_id for one in self._host.checkpoints(self._vm.vm_id)}
                gone = checkpoint.checkpoint_id not in there
            if gone:
                raise CheckpointGone(self._host.name, self._vm.name) from err
            raise

    @contextlib.contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        """One step: asked before it whether to go on, told before and after.

        Once the point exists, a request to stop waits: what remains is the cleaning of the host.
        """
        if self._point is None:
            self._guard.check()
        elif self._around.cancel.gave_up:
            raise self._around.cancel.error
        logger.debug("VM %s: %s", self._vm.name, step.label)
        self._around.observer.step(self._ref, step, "before")
        yield
        self._around.observer.step(self._ref, step, "after")

    def _settler(self, host: HyperVHost, journal: Journal, *, undo_until: float | None = None) -> Cleaner:
        """A settler of earlier runs; with ``undo_until`` of this one, too, waiting no longer than that."""
        undoing = undo_until is not None

        def pause(seconds: float) -> bool:
            if undo_until is None:
                return self._around.cancel.pause(seconds)
            return self._clock() < undo_until and self._around.cancel.pause_undo(seconds)

        return Cleaner(
            host,
            self._repository,
            self._vm.vm_id,
            journal,
            self._policy.limits,
            own_run=None if undoing else self._around.run_id,
            pause=pause,
            uncertain=undoing and self._uncertain,
            note=self._note,
            warn=self._warn,
            connect_to=self._around.connect_to,
        )

    def _stop_at_unexpected(self, disks: tuple[DiskPlan, ...]) -> None:
        if self._policy.on_unexpected_full is not OnUnexpectedFull.STOP:
            return
        for disk in disks:
            if not disk.reason.expected:
                raise StoppedByPolicy(self._vm.name, f"disk {disk.slot}: {disk.why}")

    def _drop_readers(self) -> None:
        while self._readers:
            self._readers.pop().abandon()

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    def _note(self, text: str) -> None:
        logger.info("VM %s: %s", self._vm.name, text)
        self._around.observer.noted(self._ref, text)
