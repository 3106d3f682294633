"""How far a run is in all: what its disks tell, summed up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from hvpsbridge.tasks.events import RATE_WINDOW_SECONDS, Progress, VmRef

TOTAL = "total"


class Totals:
    """Sums the progress of all disks that have told any. Thread-safe.

    A disk counts from when its first activity began: what is owed can grow, and never shrinks. A disk
    that is read, then proved, owes both. The rate is of all together over the last ten seconds, so a
    disk that ended takes nothing with it and one that stalls shows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[tuple[VmRef, str, str], Progress] = {}
        # Activities of a disk that were begun anew: what they came to counts, too.
        self._before: list[Progress] = []
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    @property
    def disks(self) -> int:
        """Disks that have told any progress."""
        with self._lock:
            return len({(vm, slot) for vm, slot, _ in self._latest})

    def take(self, vm: VmRef, progress: Progress) -> Progress:
        """Count what a disk tells; what all of them come to, under the slot ``total``."""
        with self._lock:
            key = (vm, progress.slot, progress.activity)
            before = self._latest.get(key)
            if before is not None and progress.done_bytes < before.done_bytes:
                self._before.append(before)
            self._latest[key] = progress
            told = [*self._before, *self._latest.values()]
            owed = sum(one.owed_bytes for one in told)
            done = sum(one.done_bytes for one in told)
            wire = sum(one.wire_bytes for one in told)
            now = self._clock()
            self._samples.append((now, done))
            while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_SECONDS:
                self._samples.popleft()
            since, earlier = self._samples[0]
            rate = (done - earlier) / (now - since) if now > since else 0.0
            left = max(owed - done, 0) / rate if rate > 0 else None
            return Progress(TOTAL, progress.activity, owed, done, wire, rate, left)
