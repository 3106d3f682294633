"""Documents about runs: ``hvps run``, ``backup`` and ``restore``, and any command that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from hvpsbridge import __version__
from hvpsbridge.contract import CONTRACT
from hvpsbridge.contract.checks import EventInfo
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.report.documents import VERSION, Document
from hvpsbridge.report.sections import task_sections
from hvpsbridge.report.values import inline, jsonable
from hvpsbridge.secret import Word
from hvpsbridge.tasks.results import Outcome, RunResult, TaskResult
from hvpsbridge.text import one_line


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """An error.

    Attributes:
        kind: stable name of the error.
        text: one line for people, with the remedy.
        exit_code: exit code of this error alone.
        facts: details, by name; the kind determines the names.
    """

    kind: Word
    text: str
    exit_code: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One task of one VM, or of all VMs or the repository.

    Attributes:
        host: empty if the task was not for a single VM.
        vm: empty if the task was not for a single VM.
        vm_id: null if the VM was not found, or the task was not for a single VM.
        task: kind of the task.
        outcome: how the task ended.
        exit_code: exit code of this task alone.
        started: when the task started.
        conditions: errors, first the one that ended the task.
        warnings: one line each.
        leftovers: what the task left on a host, one line each.
        host_events: what the event logs of the host have about a failure, oldest first.
        sections: what the task did; a key for each kind of task, null for all other kinds.
    """

    host: str
    vm: str
    vm_id: UUID | None
    task: Word
    outcome: Outcome
    exit_code: int
    started: datetime
    seconds: float
    conditions: tuple[ConditionReport, ...]
    warnings: tuple[str, ...]
    leftovers: tuple[str, ...]
    host_events: tuple[EventInfo, ...]
    sections: object = field(metadata=inline(made_by=task_sections))

    @property
    def section(self) -> object:
        """What the task did: the section of its kind."""
        return getattr(self.sections, self.task)


@dataclass(frozen=True, slots=True)
class RunReport(Document):
    """A run.

    Attributes:
        version: version of this document.
        hvps: version of hvps.
        contract: version of the host operations.
        name: name of the playbook or command.
        check: whether the run only planned.
        exit_code: exit code of the process.
        exit: name of the exit code.
        problems: errors that concern a host or repository as a whole.
    """

    version: int
    hvps: str
    contract: int
    run_id: UUID
    name: str
    check: bool
    started: datetime
    seconds: float
    exit_code: int
    exit: Word
    tasks: tuple[TaskReport, ...]
    problems: tuple[ConditionReport, ...]


@dataclass(frozen=True, slots=True)
class TaskEvent(Document):
    """A line of ``hvps run --json-lines``: a task that has ended."""

    event: Literal["task"]
    run_id: UUID
    task: TaskReport


@dataclass(frozen=True, slots=True)
class RunEvent(Document):
    """The last line of ``hvps run --json-lines``: the run, without its tasks."""

    event: Literal["run"]
    run: RunReport = field(metadata=inline(without=("tasks",)))


def run_report(result: RunResult, *, name: str, check: bool, exit_code: ExitCode | None = None) -> RunReport:
    """The document of a run.

    Args:
        result: result of the run.
        name: name of the playbook or command.
        check: whether the run only planned.
        exit_code: exit code of the process, if it is not the one of the result (after a signal).
    """
    code = result.exit_code if exit_code is None else exit_code
    return RunReport(
        version=VERSION,
        hvps=__version__,
        contract=CONTRACT,
        run_id=result.run_id,
        name=name,
        check=check,
        started=result.started,
        seconds=round(result.seconds, 3),
        exit_code=int(code),
        exit=Word(code.name.lower()),
        tasks=tuple(map(task_report, result.tasks)),
        problems=tuple(condition(problem.error) for problem in result.problems),
    )


def task_report(result: TaskResult) -> TaskReport:
    """The report of one task of one VM."""
    return TaskReport(
        host=result.vm.host,
        vm=result.vm.name,
        vm_id=result.vm.vm_id,
        task=Word(result.task),
        outcome=result.outcome,
        exit_code=int(result.exit_code),
        started=result.started,
        seconds=round(result.seconds, 3),
        conditions=tuple(map(condition, result.problems)),
        warnings=result.warnings,
        leftovers=result.leftovers,
        host_events=result.host_events,
        sections=task_sections()(**{result.task: result.section}),
    )


def condition(error: HvpsError) -> ConditionReport:
    """The report of an error."""
    return ConditionReport(
        kind=Word(error.kind),
        text=one_line(str(error)),
        exit_code=int(error.code),
        facts={name: jsonable(value) for name, value in error.facts().items()},
    )
