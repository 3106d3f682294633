"""What came of tasks, with figures. One result per task and VM; reports are views of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from hvpsbridge.errors import ExitCode, Gated, HvpsError, worst
from hvpsbridge.tasks.events import VmRef


class Outcome(StrEnum):
    """How a task of a VM ended."""

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What came of one task on one VM.

    Attributes:
        task: name of its kind.
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
    def section(self) -> object:
        """What reports hold under the task's name: a dataclass, or a tuple of dataclasses."""
        return None

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
