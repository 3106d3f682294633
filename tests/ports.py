"""TCP ports of the loopback interface for the servers of tests."""

from __future__ import annotations

import socket


class ReservedPort:
    """A port that no other process is given until it is closed; a server that sets SO_REUSEADDR can take it.

    Attributes:
        number: the port.
    """

    def __init__(self) -> None:
        # Bound, never listening. A port that is let go may be another process's when the server starts.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Let the port go."""
        self._socket.close()
