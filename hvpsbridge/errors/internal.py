"""Errors of hvps and of this machine: bugs, signals, missing programs, the simulated host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class InternalError(HvpsError):
    """Something that hvps relies on is not true."""

    what: str
    template: ClassVar[str] = "{what}"
    remedy: ClassVar[str] = "this is a bug in hvps; please report it with the log"


@dataclass(eq=False)
class Interrupted(HvpsError):
    """SIGINT, SIGTERM or SIGHUP stopped the run, and it was undone."""

    signal_name: str
    template: ClassVar[str] = "stopped by {signal_name}"
    exit_code: ClassVar[ExitCode] = ExitCode.INTERRUPTED

    @property
    def code(self) -> ExitCode:
        """130 for SIGINT and 143 for SIGTERM, as shells expect; also 143 for a closed terminal."""
        terminated = self.signal_name in ("SIGTERM", "SIGHUP")
        return ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED


@dataclass(eq=False)
class ToolMissing(HvpsError):
    """A program that an optional feature needs is not installed."""

    tool: str
    package: str
    purpose: str
    template: ClassVar[str] = "{purpose} needs {tool}"
    remedy: ClassVar[str] = "install the Debian package {package}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class ToolFailed(HvpsError):
    """A program failed."""

    tool: str
    status: int
    said: str
    template: ClassVar[str] = "{tool} exited with status {status}: {said}"
    exit_code: ClassVar[ExitCode] = ExitCode.BUG


@dataclass(eq=False)
class SimulatorError(HvpsError):
    """A simulated host cannot be reached or started, or refused a request."""

    what: str
    template: ClassVar[str] = "simulated host: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
