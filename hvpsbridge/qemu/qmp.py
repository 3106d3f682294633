"""Commands to QEMU (QEMU Machine Protocol), and a question to the agent in its guest."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from typing import Any

_REPLY_SECONDS = 30.0
_MAX_BYTES = 1 << 20


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qmp:
    """A connection to QEMU. One thread.

    Args:
        connection: owned by this object from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = b""
        self._greeted = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """What a command returns.

        Raises:
            QmpError: QEMU refused it, did not answer, or is gone.
        """
        if not self._greeted:
            self._receive()
            self._greeted = True
            self.execute("qmp_capabilities")
        try:
            self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        except OSError as err:
            raise QmpError(f"{command}: {err}") from err
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error'].get('desc')}")
            # Anything else is an event.

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + _REPLY_SECONDS
        while b"\n" not in self._pending:
            self._connection.settimeout(max(until - time.monotonic(), 0.001))
            try:
                data = self._connection.recv(65536)
            except OSError as err:
                raise QmpError(str(err)) from err
            if not data or len(self._pending) > _MAX_BYTES:
                raise QmpError("QEMU closed the connection")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


class Agent:
    """The channel of a guest agent (QEMU Guest Agent protocol). Never blocks.

    Args:
        connection: owned by this object from now on.
    """

    # A question is lost when the guest starts again.
    ASK_SECONDS = 10.0

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._asked: set[int] = set()
        self._next = 0.0
        self._pending = b""

    def close(self) -> None:
        """Close the channel."""
        self._connection.close()

    def answers(self, now: float) -> bool:
        """Whether the agent answered a question; asks one now and then.

        Args:
            now: in seconds, from any start.
        """
        with contextlib.suppress(OSError):
            if now >= self._next:
                self._next = now + self.ASK_SECONDS
                number = random.randrange(1, 1 << 31)  # noqa: S311 - not a secret, only to match the answer
                question = {"execute": "guest-sync", "arguments": {"id": number}}
                self._asked.add(number)
                self._connection.send(json.dumps(question).encode() + b"\n")
        with contextlib.suppress(OSError):
            self._pending += self._connection.recv(65536)
        *lines, self._pending = self._pending[-_MAX_BYTES:].split(b"\n")
        return any(self._is_answer(line) for line in lines)

    def _is_answer(self, line: bytes) -> bool:
        try:
            found = json.loads(line.strip(b"\xff\r "))
        except (ValueError, RecursionError):
            return False
        value = found.get("return") if isinstance(found, dict) else None
        return isinstance(value, int) and value in self._asked
