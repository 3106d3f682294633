"""Chooses the next VM of a play, so that a host in trouble delays only its own VMs."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hvpsbridge.errors import HostUnreachable, HvpsError, OperationTimedOut, ProtocolViolation, SessionLost

T = TypeVar("T")

# After these the next VM of that host probably fails in the same way, and each may take many minutes.
_TROUBLE = (HostUnreachable, OperationTimedOut, ProtocolViolation, SessionLost)


class JobQueue(Generic[T]):
    """Jobs in order, with the hosts taking turns. Thread-safe.

    The host with the fewest failures that its next job would probably repeat comes first; of several such
    hosts, the one with the fewest running jobs. With one host the order stays.

    Args:
        jobs: in order.
        host_of: name of the host of a job.
    """

    def __init__(self, jobs: Iterable[T], host_of: Callable[[T], str]) -> None:
        self._host_of = host_of
        self._waiting: dict[str, deque[tuple[int, T]]] = {}
        for number, job in enumerate(jobs):
            self._waiting.setdefault(host_of(job), deque()).append((number, job))
        self._running: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self) -> T | None:
        """The next job, which runs until :meth:`ended`; None when there are no more."""
        with self._lock:
            hosts = [host for host, jobs in self._waiting.items() if jobs]
            if not hosts:
                return None
            host = min(
                hosts, key=lambda name: (self._troubles[name], self._running[name], self._waiting[name][0][0])
            )
            self._running[host] += 1
            return self._waiting[host].popleft()[1]

    def ended(self, job: T, error: HvpsError | None) -> None:
        """A job ended, perhaps with an error."""
        host = self._host_of(job)
        with self._lock:
            self._running[host] -= 1
            if isinstance(error, _TROUBLE):
                self._troubles[host] += 1
