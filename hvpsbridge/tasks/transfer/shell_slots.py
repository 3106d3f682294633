"""Limits the shells that a run has open for disks of one host; disk readers take turns.

Windows may allow an account only 30 shells and refuse the next one
(docs/hyperv-facts.md#winrm-shell-quotas). Opening a shell takes seconds, so an idle reader keeps its shell
until another reader needs the slot.

A busy reader holds one slot and never waits for another one, so readers cannot deadlock. Only an idle
reader is asked to give up its shell.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hvpsbridge.tasks.policy import RunLimits

# How often a waiting reader checks whether it should stop.
WAKE_SECONDS = 0.5


class SlotHolder(Protocol):
    """Holds a slot for a shell."""

    def give_up_shell(self) -> None:
        """End the shell while idle; it is opened again when it is needed. Never raises."""
        ...


@dataclass(slots=True)
class _Host:
    """Holders on one host; the longest idle or waiting one is first."""

    busy: list[SlotHolder] = field(default_factory=list)
    idle: list[SlotHolder] = field(default_factory=list)
    waiting: deque[SlotHolder] = field(default_factory=deque)


class ShellSlots:
    """Slots for shells on each host. Thread-safe.

    Args:
        per_host: slots of each host.
    """

    def __init__(self, per_host: int = RunLimits().shells_per_host) -> None:
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}
        self._changed = threading.Condition()

    def acquire(self, host: str, holder: SlotHolder, check: Callable[[], None]) -> None:
        """Wait for a slot, first come, first served; the longest idle holder may have to give up its shell.

        Args:
            host: name of the host.
            holder: takes the slot; at once if it is idle.
            check: called while waiting; may raise, and then no slot is held.
        """
        with self._changed:
            slots = self._hosts.setdefault(host.casefold(), _Host())
            if holder in slots.idle:
                slots.idle.remove(holder)
                slots.busy.append(holder)
                return
            slots.waiting.append(holder)
            try:
                while slots.waiting[0] is not holder or not self._available(slots):
                    check()
                    self._changed.wait(WAKE_SECONDS)
            finally:
                slots.waiting.remove(holder)
                self._changed.notify_all()
            full = len(slots.busy) + len(slots.idle) >= self._per_host
            evicted = slots.idle.pop(0) if full else None
            slots.busy.append(holder)
        if evicted is not None:
            evicted.give_up_shell()

    def _available(self, slots: _Host) -> bool:
        return bool(slots.idle) or len(slots.busy) < self._per_host

    def mark_idle(self, host: str, holder: SlotHolder) -> None:
        """Keep the slot and the shell until another holder needs the slot."""
        with self._changed:
            slots = self._hosts[host.casefold()]
            slots.busy.remove(holder)
            slots.idle.append(holder)
            self._changed.notify_all()

    def release(self, host: str, holder: SlotHolder) -> None:
        """Free the slot, if ``holder`` has one."""
        with self._changed:
            slots = self._hosts.get(host.casefold())
            if slots is None:
                return
            for holders in (slots.busy, slots.idle):
                if holder in holders:
                    holders.remove(holder)
            self._changed.notify_all()
