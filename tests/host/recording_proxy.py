"""A proxy in front of a host: records what passes, and can change a byte of a reply."""

from __future__ import annotations

import contextlib
import socket
from threading import Lock, Thread
from types import TracebackType
from typing import Self

# Only long pieces are changed: they are in the middle of a body.
_LONG_BYTES = 16_384


class RecordingProxy:
    """Forwards connections to a port of this machine.

    Attributes:
        passed: every byte in either direction, in the order of its passing.
        spoil: set to change one byte of the next long piece of a reply.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._lock = Lock()
        self.passed = bytearray()
        self.spoil = False

    @property
    def port(self) -> int:
        """Where to connect to."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                Thread(target=self._pass, args=(near, far, False), daemon=True).start()
                Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                with self._lock:
                    if reply and self.spoil and len(data) > _LONG_BYTES:
                        self.spoil = False
                        data = data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]
                    self.passed += data
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
