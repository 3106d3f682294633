"""Ours and this machine's: bugs, signals, tools that lack, the simulated host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class InternalError(HvpsError):
    """An invariant of hvps itself does not hold."""

    what: str
    remedy: ClassVar[str] = "this is a bug in hvps: please report it with the log"

    def describe(self) -> str:
        return self.what


@dataclass(eq=False)
class Interrupted(HvpsError):
    """SIGINT, SIGTERM or SIGHUP arrived; the run was undone."""

    signal_name: str

    @property
    def code(self) -> ExitCode:
        """130 for SIGINT, 143 for SIGTERM, as shells expect; 143 for a closed terminal, too."""
        terminated = self.signal_name in ("SIGTERM", "SIGHUP")
        return ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED

    exit_code: ClassVar[ExitCode] = ExitCode.INTERRUPTED

    def describe(self) -> str:
        return f"stopped by {self.signal_name}"


@dataclass(eq=False)
class ToolMissing(HvpsError):
    """An external program that something optional needs is not installed here."""

    tool: str
    package: str
    purpose: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"{self.purpose} needs {self.tool}; install Debian package {self.package}"


@dataclass(eq=False)
class ToolFailed(HvpsError):
    """An external program did not do what it was asked."""

    tool: str
    status: int
    said: str
    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def describe(self) -> str:
        return f"{self.tool} ended with status {self.status}: {self.said}"


@dataclass(eq=False)
class SimulatorError(HvpsError):
    """A simulated host could not be reached or started, or would not do what it was told."""

    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"simulated host: {self.what}"
