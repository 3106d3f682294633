"""Which VM something is about, and how far the work on its disks is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

# Rates are averages over this time: over a shorter one they jump, over a longer one they lag.
RATE_WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class VmRef:
    """A VM, as observers and results name it."""

    host: str
    vm_id: UUID | None
    name: str

    @property
    def title(self) -> str:
        """The host and the VM, as lines of progress begin; what is done for no single VM has a title, too."""
        return f"{self.host}/{self.name}" if self != EVERY_VM else "repository"


# In place of a VM, for what is done once for all VMs or for the repository.
EVERY_VM = VmRef("", None, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an activity on one disk is.

    Attributes:
        slot: the disk, for example ``scsi 0:1``.
        activity: ``read``, ``compare`` or ``prove``; ``restore`` and ``verify`` in those tasks.
        owed_bytes: what the activity has to move in all.
        done_bytes: what it has moved so far.
        wire_bytes: received over the wire for it.
        rate_bytes: moved per second, over the last ten seconds.
        left_seconds: time left at that rate; None while the rate is 0.
    """

    slot: str
    activity: str
    owed_bytes: int
    done_bytes: int
    wire_bytes: int
    rate_bytes: float
    left_seconds: float | None


class Rate:
    """Bytes per second over the last ten seconds. Not thread-safe.

    Args:
        now: when counting begins.
    """

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def sample(self, now: float, done_bytes: int) -> float:
        """The rate, now that ``done_bytes`` are done in all."""
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return (done_bytes - before) / (now - since) if now > since else 0.0


def seconds_left(owed_bytes: int, done_bytes: int, rate_bytes: float) -> float | None:
    """Time left at that rate; None while the rate is 0."""
    return max(owed_bytes - done_bytes, 0) / rate_bytes if rate_bytes > 0 else None


class Meter:
    """Counts one activity on one disk and reports its progress, at most a few times a second. Thread-safe.

    Args:
        on_progress: takes the reports.
        slot: the disk.
        activity: as in :class:`Progress`.
        owed_bytes: what the activity has to move in all.
        clock: monotonic seconds.
    """

    REPORT_SECONDS = 0.25
    # How often to report while nothing moves.
    STALL_SECONDS = 1.0

    def __init__(
        self,
        on_progress: Callable[[Progress], None],
        slot: str,
        activity: str,
        owed_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_progress = on_progress
        self._slot = slot
        self._activity = activity
        self._owed_bytes = owed_bytes
        self._clock = clock
        self._done_bytes = 0
        self._wire_bytes = 0
        self._reported = float("-inf")
        self._rate = Rate(clock())
        self._lock = threading.Lock()

    def moved(self, done_bytes: int, wire_bytes: int) -> None:
        """Count bytes; report if the last report is old enough, or the activity is done."""
        with self._lock:
            self._done_bytes += done_bytes
            self._wire_bytes += wire_bytes
            now = self._clock()
            if now - self._reported < self.REPORT_SECONDS and self._done_bytes < self._owed_bytes:
                return
            progress = self._progress(now)
        self._on_progress(progress)

    def tick(self) -> None:
        """Report if nothing was reported for a second, so that a stalled read shows."""
        with self._lock:
            now = self._clock()
            if now - self._reported < self.STALL_SECONDS or self._done_bytes >= self._owed_bytes:
                return
            progress = self._progress(now)
        self._on_progress(progress)

    def _progress(self, now: float) -> Progress:
        self._reported = now
        rate_bytes = self._rate.sample(now, self._done_bytes)
        return Progress(
            slot=self._slot,
            activity=self._activity,
            owed_bytes=self._owed_bytes,
            done_bytes=self._done_bytes,
            wire_bytes=self._wire_bytes,
            rate_bytes=rate_bytes,
            left_seconds=seconds_left(self._owed_bytes, self._done_bytes, rate_bytes),
        )
