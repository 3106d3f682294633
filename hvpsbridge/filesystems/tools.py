"""Tools of file systems, run on files that have no name."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

_FOLDERS = "/usr/sbin:/sbin:/usr/bin:/bin"


def tool_path(name: str) -> str | None:
    """Path of an installed tool; None if it is not installed."""
    return shutil.which(name, path=_FOLDERS)


def unnamed_file() -> int:
    """Descriptor of a new temporary file, which is gone when it is closed."""
    with tempfile.TemporaryFile(prefix="hvps-", buffering=0) as file:
        return os.dup(file.fileno())


def run_tool(tool: str, *arguments: str, file: int, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a tool on a file; the name of the file is its last argument.

    Raises:
        OSError: it cannot be started.
        TimeoutExpired: it takes longer.
    """
    return subprocess.run(
        [tool, *arguments, f"/proc/self/fd/{file}"],
        pass_fds=(file,),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )
