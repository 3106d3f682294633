"""Lease records: who works on a VM (or runs a writer) right now.

A lease is a series of objects ``<prefix>/<counter>``; the highest counter rules. Taking, renewing and
releasing each create the next counter, which only one process can do; lower ones are then deleted, the
highest never. So the counter never goes back, and a holder that slept finds a higher one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """A process, told apart from every other one that ever held its pid.

    Attributes:
        boot_id: of the kernel; None when it could not be read, and then nothing is provable.
        pid_namespace: containers have their own; a pid means nothing outside its namespace.
        process_started: clock ticks after boot, so that a recycled pid is another process.
    """

    run_id: UUID
    machine: str
    user: str
    process_id: int
    boot_id: str | None
    pid_namespace: str | None
    process_started: int | None

    def describe(self) -> str:
        """For people: ``root@backup1 process 4711 (run 0f3c...)``."""
        return f"{self.user}@{self.machine} process {self.process_id} (run {self.run_id})"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Content of one lease object. ``at`` is the holder's clock: for people, never decided on."""

    counter: int
    holder: LeaseHolder
    at: datetime
    released: bool = False
