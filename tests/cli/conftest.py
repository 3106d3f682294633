"""Command lines in this process, each with its own home, and in other processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hvpsbridge.cli import logs
from hvpsbridge.cli.main import main
from hvpsbridge.tasks.host_records import HostRecords, IdWay, ProvedBuild
from tests.forked import Forked, command_line
from tests.repository.servers import s3, ssh  # noqa: F401 - fixtures
from tests.waiting import DEADLINE_SECONDS


@dataclass(frozen=True)
class Done:
    """The result of a command line."""

    code: int
    out: str
    err: str


Hvps = Callable[..., Done]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HVPS_REPO", "HVPS_CONFIG", "HVPS_PASSWORD", "HVPS_SIM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    # A real process runs one command line with its secrets; here many run in one.
    monkeypatch.setattr(logs.redact, "_values", ())


@pytest.fixture(autouse=True)
def proved_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build of every host counts as proved, in command lines of this process."""
    proved = ProvedBuild(proved=datetime(2026, 3, 1, tzinfo=UTC), way=IdWay.FROZEN)
    monkeypatch.setattr(HostRecords, "load", lambda self, info: proved)


@pytest.fixture
def hvps(capfd: pytest.CaptureFixture[str]) -> Hvps:
    """Runs a command line in this process."""

    def run(*arguments: str | Path) -> Done:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Done(int(code), out, err)

    return run


def in_process(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """A command line as users start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "hvpsbridge", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def forked(*arguments: str | Path, **environment: str) -> Forked:
    """A command line in another process, without the second that Python takes to start."""
    return Forked(command_line, list(map(str, arguments)), **environment)


@dataclass(frozen=True)
class Served:
    """A simulated host in another process, as ``hvps sim serve`` runs it."""

    folder: Path
    url: str
    process: Forked | subprocess.Popen[str]

    @property
    def connection(self) -> tuple[str, ...]:
        """Options to connect to it."""
        return ("--auth", "basic", "--user", "backup", "--password-file", str(self.folder / "password"))


@contextmanager
def serving(
    folder: Path, *options: str, start: Callable[..., Forked | subprocess.Popen[str]] = forked
) -> Iterator[Served]:
    """A simulated host that runs while the block does."""
    process = start("sim", "serve", "--folder", folder, "--json", *options)
    try:
        if isinstance(process, Forked):
            line = process.first_line()
        else:
            assert process.stdout is not None
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(process.communicate()[1])
        yield Served(folder, json.loads(line)["url"], process)
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_SECONDS)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A simulated host with the builtin engine and no VM."""
    with serving(tmp_path / "world") as host:
        yield host


def on_a_terminal(*arguments: str | Path, answers: Sequence[str]) -> Done:
    """A command line on a terminal of its own, each question answered in turn."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "hvpsbridge", *map(str, arguments)])
    left, shown, asked = list(answers), b"", 0
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the command has ended
            break
        if not piece:
            break
        shown += piece
        # A question ends with a colon and waits; echo is off by then.
        if left and shown.endswith(b": ") and len(shown) > asked:
            asked = len(shown)
            os.write(terminal, left.pop(0).encode() + b"\n")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return Done(os.waitstatus_to_exitcode(status), shown.decode(), "")
