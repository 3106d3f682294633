"""Starts a restored VM, and for a drill waits until its guest answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import HostError, VmDoesNotRun, VmNoHeartbeat

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

# Between two looks at the heartbeat, which guests send every few seconds.
_LOOK_SECONDS = 2.0
# Microsoft.HyperV.PowerShell.VMHeartbeatStatus: the guest answers, whatever its applications say.
_OK = (5, 6, 7)
_HEARTBEATS = (
    "unknown",
    "disabled",
    "no contact",
    "an error",
    "lost",
    "ok, applications unknown",
    "ok, applications healthy",
    "ok, applications critical",
    "paused",
)


def start_problem(host: HyperVHost, vm_id: UUID, name: str) -> HostError | None:
    """Start a VM; why it does not run, None if it does."""
    try:
        return None if host.restoring.start_vm(vm_id).running else VmDoesNotRun(host.name, name)
    except HostError as err:
        return err


@dataclass(frozen=True, slots=True)
class Drill:
    """How the VM of a drill is watched.

    Attributes:
        run_id: of the run, for the proof.
        expires: when the VM should be gone.
        wait_seconds: how long its guest may take.
        pause: waits between looks; may raise to end it.
    """

    run_id: UUID
    expires: datetime
    wait_seconds: float
    pause: Callable[[float], object] = time.sleep

    def problem(self, host: HyperVHost, vm_id: UUID, name: str) -> HostError | None:
        """Start a VM and wait for the heartbeat of its guest; why there is none, None if there is."""
        until = time.monotonic() + self.wait_seconds
        if problem := start_problem(host, vm_id, name):
            return problem
        try:
            while (seen := host.restoring.heartbeat(vm_id)).running:
                if seen.heartbeat in _OK:
                    return None
                left = until - time.monotonic()
                if left <= 0:
                    return VmNoHeartbeat(host.name, name, self.wait_seconds, _text(seen.heartbeat))
                self.pause(min(_LOOK_SECONDS, left))
        except HostError as err:
            return err
        return VmDoesNotRun(host.name, name)


def _text(heartbeat: int | None) -> str:
    if heartbeat is None or not 0 <= heartbeat < len(_HEARTBEATS):
        return "unknown"
    return _HEARTBEATS[heartbeat]
