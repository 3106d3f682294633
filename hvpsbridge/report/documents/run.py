"""The JSON truth: what came of a run, as typed values with a version, and their JSON text.

Rules for names and units are those of :mod:`hvpsbridge.report.documents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from hvpsbridge import __version__
from hvpsbridge.contract import CONTRACT
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.report.documents import VERSION, Document
from hvpsbridge.report.sections import task_sections
from hvpsbridge.report.values import inline, iso_time, jsonable
from hvpsbridge.tasks.results import RunResult, TaskResult
from hvpsbridge.units import one_line


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """One thing that went wrong.

    Attributes:
        kind: class of the error, stable.
        text: one line for people, with the remedy.
        exit_code: the code it would be alone.
        facts: its fields.
    """

    kind: str
    text: str
    exit_code: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One task of one VM.

    Attributes:
        leftovers: what it left on a host, one line each.
        sections: what it did; a key for each task kind, of which the one of this task is not null.
    """

    host: str
    vm: str
    vm_id: str | None
    task: str
    outcome: str
    exit_code: int
    started: str
    seconds: float
    conditions: tuple[ConditionReport, ...]
    warnings: tuple[str, ...]
    leftovers: tuple[str, ...]
    sections: object = field(metadata=inline(made_by=task_sections))

    @property
    def section(self) -> object:
        """What the task did."""
        return getattr(self.sections, self.task)


@dataclass(frozen=True, slots=True)
class RunReport(Document):
    """A whole run.

    Attributes:
        version: of this document.
        hvps: version of the program; contract: number of the operations' contract.
        name: the playbook's name, or the command's.
        check: whether it only planned.
        exit: the exit code's name.
        problems: hosts and repositories that failed as a whole.
    """

    version: int
    hvps: str
    contract: int
    run_id: str
    name: str
    check: bool
    started: str
    seconds: float
    exit_code: int
    exit: str
    tasks: tuple[TaskReport, ...]
    problems: tuple[ConditionReport, ...]


@dataclass(frozen=True, slots=True)
class TaskEvent(Document):
    """A line of ``hvps run --json-lines``: a task that ended."""

    event: Literal["task"]
    run_id: str
    task: TaskReport


@dataclass(frozen=True, slots=True)
class RunEvent(Document):
    """The last line of ``hvps run --json-lines``: the run, without its tasks."""

    event: Literal["run"]
    run: RunReport = field(metadata=inline(without=("tasks",)))


def run_report(result: RunResult, *, name: str, check: bool, exit_code: ExitCode | None = None) -> RunReport:
    """The document of a run.

    Args:
        result: what came of it.
        name: of the playbook, or the command.
        check: whether it only planned.
        exit_code: the process's, when an interrupt overrides the run's own.
    """
    code = result.exit_code if exit_code is None else exit_code
    return RunReport(
        version=VERSION,
        hvps=__version__,
        contract=CONTRACT,
        run_id=str(result.run_id),
        name=name,
        check=check,
        started=iso_time(result.started),
        seconds=round(result.seconds, 3),
        exit_code=int(code),
        exit=code.name.lower(),
        tasks=tuple(map(task_report, result.tasks)),
        problems=tuple(condition(problem.error) for problem in result.problems),
    )


def task_report(result: TaskResult) -> TaskReport:
    """The part of the document for one task of one VM."""
    return TaskReport(
        host=result.vm.host,
        vm=result.vm.name,
        vm_id=_id(result.vm.vm_id),
        task=result.task,
        outcome=result.outcome.value,
        exit_code=int(result.exit_code),
        started=iso_time(result.started),
        seconds=round(result.seconds, 3),
        conditions=tuple(map(condition, result.problems)),
        warnings=result.warnings,
        leftovers=result.leftovers,
        sections=task_sections()(**{result.task: result.section}),
    )


def condition(error: HvpsError) -> ConditionReport:
    """An error as the document tells it."""
    return ConditionReport(
        kind=error.kind,
        text=one_line(str(error)),
        exit_code=int(error.code),
        facts={name: jsonable(value) for name, value in error.facts().items()},
    )


def _id(value: UUID | None) -> str | None:
    return None if value is None else str(value)
