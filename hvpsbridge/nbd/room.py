"""Limits what is under way: requests, and bytes of their data."""

from __future__ import annotations

import threading
from collections import deque


class Room:
    """Room for requests and their data. Thread-safe. Who asks first enters first, so nobody waits for ever.

    Args:
        requests: under way at a time.
        size_bytes: of their data; no request has more.
    """

    def __init__(self, requests: int, size_bytes: int) -> None:
        self._free_requests = self._requests = requests
        self._free_bytes = size_bytes
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def enter(self, held_bytes: int) -> None:
        """Wait until there is room for a request with this much data."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(
                lambda: self._waiting[0] is ticket and self._free_requests and self._free_bytes >= held_bytes
            )
            self._waiting.popleft()
            self._free_requests -= 1
            self._free_bytes -= held_bytes
            if self._waiting:
                self._changed.notify_all()

    def leave(self, held_bytes: int) -> None:
        """Give back the room of a request."""
        with self._changed:
            self._free_requests += 1
            self._free_bytes += held_bytes
            self._changed.notify_all()

    def wait_empty(self) -> None:
        """Wait until no request is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._free_requests == self._requests)
