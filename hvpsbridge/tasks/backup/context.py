"""What does not change while a VM is backed up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.policy import BackupOptions
from hvpsbridge.tasks.transfer.limits import SharedLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupContext:
    """The backup of one VM: what to back up, where to, and how.

    Attributes:
        host: a session on the VM's host, used only by this backup.
        vm_id: the VM.
        vm_name: its name in the inventory.
        options: the task's.
        repository: where the recovery point is stored.
        run_id: shows in the mark of the checkpoint and in the ledger.
        observer: called at every step.
        cancel: asks the backup to stop.
        budget: the process's byte budget.
        shared: what all reads of the run share.
        connect: opens a session on the host that has the VM now; the undo uses a fresh one.
        connect_to: opens a session on a host by name, to end shells where the VM has been; None when the
            run does not know that host.
        is_without: whether the host of that name was asked in this run and did not list the VM.
        named: whether the user named the VM, rather than a pattern that matches it.
        on_left: called with what the backup may have on the host, one line each, whenever that changes.
        clock: monotonic seconds.
    """

    host: HyperVHost
    vm_id: UUID
    vm_name: str
    options: BackupOptions
    repository: Repository
    run_id: UUID
    observer: Observer
    cancel: Cancellation
    budget: ByteBudget
    connect: Callable[[], HyperVHost]
    connect_to: Callable[[str], HyperVHost | None] = lambda name: None
    is_without: Callable[[str], bool] = lambda name: False
    shared: SharedLimits = field(default_factory=SharedLimits)
    named: bool = True
    on_left: Callable[[tuple[str, ...]], None] = lambda left: None
    clock: Callable[[], float] = time.monotonic

    @property
    def vm(self) -> VmRef:
        """The VM, as observers and results name it."""
        return VmRef(self.host.name, self.vm_id, self.vm_name)

    def note(self, text: str) -> None:
        """Tell the observer and the log something people may want to read."""
        logger.info("VM %s: %s", self.vm_name, text)
        self.observer.noted(self.vm, text)
