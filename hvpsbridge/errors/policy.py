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
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED

    def describe(self) -> str:
        return f"VM {self.vm} cannot be backed up: {self.reason}"


@dataclass(eq=False)
class Gated(HvpsError):
    """Not now: a gate such as another product's recovery checkpoint is shut."""

    vm: str
    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.GATED

    def describe(self) -> str:
        return f"VM {self.vm} skipped: {self.reason}"


@dataclass(eq=False)
class StoppedByPolicy(HvpsError):
    """A limit the user set (age, free space, deadline, unexpected full) stopped the run."""

    vm: str
    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY

    def describe(self) -> str:
        return f"VM {self.vm} stopped: {self.reason}"


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
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "this disk is compared whole until it has proved itself again"

    def describe(self) -> str:
        return f"change tracking of VM {self.vm} disk {self.disk} left out {self.chunks} changed chunks"
