"""The Hyper-V host of the demo: ``hvps sim serve`` in a process, controlled by ``hvps sim`` commands."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvpsbridge.demo.commands import Commands, stop
from hvpsbridge.errors import ToolFailed

# Starting means to import Python modules and, for the powershell engine, to compile a small C library.
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.2


class DemoHost:
    """A simulated host, which runs while its context is entered.

    Args:
        commands: runs hvps; its environment holds the password.
        folder: for the state folder and the log of the host.
        password_variable: environment variable with the password of ``user``.

    Attributes:
        url: address of the host; known while the context is entered.
    """

    def __init__(
        self, commands: Commands, folder: Path, *, engine: str, user: str, password_variable: str
    ) -> None:
        self._commands = commands
        self._state = folder / "hyper-v"
        # The document it prints when it listens, and its log.
        self._said, self._log = folder / "hyper-v.json", folder / "hyper-v.log"
        self._options = ("--engine", engine, "--user", user, "--password-env", password_variable)
        self.url = ""

    def __enter__(self) -> Self:
        self._process = self._commands.start(
            "sim", "serve", "--folder", self._state, *self._options, "--json", said=self._said, log=self._log
        )
        try:
            self.url = self._listening()
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop(self._process)

    def import_disk(self, vm: str, slot: str, image: Path) -> None:
        """Add a disk with the content of an image to a VM, which is created if necessary."""
        self._ask("import", vm, image, "--slot", slot)

    def apply(self, vm: str, slot: str, image: Path) -> int:
        """Write what differs in a newer image, as the guest would. Returns the bytes written."""
        return int(self._ask("apply", vm, image, "--slot", slot)["written_bytes"])

    def golden_image(self, checkpoint_id: str, slot: str) -> Path:
        """The golden image of a checkpoint's disk."""
        return Path(self._ask("image", checkpoint_id, "--slot", slot)["path"])

    def _ask(self, command: str, *arguments: str | Path) -> dict[str, Any]:
        answer: dict[str, Any] = self._commands.json("sim", command, *arguments, "--folder", self._state)
        return answer

    def _listening(self) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                log = self._log.read_text(encoding="utf-8", errors="replace").strip()[-1000:]
                raise ToolFailed("hvps sim serve", status or 0, log or "did not start to listen")
            # Printed once, when it listens. Until it is complete it is not valid JSON.
            with contextlib.suppress(ValueError):
                return str(json.loads(self._said.read_bytes())["url"])
            time.sleep(_LOOK_SECONDS)
