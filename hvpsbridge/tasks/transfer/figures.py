"""Figures of the backup of one disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from hvpsbridge.formats.manifest import DiskStats
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.plan import DiskPlan
from hvpsbridge.tasks.transfer.host_side import HostSide
from hvpsbridge.tasks.transfer.repository_side import RepositorySide
from hvpsbridge.text import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFigures:
    """Figures of the backup of one disk. Sizes in bytes.

    Attributes:
        reason_text: the reason and its detail in one line, for people.
        changed_bytes: reported by change tracking; in a full, read; in a compare, found different.
        read_bytes: raw bytes read from the frozen disk.
        wire_bytes: bytes received for them, digests included.
        stored_bytes: added to the repository for this disk, as far as that is known per disk.
        new_chunks: chunks the repository did not have before.
        reread_chunks: chunks that were read again because their base or their data was wrong.
        resumed: how often a lost reader was replaced.
        proved_bytes: how much of the disk was proved equal to the frozen one before the commit.
        lied_chunks: changed chunks that tracking did not report; found by a proof, read and stored.
        rate_bytes: raw bytes read per second; 0 if it took no time.
    """

    slot: str
    size_bytes: int
    mode: Mode
    reason: Reason
    reason_text: str
    changed_bytes: int
    read_bytes: int
    wire_bytes: int
    stored_bytes: int
    new_chunks: int
    reread_chunks: int
    resumed: int
    proved_bytes: int
    lied_chunks: int
    seconds: float
    rate_bytes: float = field(init=False)

    def __post_init__(self) -> None:
        rate = self.read_bytes / self.seconds if self.seconds > 0 else 0.0
        object.__setattr__(self, "rate_bytes", round(rate, 1))


@dataclass(slots=True)
class DiskCounts:
    """What is counted while a disk is backed up, besides what its two sides count."""

    changed_bytes: int = 0
    reread_chunks: int = 0
    proved_bytes: int = 0
    lied_chunks: int = 0
    seconds: float = 0.0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time that the block takes."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started

    def stats(self, host: HostSide, stored: RepositorySide) -> DiskStats:
        """For the manifest."""
        return DiskStats(
            changed_bytes=self.changed_bytes,
            read_bytes=host.read_bytes,
            wire_bytes=host.wire_bytes,
            stored_bytes=stored.stored_bytes,
            new_chunks=stored.new_chunks,
            reread_chunks=self.reread_chunks,
            seconds=round(self.seconds, 3),
        )

    def figures(self, plan: DiskPlan, size_bytes: int, host: HostSide, stored: RepositorySide) -> DiskFigures:
        """For reports."""
        return DiskFigures(
            slot=plan.slot,
            size_bytes=size_bytes,
            mode=plan.mode,
            reason=plan.reason,
            reason_text=one_line(plan.why),
            changed_bytes=self.changed_bytes,
            read_bytes=host.read_bytes,
            wire_bytes=host.wire_bytes,
            stored_bytes=stored.stored_bytes,
            new_chunks=stored.new_chunks,
            reread_chunks=self.reread_chunks,
            resumed=host.resumed,
            proved_bytes=self.proved_bytes,
            lied_chunks=self.lied_chunks,
            seconds=round(self.seconds, 3),
        )
