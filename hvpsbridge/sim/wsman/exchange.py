"""A request's caller and the reply to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hvpsbridge.sim.wsman.envelope import Fault, Parts, Request
from hvpsbridge.sim.wsman.names import Code


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and whether the connection is still open."""

    user: str
    address: str
    alive: Callable[[], bool]


@dataclass(slots=True)
class Reply:
    """An HTTP reply.

    Attributes:
        status: HTTP status.
        body: the envelope, in parts.
        action: action of the request; empty if it could not be parsed.
        undelivered: to be called if the client did not get the reply; the same request gets it again.
        repeat: makes the next Receive get the same data again.
    """

    status: int
    body: Parts
    action: str = ""
    undelivered: Callable[[], None] | None = None
    repeat: Callable[[], None] | None = None


Handler = Callable[[Request, Caller], Reply]


def aborted(reason: str) -> Fault:
    """The fault of an operation that ended with its shell or command."""
    return Fault(
        Code.OPERATION_ABORTED,
        "The I/O operation has been aborted because of either a thread exit or an application request. "
        f"({reason})",
    )
