"""Runs hvps commands for the demo, each in a process of its own, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvpsbridge.errors import ExitCode, ToolFailed

HVPS = (sys.executable, "-m", "hvpsbridge")
# The end of the output of a failed command says what went wrong.
_SAID_CHARACTERS = 1000
_STOP_SECONDS = 30


class Commands:
    """Runs hvps commands in an environment of their own.

    Args:
        folder: for files that the commands need.
        environment: variables set for every command.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        # The configuration of the user must not affect the demo.
        empty = folder / "config.yaml"
        empty.write_text("{}\n", encoding="utf-8")
        self._environment = {
            **os.environ,
            "HVPS_CONFIG": str(empty),
            "XDG_STATE_HOME": str(folder / "state"),
            **environment,
        }
        self._environment.pop("HVPS_REPO", None)

    def json(self, *arguments: str | Path, show: bool = False, accept: Sequence[ExitCode] = ()) -> Any:
        """The JSON document that a command prints.

        Args:
            arguments: after ``hvps``; ``--json`` is added.
            show: show its progress on standard error.
            accept: exit codes that count as success, besides 0.

        Raises:
            ToolFailed: another exit code, or no JSON.
        """
        done = subprocess.run(
            [*HVPS, *map(str, arguments), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            env=self._environment,
            check=False,
        )
        name = f"hvps {arguments[0]}"
        if done.returncode != 0 and done.returncode not in accept:
            raise ToolFailed(name, done.returncode, _end(done.stderr) or "see above")
        try:
            return json.loads(done.stdout or b"null")
        except ValueError as err:
            raise ToolFailed(name, done.returncode, f"printed no JSON: {_end(done.stdout)}") from err

    def start(self, *arguments: str | Path, said: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a command in the background, with standard output and standard error in files."""
        with said.open("wb") as output, log.open("wb") as notes:
            return subprocess.Popen(
                [*HVPS, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=notes,
                env=self._environment,
            )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a background command, and kill it if that takes too long."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end(output: bytes | None) -> str:
    return " ".join((output or b"").decode(errors="replace").split())[-_SAID_CHARACTERS:]
