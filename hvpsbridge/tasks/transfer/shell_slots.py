"""How many shells a run has open for disks of one host: their readers take turns at so many places.

Windows may hold an account to 30 shells (docs/hyperv-facts.md#winrm-shell-quotas), and refuses the next one.
A disk's shell takes seconds to open, so a reader that is done for the moment keeps it until somebody else
needs the place.

Rule: a reader at work has one place and waits for no other one, so nothing locks up; only a reader at rest is
told to let its shell go.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

# Leaves ten of Windows' thirty to the runs' own control shells, one for each VM at work, and to other people.
SHELLS_PER_HOST = 20
# How often a waiting reader looks whether it is still wanted.
WAKE_SECONDS = 0.5


class Resting(Protocol):
    """Somebody with a shell that is not in use."""

    def let_go(self) -> None:
        """End the shell; it is opened again when it is needed. Never raises."""
        ...


@dataclass(slots=True)
class _Host:
    """Who has a place on a host; who rests, and who waits, longest first."""

    working: list[Resting] = field(default_factory=list)
    resting: list[Resting] = field(default_factory=list)
    waiting: deque[Resting] = field(default_factory=deque)


class ShellPlaces:
    """Places for shells on each host. Thread-safe.

    Args:
        per_host: how many there are.
    """

    def __init__(self, per_host: int = SHELLS_PER_HOST) -> None:
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}
        self._changed = threading.Condition()

    def work(self, host: str, holder: Resting, check: Callable[[], None]) -> None:
        """Wait for a place, in the order of asking; ``check`` may raise meanwhile, and then none is held.

        Whoever rested longest may be told to let its shell go for it.
        """
        with self._changed:
            places = self._hosts.setdefault(host.casefold(), _Host())
            if holder in places.resting:
                places.resting.remove(holder)
                places.working.append(holder)
                return
            places.waiting.append(holder)
            try:
                while places.waiting[0] is not holder or not self._room(places):
                    check()
                    self._changed.wait(WAKE_SECONDS)
            finally:
                places.waiting.remove(holder)
                self._changed.notify_all()
            full = len(places.working) + len(places.resting) >= self._per_host
            giving_way = places.resting.pop(0) if full else None
            places.working.append(holder)
        if giving_way is not None:
            giving_way.let_go()

    def _room(self, places: _Host) -> bool:
        return bool(places.resting) or len(places.working) < self._per_host

    def rest(self, host: str, holder: Resting) -> None:
        """Keep the place, and the shell, until somebody else needs it."""
        with self._changed:
            places = self._hosts[host.casefold()]
            places.working.remove(holder)
            places.resting.append(holder)
            self._changed.notify_all()

    def leave(self, host: str, holder: Resting) -> None:
        """Give the place up; nothing without one."""
        with self._changed:
            places = self._hosts.get(host.casefold())
            if places is None:
                return
            for there in (places.working, places.resting):
                if holder in there:
                    there.remove(holder)
            self._changed.notify_all()
