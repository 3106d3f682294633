"""Views of the document of a run: tables, a recap, and lines. All of it is text, which ``cli`` prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge.contract.checks import EventInfo
from hvpsbridge.errors import HostNotClean
from hvpsbridge.report.documents import Document
from hvpsbridge.report.documents.run import RunEvent, RunReport, TaskEvent, TaskReport
from hvpsbridge.tasks.registry import TASKS, find_task
from hvpsbridge.tasks.tables import ResultTable
from hvpsbridge.tasks.task import Scope
from hvpsbridge.text import counted
from hvpsbridge.units import duration_text

# Levels of Windows: 1 critical, 2 error, 3 warning.
WARNING_LEVEL = 3
MAX_EVENT_LINES = 5


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings.

    Attributes:
        right: indexes of right-aligned columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def task_table(table: ResultTable, tasks: Iterable[TaskReport]) -> Table:
    """A table of one kind of task, with a row for each row of the sections of its tasks."""
    tasks = list(tasks)
    once = any(is_once(task) for task in tasks)
    rows = [
        (
            *(() if once else (task.host, task.vm) if table.with_host else (task.vm,)),
            *(column.text(row) for column in table.columns),
        )
        for task in tasks
        if task.section is not None
        for row in table.rows(task.section)
    ]
    first: tuple[str, ...] = () if once else ("host", "VM") if table.with_host else ("VM",)
    return Table(
        table.title,
        (*first, *(column.heading for column in table.columns)),
        tuple(rows),
        frozenset(number for number, column in enumerate(table.columns, len(first)) if column.right),
    )


def is_once(task: TaskReport) -> bool:
    """Whether a task was done once, and not for a VM."""
    return find_task(task.task).scope is not Scope.VM


def recap_table(report: RunReport) -> Table:
    """One row per VM with the number of its tasks by outcome, like the recap of Ansible."""
    outcomes = ("done", "planned", "degraded", "skipped", "failed")
    names: dict[tuple[str, str], dict[str, int]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for task in report.tasks:
        who = ("-", "-") if is_once(task) else (task.host, task.vm)
        counts = names.setdefault(who, dict.fromkeys(outcomes, 0))
        counts[task.outcome] += 1
        seconds[who] = seconds.get(who, 0.0) + task.seconds
    shown = [name for name in outcomes if name != "planned" or report.check]
    rows = [
        (host, vm, *(str(counts[name]) for name in shown), duration_text(seconds[host, vm]))
        for (host, vm), counts in names.items()
    ]
    return Table("recap", ("host", "VM", *shown, "time"), tuple(rows), frozenset(range(2, 3 + len(shown))))


def run_tables(report: RunReport) -> tuple[Table, ...]:
    """The tables to show after a run, without empty ones."""
    tables = [
        task_table(table, [task for task in report.tasks if task.task == kind])
        for kind in _kinds(report)
        for table in find_task(kind).tables
        if table.planned == report.check
    ]
    return tuple(table for table in (*tables, recap_table(report)) if table.rows)


def _kinds(report: RunReport) -> list[str]:
    """Kinds of the tasks in a run, in the order of :data:`TASKS`."""
    return [kind for kind in TASKS if any(task.task == kind for task in report.tasks)]


def condition_lines(report: RunReport) -> tuple[str, ...]:
    """One line for each error, warning and note, preceded by the VM."""
    lines = [problem.text for problem in report.problems]
    for task in report.tasks:
        who = task.task if is_once(task) else f"{task.host}/{task.vm} {task.task}"
        lines += [f"{who}: {problem.text}" for problem in task.conditions]
        lines += [f"{who}: warning: {warning}" for warning in task.warnings]
        if task.section is not None:
            lines += [f"{who}: {line}" for line in find_task(task.task).lines(task.section, report.check)]
        # HostNotClean lists the leftovers.
        if task.leftovers and not any(problem.kind == HostNotClean.__name__ for problem in task.conditions):
            lines.append(f"{who}: left on the host: {', '.join(task.leftovers)}")
        lines += [f"{who}: {line}" for line in event_lines(task.host_events)]
    return tuple(dict.fromkeys(lines))


def event_lines(events: Iterable[EventInfo]) -> tuple[str, ...]:
    """The last few warnings and errors in the event logs of a host; the document has all entries."""
    grave = [event for event in events if event.level <= WARNING_LEVEL]
    return tuple(
        f"event {event.event_id} of {event.log.removeprefix('Microsoft-Windows-')} "
        f"at {event.time:%H:%M:%S}: {event.text}"
        for event in grave[-MAX_EVENT_LINES:]
    )


def summary_line(report: RunReport) -> str:
    """The last line: how the run ended, its exit code and time."""
    verb = "planned" if report.check else "ended"
    return (
        f"{report.name}: {counted(len(report.tasks), 'task')} {verb}: {report.exit.replace('_', ' ')} "
        f"(exit {report.exit_code}) in {duration_text(report.seconds)}, run {report.run_id.hex[:8]}"
    )


def run_events(report: RunReport) -> tuple[Document, ...]:
    """Documents of ``--json-lines``: one per task, then one for the run without its tasks."""
    tasks = (TaskEvent("task", report.run_id, task) for task in report.tasks)
    return (*tasks, RunEvent("run", report))
