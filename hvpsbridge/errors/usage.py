"""Errors in command lines, playbooks and what they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class UsageError(HvpsError):
    """The command line is invalid."""

    what: str
    template: ClassVar[str] = "{what}"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


@dataclass(eq=False)
class ConfigurationError(HvpsError):
    """A playbook, a configuration file or a reference to a secret is invalid."""

    where: str
    what: str
    template: ClassVar[str] = "{where}: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class SecretUnavailable(ConfigurationError):
    """A secret cannot be read. Its value is never part of the text."""


@dataclass(eq=False)
class PointNotFound(HvpsError):
    """No recovery point matches the selector."""

    selector: str
    repository: str
    template: ClassVar[str] = "no recovery point {selector!r} in {repository}"
    remedy: ClassVar[str] = "run `hvps list` to list the points"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class AmbiguousPoint(PointNotFound):
    """A short id or a VM name matches several points or VMs."""

    candidates: tuple[str, ...]
    template: ClassVar[str] = "{selector!r} in {repository} matches {candidates}"
    remedy: ClassVar[str] = "use one of these ids; id:PREFIX names a point by its id"


@dataclass(eq=False)
class TargetExists(HvpsError):
    """A restore would overwrite a file."""

    path: str
    template: ClassVar[str] = "{path} already exists"
    remedy: ClassVar[str] = "use another path or --overwrite"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class PlaceShared(HvpsError):
    """Two tasks of one run would write to one place, so neither does."""

    path: str
    one: str
    other: str
    template: ClassVar[str] = "{path} would be written twice: for {one} and for {other}"
    remedy: ClassVar[str] = "use {{{{ vm_id }}}} or {{{{ host }}}} in the path, or another path for each task"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
