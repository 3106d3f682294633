"""Guards of a read: room on the VM's volumes and the age of its checkpoint, looked at all the while."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from hvpsbridge.contract.results import VolumeInfo
from hvpsbridge.errors import HostNoSpace, HvpsError, StoppedByPolicy
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.policy import Limits
from hvpsbridge.tasks.transfer.parallel import Halted
from hvpsbridge.units import duration_text, size_text

logger = logging.getLogger(__name__)


def short_of_space(
    vm: str, volumes: tuple[VolumeInfo, ...], floor_bytes: int, needed: dict[str, int] | None = None
) -> HostNoSpace | None:
    """The error for the first volume that has, or after growing by ``needed`` would have, too little room."""
    for volume in volumes:
        growth = (needed or {}).get(volume.root, 0)
        if volume.free_bytes - growth < floor_bytes:
            text = f"volume {volume.root} has {size_text(volume.free_bytes)} free"
            if growth:
                text += f", the checkpoint may take {size_text(growth)}"
            return HostNoSpace(vm, f"{text}, and {size_text(floor_bytes)} are to stay free")
    return None


class Guard:
    """Says stop when a backup must stop: on request, for lack of space, for age.

    The host is asked by a thread of its own, since whoever pumps must not wait for it.
    """

    def __init__(
        self,
        vm_id: UUID,
        vm_name: str,
        limits: Limits,
        cancel: Cancellation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vm_id = vm_id
        self._vm_name = vm_name
        self._limits = limits
        self._cancel = cancel
        self._clock = clock
        self._since: float | None = None
        self._verdict: HvpsError | None = None
        self._halted = False

    def checkpoint_made(self) -> None:
        """The checkpoint's age counts from now."""
        self._since = self._clock()

    def halt(self) -> None:
        """One disk failed: the others stop at their next look."""
        self._halted = True

    def check(self) -> None:
        """Return when the backup may go on.

        Raises:
            Halted: another disk of the VM failed.
            Interrupted: it was asked to stop.
            HostNoSpace: a volume of the VM is too full.
            StoppedByPolicy: the checkpoint is too old.
        """
        self._cancel.check()
        if self._halted:
            raise Halted
        if self._verdict is not None:
            raise self._verdict
        age = 0.0 if self._since is None else self._clock() - self._since
        if age > self._limits.checkpoint_age_seconds:
            raise StoppedByPolicy(
                self._vm_name,
                f"its checkpoint is {duration_text(age)} old, "
                f"{duration_text(self._limits.checkpoint_age_seconds)} are allowed",
            )

    def pause(self, seconds: float) -> None:
        """Wait, unless the backup is to stop; raises as :meth:`check` does."""
        self._cancel.pause(seconds)
        self.check()

    @contextlib.contextmanager
    def watching(self, host: HyperVHost) -> Iterator[None]:
        """Look at the host's volumes while the block runs; nothing else may use ``host`` meanwhile."""
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
            except HvpsError as err:
                # The readers notice a lost host by themselves; here it only means not knowing.
                logger.warning("free space cannot be read: %s", err)
                continue
            verdict = short_of_space(self._vm_name, volumes, self._limits.free_space_floor_bytes)
            if verdict is not None:
                self._verdict = verdict
                return


class ReadWatcher:
    """The pump's watcher: a guard to ask, a meter to tell."""

    def __init__(self, guard: Guard, meter: Meter) -> None:
        self._guard = guard
        self._meter = meter

    def check(self) -> None:
        """See :class:`~hvpsbridge.receiver.protocols.Watcher`."""
        self._guard.check()
        self._meter.tick()

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """See :class:`~hvpsbridge.receiver.protocols.Watcher`."""
        self._meter.moved(raw_bytes, wire_bytes)
