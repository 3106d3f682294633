"""Processes for tests that start at once: forked from one that has imported everything and holds no thread.

A new Python spends most of a second on imports, and the tests start some hundred processes. Commands as users
start them, with an interpreter of their own, are in some tests of ``cli``, in the demo and in the wheel.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.waiting import DEADLINE_SECONDS, wait_until

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "hvpsbridge.cli.main",
        "hvpsbridge.cli.run",
        "hvpsbridge.cli.sim",
        "hvpsbridge.sim.server",
        "tests.cli.signalling",
        "tests.repository.crashing",
        "tests.tasks.backup_process",
    ]
)


def command_line(arguments: list[str]) -> int:
    """``hvps`` with these arguments."""
    from hvpsbridge.cli.main import main

    return int(main(arguments))


def _enter(
    function: Callable[..., int], arguments: tuple[Any, ...], environment: Mapping[str, str], folder: str
) -> None:
    # The environment of the process that forks is as old as that process.
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((1, "out"), (2, "err")):
        with (Path(folder) / name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.exit(function(*arguments))


class Forked:
    """A function that runs in a process of its own; what it returns is the exit status. As a ``Popen``.

    Args:
        function: of a module, with arguments that can be pickled.
        environment: variables beside the ones of this process.

    Attributes:
        pid: of the process.
    """

    def __init__(self, function: Callable[..., int], *arguments: Any, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        settings = (function, arguments, {**os.environ, **environment}, self._folder.name)
        self._process = PROCESSES.Process(target=_enter, args=settings)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; less than zero for the signal that ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As :attr:`returncode`."""
        return self._process.exitcode

    def wait(self, timeout: float = DEADLINE_SECONDS) -> int | None:
        """The exit status once it has ended, None after the time-out."""
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout: float = DEADLINE_SECONDS) -> tuple[str, str]:
        """What it has written to its output and its errors, once it has ended."""
        assert self.wait(timeout) is not None, "the process does not end"
        return self.written("out"), self.written("err")

    def first_line(self) -> str:
        """The first line of its output, which may go on; empty when it ends without one."""
        wait_until(lambda: "\n" in self.written("out") or self.poll() is not None)
        return self.written("out").partition("\n")[0]

    def written(self, what: str) -> str:
        """What it has written so far: ``out`` or ``err``."""
        with contextlib.suppress(FileNotFoundError):
            return (Path(self._folder.name) / what).read_text()
        return ""

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL unless it has ended."""
        self.send_signal(signal.SIGKILL)
