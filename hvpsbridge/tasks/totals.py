"""Progress of a whole run: the sum over its disks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hvpsbridge.tasks.events import Progress, Rate, VmRef, seconds_left

TOTAL = "total"


class Totals:
    """Sums the progress of all disks that have reported any. Thread-safe.

    A disk counts from the start of its first activity. What is owed can grow, but never shrinks: a disk that
    is read and then proved owes both. The rate is that of all disks over the last ten seconds, so a disk
    that has ended does not lower it, and one that stalls shows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[tuple[VmRef, str, str], Progress] = {}
        # Activities that were started again: what they moved before counts, too.
        self._before: list[Progress] = []
        self._rate = Rate(clock())

    @property
    def disks(self) -> int:
        """How many disks have reported progress."""
        with self._lock:
            return len({(vm, slot) for vm, slot, _ in self._latest})

    def add(self, vm: VmRef, progress: Progress) -> Progress:
        """Add what a disk reports; the progress of all disks, under the slot ``total``."""
        with self._lock:
            key = (vm, progress.slot, progress.activity)
            before = self._latest.get(key)
            if before is not None and progress.done_bytes < before.done_bytes:
                self._before.append(before)
            self._latest[key] = progress
            reported = [*self._before, *self._latest.values()]
            owed_bytes = sum(one.owed_bytes for one in reported)
            done_bytes = sum(one.done_bytes for one in reported)
            rate_bytes = self._rate.sample(self._clock(), done_bytes)
            return Progress(
                slot=TOTAL,
                activity=progress.activity,
                owed_bytes=owed_bytes,
                done_bytes=done_bytes,
                wire_bytes=sum(one.wire_bytes for one in reported),
                rate_bytes=rate_bytes,
                left_seconds=seconds_left(owed_bytes, done_bytes, rate_bytes),
            )
