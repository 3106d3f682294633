"""pypsrp's runspace pool, within bounds of time and memory."""

from __future__ import annotations

import time
from typing import Any

import requests
from pypsrp.complex_objects import RunspacePoolState
from pypsrp.powershell import RunspacePool
from pypsrp.wsman import WSMan

from hvpsbridge import stopping
from hvpsbridge.host.psrp.fragments import BoundedFragmenter
from hvpsbridge.host.psrp.strings import TextSerializer

# A busy host takes seconds to start the process of a shell.
OPEN_SECONDS = 60.0


class BoundedPool(RunspacePool):
    """A runspace pool that reads any text, bounds messages, and opens within a time.

    Args:
        wsman: the connection.
        options: those of ``RunspacePool``.
    """

    def __init__(self, wsman: WSMan, **options: Any) -> None:
        super().__init__(wsman, **options)
        self._serializer = TextSerializer()
        self._fragmenter = BoundedFragmenter(wsman.max_payload_size, self._serializer)
        self._opened_until = time.monotonic() + OPEN_SECONDS

    def _receive(self, id: str | None = None, timeout: int | None = None) -> list[tuple[int, Any]]:
        if self.state != RunspacePoolState.NEGOTIATION_SENT:
            return super()._receive(id, timeout)
        # pypsrp receives until the pool is open, and keeps what came.
        stopping.check()
        if time.monotonic() > self._opened_until:
            raise requests.ReadTimeout("the shell did not open in time")
        super()._receive(id, timeout)
        return []
