"""File system tools that hvps runs for the process that parses, on files without a name.

That process cannot start programs or create files. It gets an empty file, fills it through its descriptor,
and asks for one of the runs below.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import Protocol

_FOLDERS = "/usr/sbin:/sbin:/usr/bin:/bin"
# Arguments and seconds of each run.
_RUNS: dict[str, tuple[tuple[str, ...], float]] = {
    "e2fsck": (("-y", "-E", "journal_only"), 600),
    "xfs_logprint": (("-t",), 60),
}
# What is kept of its output.
_OUTPUT_BYTES = 1 << 20
# A replay takes three files, and a disk has few partitions.
_MOST_FILES = 48


@dataclass(frozen=True, slots=True)
class Ran:
    """How a tool ended.

    Attributes:
        code: exit code; None if it did not end by itself.
        output: the first part of standard output and standard error.
    """

    code: int | None
    output: str


@dataclass(frozen=True, slots=True)
class ToolFile:
    """An unnamed file that tools can be run on.

    Attributes:
        number: its name in requests.
        descriptor: gone when it is closed.
    """

    number: int
    descriptor: int


class Tools(Protocol):
    """Runs tools."""

    def file(self) -> ToolFile:
        """A new empty file.

        Raises:
            OSError: it cannot be made.
        """
        ...

    def run(self, name: str, number: int) -> Ran:
        """Run a tool on a file.

        Raises:
            OSError: it cannot be started.
        """
        ...


def is_installed(name: str) -> bool:
    """Whether a tool is installed."""
    return _path(name) is not None


def _path(name: str) -> str | None:
    return shutil.which(name, path=_FOLDERS)


class LocalTools:
    """Runs tools in processes of their own, with the limits of the parser and without a network."""

    def __init__(self) -> None:
        self._files: list[int] = []

    def file(self) -> ToolFile:
        """A new empty file. The descriptor belongs to this object.

        Raises:
            OSError: it cannot be made, or there are too many.
        """
        if len(self._files) >= _MOST_FILES:
            raise OSError("too many files for tools")
        with tempfile.TemporaryFile(prefix="hvps-", buffering=0) as file:
            self._files.append(os.dup(file.fileno()))
        return ToolFile(len(self._files) - 1, self._files[-1])

    def run(self, name: str, number: int) -> Ran:
        """Run a tool on a file that this object made.

        Raises:
            LookupError: the tool or the file is unknown.
            OSError: it cannot be started.
        """
        arguments, seconds = _RUNS[name]
        tool, descriptor = _path(name), self._files[number]
        if tool is None:
            return Ran(None, f"{name} is not installed")
        with subprocess.Popen(
            [
                *(sys.executable, "-I", "-m", "hvpsbridge.filesystems.limited", tool),
                *arguments,
                f"/proc/self/fd/{descriptor}",
            ],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
        ) as process:
            late = threading.Timer(seconds, process.kill)
            late.start()
            try:
                assert process.stdout is not None
                output = process.stdout.read(_OUTPUT_BYTES)
                # One that says more waits until it is read, so it is ended.
                code = process.wait() if len(output) < _OUTPUT_BYTES else -1
            finally:
                late.cancel()
                process.kill()
        return Ran(code if code >= 0 else None, output.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files:
            os.close(descriptor)
        self._files.clear()
