"""What the user or the playbook asked that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class UsageError(HvpsError):
    """The command line makes no sense."""

    what: str
    template: ClassVar[str] = "{what}"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


@dataclass(eq=False)
class ConfigurationError(HvpsError):
    """A playbook, configuration file or secret reference is wrong."""

    where: str
    what: str
    template: ClassVar[str] = "{where}: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class SecretUnavailable(ConfigurationError):
    """A secret reference could not be resolved; the value is never part of the text."""


@dataclass(eq=False)
class PointNotFound(HvpsError):
    """No recovery point answers to the selector."""

    selector: str
    repository: str
    template: ClassVar[str] = "no recovery point {selector!r} in {repository}"
    remedy: ClassVar[str] = "hvps list shows the points there are"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class AmbiguousPoint(PointNotFound):
    """A short id or VM name stands for more than one."""

    candidates: tuple[str, ...]
    template: ClassVar[str] = "{selector!r} in {repository} means any of {candidates}"
    remedy: ClassVar[str] = "use one of these ids"


@dataclass(eq=False)
class TargetExists(HvpsError):
    """A restore would overwrite a file."""

    path: str
    template: ClassVar[str] = "restore target {path} exists"
    remedy: ClassVar[str] = "name another path, or pass --overwrite"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
