"""What cleaning up a VM's host needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.policy import BackupLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupContext:
    """Cleaning up after earlier runs, for one VM on one host.

    Attributes:
        host: the host; its own shell is left alone.
        repository: the one whose leftovers are cleaned up.
        vm_id: the VM.
        journal: where what is done is recorded.
        limits: how long to wait for jobs and merges.
        own_run: a run that goes on, whose entries stay open; None to clean up after every run.
        pause: waits for that many seconds; false, or an exception, ends the waiting.
        note: called with what was found and done, one line.
        warn: called with what may be left out of reach, and will go away by itself, one line.
        connect_to: opens a session on another host by name, where the VM may have been; None if that host
            is unknown.
        uncertain: whether a checkpoint may be in the making at this moment, unseen.
        claimed_ids: ids of unclear checkpoints and reference points that hvps created, as a user says, or as
            the run itself knows.
        foreign_ids: ids of checkpoints and reference points that, as a user says, hvps did not create.
        until: when cleaning up must have ended, on ``clock``; None for no deadline.
        clock: monotonic seconds.
    """

    host: HyperVHost
    repository: Repository
    vm_id: UUID
    journal: Journal
    limits: BackupLimits
    own_run: UUID | None
    pause: Callable[[float], bool]
    note: Callable[[str], None]
    warn: Callable[[str], None] = lambda text: None
    connect_to: Callable[[str], HyperVHost | None] = lambda name: None
    uncertain: bool = False
    claimed_ids: frozenset[str] = frozenset()
    foreign_ids: frozenset[str] = frozenset()
    until: float | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def authentic_entries(self) -> tuple[LedgerEntry, ...]:
        """Entries of the ledger that only hvps can have written; none in a plain repository."""
        return self.journal.ledger.current_entries() if self.repository.encrypted else ()

    @property
    def job_seconds(self) -> int:
        """How long to wait for a job that is started now."""
        if self.until is None:
            return self.limits.job_seconds
        return max(1, min(self.limits.job_seconds, int(self.until - self.clock())))
