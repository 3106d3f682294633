"""Output of programs and pipes, with a limit of time and of bytes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# After this long a person wants to know what is waited for.
NOTICE_SECONDS = 3.0
_LOOK_SECONDS = 0.1


class Waiting:
    """A wait with a time limit.

    Args:
        limit_seconds: the limit.
        notice: called once, after a few seconds.
    """

    def __init__(self, limit_seconds: float, notice: Callable[[], None]) -> None:
        self._begun = time.monotonic()
        self._limit = limit_seconds
        self._notice: Callable[[], None] | None = notice

    def goes_on(self) -> bool:
        """Whether time is left."""
        waited = time.monotonic() - self._begun
        if waited >= NOTICE_SECONDS and self._notice is not None:
            notice, self._notice = self._notice, None
            notice()
        return waited < self._limit


@dataclass(frozen=True, slots=True)
class Program:
    """A running program.

    Attributes:
        process: with its output in a pipe.
        has_group: whether it has a process group of its own.
    """

    process: subprocess.Popen[bytes]
    has_group: bool

    def end(self) -> None:
        """Kill it if it still runs; with what it started, if it has a group."""
        if self.process.poll() is not None:
            return
        if self.has_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@contextmanager
def start(command: tuple[str, ...]) -> Iterator[Program]:
    """Start a program without a shell. It is ended when the block ends, if it still runs.

    With a terminal it stays in the process group of hvps. In another one it could not ask anything there.

    Raises:
        OSError: it cannot be started.
    """
    has_group = not _has_terminal()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0 if has_group else None,
    )
    running = Program(process, has_group)
    try:
        yield running
    finally:
        running.end()
        if process.stdout is not None:
            process.stdout.close()


def output(program: Program, limit_bytes: int, waiting: Waiting) -> tuple[bytes, int | None]:
    """What a program prints, and its status.

    What it started in the background may keep the pipe open; that is not waited for.

    Returns:
        The output. More than ``limit_bytes`` of it, or a status of None, means that it did not end by itself.
    """
    assert program.process.stdout is not None
    descriptor, data, ended = program.process.stdout.fileno(), b"", False
    while waiting.goes_on():
        # Looked at before the pipe: what an ended program wrote is in the pipe.
        status = program.process.poll()
        piece = b"" if ended else _read(descriptor, 0 if status is not None else _LOOK_SECONDS)
        if ended and status is None:
            time.sleep(_LOOK_SECONDS)
        ended = ended or piece == b""
        data += piece or b""
        if len(data) > limit_bytes:
            return data, None
        if status is not None and (ended or piece is None):
            return data, status
    return data, None


def read_all(descriptor: int, limit_bytes: int, waiting: Waiting) -> bytes | None:
    """What can be read until the end, or a little more than the limit; None if the end does not come."""
    data = b""
    while waiting.goes_on():
        piece = _read(descriptor, _LOOK_SECONDS)
        data += piece or b""
        if piece == b"" or len(data) > limit_bytes:
            return data
    return None


def _read(descriptor: int, wait_seconds: float) -> bytes | None:
    """Some bytes; none at the end, None if there is nothing yet."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(wait_seconds * 1000):
        return None
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 65536)
    return None


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True
