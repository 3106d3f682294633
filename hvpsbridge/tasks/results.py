"""Results of tasks and runs: one per task and VM. Reports are made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.checks import EventInfo
from hvpsbridge.errors import ExitCode, Gated, HvpsError, NothingToBackUp, worst
from hvpsbridge.tasks.events import VmRef


class Outcome(StrEnum):
    """How a task ended."""

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Result of one task for one VM.

    Attributes:
        task: name of the task kind.
        started: UTC.
        seconds: duration.
        error: the error that ended the task, or None.
        conditions: errors that did not end it: a host that was not left clean, wrong change tracking.
        warnings: one line each, for people.
        leftovers: what it left on a host, one line each.
        host_events: what the event logs of the host have about a failure, oldest first.
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
    host_events: tuple[EventInfo, ...] = ()

    @property
    def section(self) -> object:
        """What reports contain under the name of the task: a dataclass, or a tuple of dataclasses."""
        return None

    @property
    def outcome(self) -> Outcome:
        """How the task ended."""
        if isinstance(self.error, Gated | NothingToBackUp):
            return Outcome.SKIPPED
        if self.error is not None:
            return Outcome.FAILED
        if self.planned_only:
            return Outcome.PLANNED
        return Outcome.DEGRADED if self.conditions or self.warnings else Outcome.DONE

    @property
    def problems(self) -> tuple[HvpsError, ...]:
        """All errors, first the one that ended the task."""
        return self.conditions if self.error is None else (self.error, *self.conditions)

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of this task alone (docs/exit-codes.md). Warnings alone give code 3.

        An unexpected error is a failure of its VM, not 1: a host must not set the exit code of the night.
        """
        codes = [
            ExitCode.VM_FAILED if problem.code is ExitCode.BUG else problem.code for problem in self.problems
        ]
        if self.warnings and self.error is None:
            codes.append(ExitCode.DEGRADED)
        return worst(codes)


@dataclass(frozen=True, slots=True)
class HostProblem:
    """An error that concerns a host or repository as a whole."""

    host: str
    error: HvpsError


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run; tasks in the order in which they ended.

    Attributes:
        problems: errors that concern a host, a repository or a selection as a whole.
    """

    run_id: UUID
    started: datetime
    seconds: float
    tasks: tuple[TaskResult, ...] = ()
    problems: tuple[HostProblem, ...] = field(default=())

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the run."""
        return worst(
            [
                *(task.exit_code for task in self.tasks),
                *(problem.error.code for problem in self.problems),
            ]
        )
