"""Faults of connections: before a request is processed, and of its reply."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.sim.faults import FiredFault, WireFaults
from hvpsbridge.sim.wsman.exchange import Reply
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.service import Service

_ACTION = re.compile(rb"<(?:[a-z]+:)?Action[^>]*>[^<]*/([A-Za-z]+)</")
# The action is in the header, before any data.
_HEADER_BYTES = 4096
_SLICE_SECONDS = 0.05
_REFUSALS = {
    "access_denied": (Code.ACCESS_DENIED, "Access is denied."),
    "quota_shells": (
        Code.QUOTA_SHELLS,
        "The WS-Management service cannot process the request. The maximum number of concurrent shells for "
        "this user has been exceeded.",
    ),
    "quota_operations": (
        Code.QUOTA_OPERATIONS,
        "The WS-Management service cannot process the request. The maximum number of concurrent operations "
        "for this user has been exceeded.",
    ),
}


class Cut(Exception):
    """The connection must be closed without a (complete) reply."""


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP status without a body, in place of a reply."""

    code: int


def action_of(envelope: bytes) -> str:
    """Last word of a request's action, in lower case; empty if there is none."""
    found = _ACTION.search(envelope, 0, _HEADER_BYTES)
    return found[1].decode().lower() if found else ""


class Machine(Protocol):
    """The host, for faults that affect it as a whole."""

    @property
    def powered(self) -> bool:
        """Whether the host is up. A dead host sends nothing, not even replies to earlier requests."""
        ...

    def reboot(self, down_seconds: float) -> None:
        """Lose all shells and connections, and come up again after a while."""
        ...

    def skew_clock(self, seconds: float) -> None:
        """Set the clock ahead of the true time."""
        ...


class ConnectionFaults:
    """Carries out faults of the wire.

    Args:
        faults: armed faults.
        service: the service with the shells.
        machine: the host.
    """

    def __init__(self, faults: WireFaults, service: Service, machine: Machine) -> None:
        self._faults = faults
        self._service = service
        self._machine = machine

    def before(self, action: str, envelope: bytes, user: str) -> Reply | Status | None:
        """The reply to a request that is not processed because of a fault, or None to process it.

        Raises:
            Cut: the connection must be closed.
        """
        self._need_power()
        fault = self._faults.fire("request", action)
        if fault is None:
            return None
        if fault.name == "request_lost":
            raise Cut(fault.name)
        if fault.name == "unavailable":
            return Status(int(fault.number("status")))
        if fault.name == "unauthorized":
            return Status(401)
        if fault.name in _REFUSALS:
            return self._service.refuse(envelope, *_REFUSALS[fault.name])
        if fault.name == "host_reboots":
            self._machine.reboot(fault.number("down_seconds"))
            raise Cut(fault.name)
        if fault.name == "clock_skewed":
            self._machine.skew_clock(fault.number("seconds"))
            return None
        shell = self._service.shell_of(envelope, user)
        if shell is not None:
            if fault.name == "shell_lost":
                self._service.shells.kill(shell)
            else:
                shell.engine.kill()
        return None

    def after(self, action: str, reply: Reply) -> FiredFault | None:
        """The fault of a reply, or None.

        Raises:
            Cut: the connection must be closed.
        """
        self._need_power()
        fault = self._faults.fire("reply", action)
        if fault is None:
            return None
        if fault.name in ("reply_lost", "reply_cut") and fault.flag("keep") and reply.undelivered:
            reply.undelivered()
        if fault.name == "reply_twice" and reply.repeat:
            reply.repeat()
        return fault

    def _need_power(self) -> None:
        if not self._machine.powered:
            raise Cut("the host is dead")


def send_faulty(
    fault: FiredFault, data: bytes, send: Callable[[bytes], None], alive: Callable[[], bool]
) -> None:
    """Send a reply as the fault demands.

    Raises:
        Cut: the connection must be closed.
    """
    match fault.name:
        case "reply_lost":
            raise Cut(fault.name)
        case "reply_cut":
            send(data[: int(fault.number("bytes"))])
            raise Cut(fault.name)
        case "reply_stalled":
            send(data[: int(fault.number("bytes"))])
            end = time.monotonic() + fault.number("seconds")
            while time.monotonic() < end and alive():
                time.sleep(_SLICE_SECONDS)
            raise Cut(fault.name)
        case "reply_slow":
            step = max(1, int(fault.number("bytes_per_second") * _SLICE_SECONDS))
            for start in range(0, len(data), step):
                send(data[start : start + step])
                time.sleep(_SLICE_SECONDS)
        case "reply_delayed":
            time.sleep(fault.number("seconds"))
            send(data)
        case _:
            send(data)
