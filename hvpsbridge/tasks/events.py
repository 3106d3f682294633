"""What an onlooker is told while tasks run. Observers return quickly and never raise."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from hvpsbridge.tasks.steps import Step

if TYPE_CHECKING:
    from hvpsbridge.tasks.planning.plan import VmPlan
    from hvpsbridge.tasks.results import TaskResult

logger = logging.getLogger(__name__)

# Over how long a rate is taken; shorter jumps, longer lags.
RATE_WINDOW_SECONDS = 10.0

Moment = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class VmRef:
    """The VM an event is about."""

    host: str
    vm_id: UUID | None
    name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading of one disk is.

    Attributes:
        slot: the disk, for example ``scsi 0:1``.
        activity: ``read``, ``compare`` or ``prove``; ``restore`` and ``verify`` for those tasks.
        owed_bytes: what this activity has to move in all.
        done_bytes: what of it is done.
        wire_bytes: received on the wire for it.
        rate_bytes: done per second over the last ten seconds.
        left_seconds: at that rate; None while there is no rate.
    """

    slot: str
    activity: str
    owed_bytes: int
    done_bytes: int
    wire_bytes: int
    rate_bytes: float
    left_seconds: float | None


class Observer(Protocol):
    """An onlooker. Called from several threads at once."""

    def started(self, vm: VmRef, task: str) -> None:
        """A task of a VM begins."""
        ...

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        """A backup is before or after one of its steps."""
        ...

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        """The plan is made: mode and reason of each disk."""
        ...

    def progress(self, vm: VmRef, progress: Progress) -> None:
        """Bytes moved; a few times a second for each disk."""
        ...

    def noted(self, vm: VmRef, text: str) -> None:
        """Something people may want to read: waiting, falling back, leftovers removed."""
        ...

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        """A task of a VM ended."""
        ...


class Silent:
    """An observer that looks away; base of those that look at little."""

    def started(self, vm: VmRef, task: str) -> None:
        """See :class:`Observer`."""

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        """See :class:`Observer`."""

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        """See :class:`Observer`."""

    def progress(self, vm: VmRef, progress: Progress) -> None:
        """See :class:`Observer`."""

    def noted(self, vm: VmRef, text: str) -> None:
        """See :class:`Observer`."""

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        """See :class:`Observer`."""


class Meter:
    """Counts one activity on one disk and tells the observer, at most a few times a second."""

    TELL_SECONDS = 0.25
    # How often it tells that nothing moves.
    STALL_SECONDS = 1.0

    def __init__(
        self,
        tell: Callable[[Progress], None],
        slot: str,
        activity: str,
        owed_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._slot = slot
        self._activity = activity
        self._owed_bytes = owed_bytes
        self._clock = clock
        self._done_bytes = 0
        self._wire_bytes = 0
        self._told = float("-inf")
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._lock = threading.Lock()

    def moved(self, done_bytes: int, wire_bytes: int) -> None:
        """Count bytes and tell when it is time."""
        with self._lock:
            self._done_bytes += done_bytes
            self._wire_bytes += wire_bytes
            now = self._clock()
            if now - self._told < self.TELL_SECONDS and self._done_bytes < self._owed_bytes:
                return
            self._told = now
            progress = self._progress(now)
        self._tell(progress)

    def tick(self) -> None:
        """Tell how it stands when nothing was told for a while, so that a stalled read shows."""
        with self._lock:
            now = self._clock()
            if now - self._told < self.STALL_SECONDS or self._done_bytes >= self._owed_bytes:
                return
            self._told = now
            progress = self._progress(now)
        self._tell(progress)

    def _progress(self, now: float) -> Progress:
        self._samples.append((now, self._done_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (self._done_bytes - before) / (now - since) if now > since else 0.0
        left = max(self._owed_bytes - self._done_bytes, 0) / rate if rate > 0 else None
        return Progress(
            self._slot, self._activity, self._owed_bytes, self._done_bytes, self._wire_bytes, rate, left
        )
