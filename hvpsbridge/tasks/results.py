"""What came of tasks, with figures. One result per task and VM; reports are views of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from hvpsbridge.errors import ExitCode, Gated, HvpsError, worst
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.planning.eligibility import Finding
from hvpsbridge.tasks.planning.plan import Mode, Reason, VmPlan


class Outcome(StrEnum):
    """How a task of a VM ended."""

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class DiskFigures:
    """What the backup of one disk did. Sizes in bytes.

    Attributes:
        changed_bytes: as change tracking reported; what was read whole for a full or a compare.
        read_bytes: raw bytes taken from the frozen disk.
        wire_bytes: received for them, digests included.
        stored_bytes: added to the repository for this disk, as far as it can be told apart.
        proved_bytes: how much of the disk was proved equal to the frozen one before the commit.
        lied_chunks: chunks that tracking left out and the proof found; read and stored since.
    """

    slot: str
    size_bytes: int
    mode: Mode
    reason: Reason
    detail: str
    changed_bytes: int
    read_bytes: int
    wire_bytes: int
    stored_bytes: int
    new_chunks: int
    reread_chunks: int
    resumed: int
    proved_bytes: int
    lied_chunks: int
    seconds: float

    @property
    def rate_bytes(self) -> float:
        """Raw bytes read a second; 0 when no time was taken."""
        return self.read_bytes / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What came of one task on one VM.

    Attributes:
        vm: whom it was about.
        task: ``backup``, ``verify`` or ``restore``.
        started: UTC.
        seconds: how long it took.
        error: what ended it, else None.
        conditions: errors that did not end it: a host not left clean, tracking that lied.
        warnings: one line each, for people.
        leftovers: what it left on a host, one line each.
    """

    vm: VmRef
    task: str
    started: datetime
    seconds: float
    error: HvpsError | None = None
    conditions: tuple[HvpsError, ...] = ()
    warnings: tuple[str, ...] = ()
    planned_only: bool = False
    leftovers: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        if isinstance(self.error, Gated):
            return Outcome.SKIPPED
        if self.error is not None:
            return Outcome.FAILED
        if self.planned_only:
            return Outcome.PLANNED
        return Outcome.DEGRADED if self.conditions or self.warnings else Outcome.DONE

    @property
    def problems(self) -> tuple[HvpsError, ...]:
        """Everything that went wrong, the ending error first."""
        return self.conditions if self.error is None else (self.error, *self.conditions)

    @property
    def exit_code(self) -> ExitCode:
        """The one code that stands for this result (docs/exit-codes.md). Warnings alone are code 3."""
        codes = [problem.code for problem in self.problems]
        if self.warnings and self.error is None:
            codes.append(ExitCode.DEGRADED)
        return worst(codes)


@dataclass(frozen=True, slots=True)
class BackupResult(TaskResult):
    """What came of a backup.

    Attributes:
        plan: None when it ended before the plan.
        findings: what of the VM and its disks mattered to it.
        point_id: the recovery point, None when there is none.
        consistency: reached, as a word; empty without a checkpoint.
    """

    plan: VmPlan | None = None
    findings: tuple[Finding, ...] = ()
    point_id: UUID | None = None
    consistency: str = ""
    disks: tuple[DiskFigures, ...] = ()
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostProblem:
    """A host on which no VM could be worked on at all, and why."""

    host: str
    error: HvpsError


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a whole run, in the order things ended.

    Attributes:
        problems: hosts, repositories and selections that failed as a whole.
    """

    run_id: UUID
    started: datetime
    seconds: float
    tasks: tuple[TaskResult, ...] = ()
    problems: tuple[HostProblem, ...] = field(default=())

    @property
    def exit_code(self) -> ExitCode:
        """The one code that stands for the run."""
        return worst(
            [
                *(task.exit_code for task in self.tasks),
                *(problem.error.code for problem in self.problems),
            ]
        )
