"""Ours and this machine's: bugs, signals, tools that lack, the simulated host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class InternalError(HvpsError):
    """An invariant of hvps itself does not hold."""

    what: str
    template: ClassVar[str] = "{what}"
    remedy: ClassVar[str] = "this is a bug in hvps: please report it with the log"


@dataclass(eq=False)
class Interrupted(HvpsError):
    """SIGINT, SIGTERM or SIGHUP arrived; the run was undone."""

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
    """An external program that something optional needs is not installed here."""

    tool: str
    package: str
    purpose: str
    template: ClassVar[str] = "{purpose} needs {tool}; install Debian package {package}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class ToolFailed(HvpsError):
    """An external program did not do what it was asked."""

    tool: str
    status: int
    said: str
    template: ClassVar[str] = "{tool} ended with status {status}: {said}"
    exit_code: ClassVar[ExitCode] = ExitCode.BUG


@dataclass(eq=False)
class SimulatorError(HvpsError):
    """A simulated host could not be reached or started, or would not do what it was told."""

    what: str
    template: ClassVar[str] = "simulated host: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
