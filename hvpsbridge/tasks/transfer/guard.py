"""Stops a backup: on request, when a volume of the VM fills up, or when its checkpoint gets too old."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from hvpsbridge.errors import HostNoSpace, Interrupted, StoppedByPolicy
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.planning.space import space_shortage
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.transfer.parallel import Halted
from hvpsbridge.units import duration_text

logger = logging.getLogger(__name__)


class Guard:
    """Checks whether a backup may go on. Thread-safe.

    A thread of its own asks the host for free space, because a thread that reads must not wait for that.
    """

    def __init__(
        self,
        vm_id: UUID,
        vm_name: str,
        limits: BackupLimits,
        cancel: Cancellation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vm_id = vm_id
        self._vm_name = vm_name
        self._limits = limits
        self._cancel = cancel
        self._clock = clock
        self._checkpoint_made: float | None = None
        self._shortage: str | None = None
        self._halted = False

    def checkpoint_made(self) -> None:
        """The checkpoint's age counts from now."""
        self._checkpoint_made = self._clock()

    @property
    def seconds_left(self) -> float:
        """How long the checkpoint may still exist before the backup stops."""
        age = 0.0 if self._checkpoint_made is None else self._clock() - self._checkpoint_made
        return self._limits.checkpoint_age - age

    def halt(self) -> None:
        """One disk failed: the others stop at their next check."""
        self._halted = True

    def check(self) -> None:
        """Return if the backup may go on.

        Raises:
            Halted: another disk of the VM failed.
            Interrupted: a stop was requested.
            HostNoSpace: a volume of the VM is too full.
            StoppedByPolicy: the checkpoint is too old.
        """
        self._cancel.check()
        if self._halted:
            raise Halted
        if self._shortage is not None:
            raise HostNoSpace(self._vm_name, self._shortage)
        age = 0.0 if self._checkpoint_made is None else self._clock() - self._checkpoint_made
        if age > self._limits.checkpoint_age:
            raise StoppedByPolicy(
                self._vm_name,
                f"its checkpoint is {duration_text(age)} old, "
                f"{duration_text(self._limits.checkpoint_age)} are allowed",
            )

    def pause(self, seconds: float) -> None:
        """Wait, unless the backup must stop; raises as :meth:`check` does."""
        self._cancel.pause(seconds)
        self.check()

    @contextlib.contextmanager
    def watching(self, host: HyperVHost) -> Iterator[None]:
        """Watch the free space of the VM's volumes while the block runs; nothing else may use ``host``."""
        ended = threading.Event()
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._watch, host, ended),
            name="space-watch",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, host: HyperVHost, ended: threading.Event) -> None:
        while not ended.wait(self._limits.watch_seconds):
            try:
                volumes = host.volumes(self._vm_id)
                self._shortage = space_shortage(volumes, self._limits.free_space_floor)
            except Exception as err:  # noqa: BLE001 - the watch goes on whatever a host answers
                if isinstance(err, (Halted, Interrupted)):
                    return
                # A lost host is the readers' to notice; here it only means that free space is unknown.
                logger.warning("cannot read the free space of VM %s: %s", self._vm_name, err)
                continue
            if self._shortage is not None:
                return


class ReadWatcher:
    """The :class:`~hvpsbridge.receiver.protocols.Watcher` of a pump: asks a guard and feeds a meter."""

    def __init__(self, guard: Guard, meter: Meter) -> None:
        self._guard = guard
        self._meter = meter

    def check(self) -> None:
        """Raise if the backup must stop; report a stalled read."""
        self._guard.check()
        self._meter.tick()

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """Count a block."""
        self._meter.moved(raw_bytes, wire_bytes)
