"""Errors in reading files out of a disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class FilesUnreadable(HvpsError):
    """A volume or a file of a disk cannot be read, or not here."""

    name: str
    what: str
    template: ClassVar[str] = "cannot read {name}: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class FileNotFound(HvpsError):
    """The disk, volume or file does not exist."""

    name: str
    what: str
    template: ClassVar[str] = "no {name}: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID
