"""What the receiver expects of a reader pipeline on a host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class BlockSource(Protocol):
    """One reader pipeline of one frozen disk: requests in, blocks out (``formats.wire``).

    For one thread at a time. Blocks come in the order in which the host made them. Their content is not
    checked here; the receiver does that.
    """

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire so far, all layers of encoding included."""
        ...

    def send(self, request: bytes) -> None:
        """Send one packed request. Returns when the host has received it.

        Raises:
            SessionLost: the connection or the shell is gone.
        """
        ...

    def receive(self, timeout_seconds: float) -> Sequence[bytes | bytearray | memoryview]:
        """Blocks that have arrived, in order; empty if none came within the time.

        The caller owns the buffers.

        Raises:
            SessionLost: the connection or the shell is gone.
            OperationFailed: the script ended with an error.
        """
        ...

    def close(self) -> None:
        """End the pipeline; the host's handle stays until ``Close-HvpsReader``. Never raises."""
        ...
