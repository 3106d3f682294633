"""Errors that come from rules: eligibility, temporary conditions, limits, trust in change tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class NotEligible(HvpsError):
    """A VM or disk cannot be backed up as it is. The reason includes a remedy."""

    vm: str
    reason: str
    template: ClassVar[str] = "VM {vm} cannot be backed up: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class NothingToBackUp(HvpsError):
    """A VM that only a pattern selects has no disk, and never had a recovery point: nothing is missed."""

    vm: str
    template: ClassVar[str] = "VM {vm} skipped: it has no virtual disk"
    remedy: ClassVar[str] = "exclude it from the play if this is intended"
    exit_code: ClassVar[ExitCode] = ExitCode.DONE


@dataclass(eq=False)
class Gated(HvpsError):
    """A temporary condition, such as a backup by another product, lasted longer than hvps may wait."""

    vm: str
    reason: str
    template: ClassVar[str] = "VM {vm} skipped: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.GATED


@dataclass(eq=False)
class StaysBusy(HvpsError):
    """A VM was busy whenever it was to be backed up, on several days: that does not pass by itself.

    Attributes:
        reason: what the last run met.
        days: on how many days there were runs since its newest recovery point.
    """

    vm: str
    reason: str
    days: int
    template: ClassVar[str] = "VM {vm} has had no recovery point in its runs on {days} days: {reason}"
    remedy: ClassVar[str] = "find out what keeps it busy; that does not end by itself"
    exit_code: ClassVar[ExitCode] = ExitCode.VM_FAILED


@dataclass(eq=False)
class StoppedByPolicy(HvpsError):
    """A limit that the user set (age, free space, deadline, unexpected full) stopped the backup."""

    vm: str
    reason: str
    template: ClassVar[str] = "backup of VM {vm} stopped: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY


@dataclass(eq=False)
class HostNoSpace(StoppedByPolicy):
    """A volume of the VM is too full for a checkpoint, or would become so."""

    remedy: ClassVar[str] = "free space on the volume, or lower free_space_floor"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


@dataclass(eq=False)
class TrackingLied(HvpsError):
    """A digest taken on the host contradicts change tracking, so hvps distrusts it for this disk."""

    vm: str
    disk: str
    chunks: int
    template: ClassVar[str] = "change tracking of VM {vm}, disk {disk}, missed {chunks} changed chunks"
    remedy: ClassVar[str] = "hvps compares this disk in full until its tracking has proved correct again"
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE


@dataclass(eq=False)
class NoRetentionRule(HvpsError, ValueError):
    """No retention rule is set. It is a ValueError, too, so that a playbook shows the line."""

    template: ClassVar[str] = "no retention rule is set"
    remedy: ClassVar[str] = "set at least one of keep_last, keep_daily, keep_within and the like"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class PruneOutOfLine(HvpsError):
    """A prune would remove far more than earlier ones did.

    Attributes:
        removed: number of points it would remove.
        findings: what is out of line.
    """

    removed: int
    findings: tuple[str, ...]
    template: ClassVar[str] = "nothing was pruned, since too many points would be removed: {findings}"
    remedy: ClassVar[str] = (
        "look at the decisions with `hvps prune --check`; if they are right, run it with --remove {removed}"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY
