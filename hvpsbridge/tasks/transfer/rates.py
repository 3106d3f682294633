"""How fast hosts send, measured once in a run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class MeasuredRates:
    """Bytes per second of one reader, by host. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, float] = {}

    def of(self, host: str, measure: Callable[[], float]) -> float:
        """The rate of a host, measured on first use; others wait meanwhile.

        Whatever ``measure`` raises is passed on, and the next call measures again.
        """
        with self._lock:
            if host not in self._known:
                self._known[host] = measure()
            return self._known[host]
