"""The seam of the bulk path: what a reader pipeline on a host looks like to whoever pumps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class BlockSource(Protocol):
    """One reader pipeline of one frozen disk: requests in, blocks out (``formats.wire``).

    One thread uses a source at a time. Blocks come in the order the host made them; nothing is
    promised about their content, which is the receiver's to check.
    """

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire so far, all layers of encoding included."""
        ...

    def send(self, request: bytes) -> None:
        """Hand one packed request to the pipeline. Returns when the host has taken it.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        ...

    def receive(self, timeout_seconds: float) -> Sequence[bytes | bytearray | memoryview]:
        """Blocks that have arrived, oldest first; empty when none came within the time.

        The caller owns the buffers.

        Raises:
            SessionLost: the connection or the shell is gone.
            OperationFailed: the script ended with an error.
        """
        ...

    def close(self) -> None:
        """End the pipeline; the host's handle stays until ``Close-HvpsReader``. Never raises."""
        ...
