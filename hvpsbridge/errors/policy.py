"""What a rule of ours or of the user's stops: eligibility, gates, limits, trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class NotEligible(HvpsError):
    """A VM or disk cannot be backed up as it is; the reason carries its own remedy."""

    vm: str
    reason: str
    template: ClassVar[str] = "VM {vm} cannot be backed up: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class Gated(HvpsError):
    """Not now: a gate such as another product's recovery checkpoint is shut."""

    vm: str
    reason: str
    template: ClassVar[str] = "VM {vm} skipped: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.GATED


@dataclass(eq=False)
class StoppedByPolicy(HvpsError):
    """A limit the user set (age, free space, deadline, unexpected full) stopped the run."""

    vm: str
    reason: str
    template: ClassVar[str] = "VM {vm} stopped: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY


@dataclass(eq=False)
class HostNoSpace(StoppedByPolicy):
    """A volume of the VM is, or would become, too full for a checkpoint."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


@dataclass(eq=False)
class TrackingLied(HvpsError):
    """A digest taken on the host contradicts what change tracking said; the lineage is distrusted."""

    vm: str
    disk: str
    chunks: int
    template: ClassVar[str] = "change tracking of VM {vm} disk {disk} left out {chunks} changed chunks"
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "this disk is compared whole until it has proved itself again"
