"""The demo's Hyper-V host: ``hvps sim serve`` as a process, told things by ``hvps sim`` commands."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvpsbridge.demo.commands import Commands, stop
from hvpsbridge.errors import ToolFailed

# Starting is importing Python modules, and for the powershell engine compiling a small C library.
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.2


class DemoHost:
    """A simulated host that runs while the context is entered.

    Args:
        commands: how hvps is called; its environment holds the password.
        folder: where the host's state folder and its log go.
        password_variable: environment variable with the password of ``user``.

    Attributes:
        url: where it listens; known while the context is entered.
    """

    def __init__(
        self, commands: Commands, folder: Path, *, engine: str, user: str, password_variable: str
    ) -> None:
        self._commands = commands
        self._state = folder / "hyper-v"
        # What it says once it listens, and what it says beside that.
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
        """Gives a VM (made when there is none of that name) a disk with an image's content."""
        self._ask("import", vm, image, "--slot", slot)

    def apply(self, vm: str, slot: str, image: Path) -> int:
        """Lets the guest write what differs in a newer image; how many bytes that were."""
        return int(self._ask("apply", vm, image, "--slot", slot)["written_bytes"])

    def kept_image(self, checkpoint_id: str, slot: str) -> Path:
        """The image of a frozen disk which the simulator kept apart."""
        return Path(self._ask("kept", checkpoint_id, "--slot", slot)["path"])

    def _ask(self, command: str, *arguments: str | Path) -> dict[str, Any]:
        answer: dict[str, Any] = self._commands.json("sim", command, *arguments, "--folder", self._state)
        return answer

    def _listening(self) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                log = self._log.read_text(encoding="utf-8", errors="replace").strip()[-1000:]
                raise ToolFailed("hvps sim serve", status or 0, log or "does not listen")
            # Said once, when it listens; until the document is whole there is nothing to read.
            with contextlib.suppress(ValueError):
                return str(json.loads(self._said.read_bytes())["url"])
            time.sleep(_LOOK_SECONDS)
