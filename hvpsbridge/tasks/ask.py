"""Asks several hosts at a time; an error concerns its host only.

The calling thread only waits, so that it hears signals. The threads that ask are daemons: a host that does
not answer delays neither the other hosts nor the end of the process.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hvpsbridge import stopping
from hvpsbridge.errors import HvpsError, OperationTimedOut
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget, host_error

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIST_VMS = "Get-HvpsVm"
# More at a time than a play usually has hosts; each is a thread that waits for the network.
MAX_HOSTS_AT_ONCE = 16
# Longer than the deadline of one listing (contract.operations), so that one lost session can be replaced.
HOST_SECONDS = 600.0
# How long after a signal to wait for sessions to be closed. Nothing else is left on a host that only lists.
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.1
# A host that takes longer is named, once.
NOTICE_SECONDS = 10.0


@dataclass(slots=True)
class Answers(Generic[T]):
    """What hosts answered.

    Attributes:
        of: answers by the name of the host.
        errors: why other hosts gave none, by name.
    """

    of: dict[str, T] = field(default_factory=dict)
    errors: dict[str, HvpsError] = field(default_factory=dict)


def ask_all(
    targets: Sequence[HostTarget],
    ask: Callable[[HostTarget], T],
    cancel: Cancellation,
    *,
    host_seconds: float = HOST_SECONDS,
) -> Answers[T]:
    """Ask each host once.

    Returns as soon as a stop is requested and sessions are closed, or after :data:`STOP_SECONDS`.

    Args:
        targets: the hosts.
        ask: called in a thread for each.
        cancel: stops it.
        host_seconds: how long a host may take; after that it counts as timed out.
    """
    answers: Answers[T] = Answers()
    ended: queue.SimpleQueue[tuple[str, T | HvpsError]] = queue.SimpleQueue()
    waiting, busy = list(targets), dict[str, float]()

    def work(target: HostTarget) -> None:
        overdue_at = time.monotonic() + host_seconds

        def may_go_on() -> None:
            cancel.check()
            if time.monotonic() > overdue_at:
                raise OperationTimedOut(target.name, LIST_VMS, host_seconds)

        try:
            with stopping.checked_by(may_go_on):
                stopping.check()
                ended.put((target.name, ask(target)))
        except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this host
            ended.put((target.name, host_error(target.name, LIST_VMS, err)))

    stop_at = float("inf")
    notice_at = time.monotonic() + NOTICE_SECONDS
    while waiting or busy:
        now = time.monotonic()
        if now > notice_at and busy:
            notice_at = float("inf")
            logger.warning("waiting for %s", ", ".join(busy))
        if cancel.requested:
            waiting.clear()
            stop_at = min(stop_at, now + STOP_SECONDS)
            if cancel.gave_up or now > stop_at:
                break
        while waiting and len(busy) < MAX_HOSTS_AT_ONCE:
            target = waiting.pop(0)
            busy[target.name] = now
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(work, target),
                name=f"list-{target.name}",
                daemon=True,
            ).start()
        for name in [name for name, since in busy.items() if now - since > host_seconds]:
            del busy[name]
            answers.errors[name] = OperationTimedOut(name, LIST_VMS, host_seconds)
        try:
            name, answer = ended.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if busy.pop(name, None) is None:
            continue  # too late: it is an error already
        if isinstance(answer, HvpsError):
            answers.errors[name] = answer
        else:
            answers.of[name] = answer
    return answers
