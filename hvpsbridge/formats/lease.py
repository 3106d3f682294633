"""Lease records: who is working on a VM (or runs a writer) right now.

A lease is a series of objects ``<prefix>/<counter>``; the one with the highest counter is valid. Taking,
renewing and releasing each create the next counter, which only one process can do. Lower ones are then
deleted, the highest never. So the counter never decreases, and a holder that was suspended finds a higher
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """A process, distinguishable from every other one that had the same pid.

    Attributes:
        boot_id: of the kernel; None when it cannot be read, and then the process cannot be proved dead.
        pid_namespace: of the process; a pid means nothing in another namespace (a container).
        process_started: clock ticks after boot; distinguishes processes with the same pid.
    """

    run_id: UUID
    machine: str
    user: str
    process_id: int
    boot_id: str | None
    pid_namespace: str | None
    process_started: int | None

    def describe(self) -> str:
        """As shown to people: ``root@backup1 process 4711 (run 0f3c...)``."""
        return f"{self.user}@{self.machine} process {self.process_id} (run {self.run_id})"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Content of a lease object.

    Attributes:
        at: time of the holder's clock, only shown to people.
        format: of the repository when the holder opened it. A writer that opened it before an upgrade does
            not read doomed lists.
    """

    counter: int
    holder: LeaseHolder
    at: datetime
    released: bool = False
    format: int = 1
