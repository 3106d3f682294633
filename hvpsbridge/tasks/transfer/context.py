"""What the disks of one backup share while they are read and stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hvpsbridge.receiver.throttling import ByteBudget, ReadPermit
from hvpsbridge.repository import Repository
from hvpsbridge.repository.writer import Writer
from hvpsbridge.tasks.events import Progress
from hvpsbridge.tasks.policy import BackupOptions
from hvpsbridge.tasks.transfer.guard import Guard
from hvpsbridge.tasks.transfer.limits import SharedLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferContext:
    """What the disks of one backup share.

    Attributes:
        repository: where the bases are.
        writer: stores chunks for the new recovery point.
        budget: the process's byte budget.
        guard: stops the backup.
        options: the task's.
        vm_name: for messages.
        host_name: for messages and tuning.
        on_progress: called with the progress of each disk.
        shared: what all reads of the run share.
        hash_bytes: bytes per second that the host hashes; 0 if unknown.
        permit: makes a permit to read the frozen disk at a path.
    """

    repository: Repository
    writer: Writer
    budget: ByteBudget
    guard: Guard
    options: BackupOptions
    vm_name: str
    host_name: str
    on_progress: Callable[[Progress], None]
    shared: SharedLimits
    permit: Callable[[str], ReadPermit]
    hash_bytes: float = 0.0
