"""Views of the truth: tables for people, a recap, lines for machines. Text only; the cli prints it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hvpsbridge.errors import HostNotClean
from hvpsbridge.report.documents import Document
from hvpsbridge.report.truth import RunEvent, RunReport, TaskEvent, TaskReport
from hvpsbridge.units import duration_text, rate_text, size_text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings.

    Attributes:
        right: indexes of columns of figures, set to the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def plan_table(report: RunReport) -> Table:
    """What ``--check`` found: mode and reason of each disk."""
    rows = [
        (task.host, task.vm, disk.slot, size_text(disk.size_bytes), disk.mode, disk.reason_text)
        for task in report.tasks
        if task.backup is not None
        for disk in task.backup.plan
    ]
    return Table("plan", ("host", "VM", "disk", "size", "mode", "reason"), tuple(rows), frozenset({3}))


def backup_table(tasks: Iterable[TaskReport]) -> Table:
    """Per disk of each backup: mode, reason and figures."""
    rows = [
        (
            task.host,
            task.vm,
            disk.slot,
            disk.mode,
            disk.reason_text,
            size_text(disk.changed_bytes),
            size_text(disk.wire_bytes),
            size_text(disk.stored_bytes),
            duration_text(disk.seconds),
            rate_text(disk.read_bytes, disk.seconds),
        )
        for task in tasks
        if task.backup is not None
        for disk in task.backup.disks
    ]
    return Table(
        "backups",
        ("host", "VM", "disk", "mode", "reason", "changed", "wire", "stored", "time", "rate"),
        tuple(rows),
        frozenset({5, 6, 7, 8, 9}),
    )


def recap_table(report: RunReport) -> Table:
    """One row per VM, as Ansible's recap: how many of its tasks ended how."""
    outcomes = ("done", "planned", "degraded", "skipped", "failed")
    names: dict[tuple[str, str], dict[str, int]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for task in report.tasks:
        who = (task.host, task.vm)
        counts = names.setdefault(who, dict.fromkeys(outcomes, 0))
        counts[task.outcome] += 1
        seconds[who] = seconds.get(who, 0.0) + task.seconds
    shown = [name for name in outcomes if name != "planned" or report.check]
    rows = [
        (host, vm, *(str(counts[name]) for name in shown), duration_text(seconds[host, vm]))
        for (host, vm), counts in names.items()
    ]
    return Table("recap", ("host", "VM", *shown, "time"), tuple(rows), frozenset(range(2, 3 + len(shown))))


def verify_table(tasks: Iterable[TaskReport]) -> Table:
    """Points looked at."""
    rows = [
        (
            task.host,
            task.vm,
            point.point_id[:8],
            point.level,
            size_text(point.checked_bytes),
            "; ".join(point.faults) or "good",
        )
        for task in tasks
        for point in task.verify or ()
    ]
    return Table("points verified", ("host", "VM", "point", "level", "read", "found"), tuple(rows))


def restore_table(tasks: Iterable[TaskReport]) -> Table:
    """Disks written out."""
    rows = [
        (
            task.vm,
            (task.restore.point_id or "")[:8],
            disk.slot,
            disk.path,
            size_text(disk.size_bytes),
            size_text(disk.data_bytes),
            duration_text(disk.seconds),
        )
        for task in tasks
        if task.restore is not None
        for disk in task.restore.disks
    ]
    return Table(
        "disks restored",
        ("VM", "point", "disk", "file", "size", "data", "time"),
        tuple(rows),
        frozenset({4, 5, 6}),
    )


def run_tables(report: RunReport) -> tuple[Table, ...]:
    """Tables worth showing after a run; empty ones are left out."""
    first = plan_table(report) if report.check else backup_table(report.tasks)
    tables = (first, verify_table(report.tasks), restore_table(report.tasks), recap_table(report))
    return tuple(table for table in tables if table.rows)


def condition_lines(report: RunReport) -> tuple[str, ...]:
    """One line for each thing that went wrong or is worth knowing, the VM's name before it."""
    lines = [problem.text for problem in report.problems]
    for task in report.tasks:
        who = f"{task.host}/{task.vm} {task.task}"
        lines += [f"{who}: {problem.text}" for problem in task.conditions]
        lines += [f"{who}: warning: {warning}" for warning in task.warnings]
        if task.backup is not None and report.check:
            lines += [
                f"{who}: {found.severity}: {found.text}; {found.remedy}" for found in task.backup.findings
            ]
        if task.restore is not None:
            lines += [
                f"{who}: disk {disk.slot} ({disk.path or 'physical disk'}) was left out of this point"
                for disk in task.restore.excluded
            ]
        told = any(problem.kind == HostNotClean.__name__ for problem in task.conditions)
        if task.backup is not None and task.backup.leftovers and not told:
            lines.append(f"{who}: left on the host: {', '.join(task.backup.leftovers)}")
    return tuple(dict.fromkeys(lines))


def summary_line(report: RunReport) -> str:
    """The last line: how the run ended, its code and time."""
    count = len(report.tasks)
    what = "1 task" if count == 1 else f"{count} tasks"
    verb = "planned" if report.check else "ended"
    return (
        f"{report.name}: {what} {verb}: {report.exit.replace('_', ' ')} "
        f"(exit {report.exit_code}) in {duration_text(report.seconds)}, run {report.run_id[:8]}"
    )


def run_events(report: RunReport) -> tuple[Document, ...]:
    """Documents of ``--json-lines``: one per task, then one for the run without its tasks."""
    tasks = (TaskEvent("task", report.run_id, task) for task in report.tasks)
    return (*tasks, RunEvent("run", report))
