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
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.report.documents import VERSION, Document
from hvpsbridge.report.values import inline, iso_time, jsonable, one_line
from hvpsbridge.tasks.planning.plan import DiskPlan, VmPlan
from hvpsbridge.tasks.restore import RestoredDisk, RestoreResult
from hvpsbridge.tasks.results import (
    BackupResult,
    DiskFigures,
    RunResult,
    TaskResult,
)
from hvpsbridge.tasks.verify import PointCheck, VerifyResult


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


@dataclass(frozen=True, slots=True)
class DiskPlanReport:
    """What is planned for one disk, and why."""

    slot: str
    size_bytes: int
    mode: str
    reason: str
    reason_text: str
    expected: bool


@dataclass(frozen=True, slots=True)
class DiskReport:
    """What the backup of one disk did; see :class:`~hvpsbridge.tasks.results.DiskFigures`."""

    slot: str
    size_bytes: int
    mode: str
    reason: str
    reason_text: str
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
    rate_bytes: float


@dataclass(frozen=True, slots=True)
class FindingReport:
    """One fact about a VM that a backup has to heed, and the one thing to do about it."""

    severity: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ExcludedDiskReport:
    """A disk of the VM that is not in the point because the playbook leaves it out."""

    slot: str
    path: str | None
    size_bytes: int
    pattern: str


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup did; ``plan``, ``excluded`` and ``findings`` also without a backup (``--check``)."""

    point_id: str | None
    consistency: str
    stored_bytes: int
    plan: tuple[DiskPlanReport, ...]
    findings: tuple[FindingReport, ...]
    disks: tuple[DiskReport, ...]
    leftovers: tuple[str, ...]
    excluded: tuple[ExcludedDiskReport, ...] = ()


@dataclass(frozen=True, slots=True)
class PointReport:
    """One point that was verified."""

    point_id: str
    level: str
    checked_bytes: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoredDiskReport:
    """One disk written out."""

    slot: str
    path: str
    size_bytes: int
    data_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore wrote, and which disks of the VM the point does not have."""

    point_id: str | None
    disks: tuple[RestoredDiskReport, ...]
    excluded: tuple[ExcludedDiskReport, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of one VM. Exactly one of ``backup``, ``verify`` and ``restore`` is there."""

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
    backup: BackupReport | None = None
    verify: tuple[PointReport, ...] | None = None
    restore: RestoreReport | None = None


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
        backup=_backup(result) if isinstance(result, BackupResult) else None,
        verify=tuple(map(_point, result.points)) if isinstance(result, VerifyResult) else None,
        restore=_restore(result) if isinstance(result, RestoreResult) else None,
    )


def condition(error: HvpsError) -> ConditionReport:
    """An error as the document tells it."""
    return ConditionReport(
        kind=error.kind,
        text=one_line(str(error)),
        exit_code=int(error.code),
        facts={name: jsonable(value) for name, value in error.facts().items()},
    )


def _backup(result: BackupResult) -> BackupReport:
    return BackupReport(
        point_id=_id(result.point_id),
        consistency=result.consistency,
        stored_bytes=result.stored_bytes,
        plan=plan_report(result.plan),
        findings=tuple(
            FindingReport(finding.severity.value, finding.text, finding.remedy) for finding in result.findings
        ),
        disks=tuple(map(_disk, result.disks)),
        leftovers=result.leftovers,
        excluded=() if result.plan is None else tuple(map(_excluded, result.plan.excluded)),
    )


def plan_report(plan: VmPlan | None) -> tuple[DiskPlanReport, ...]:
    """Mode and reason of each disk; empty without a plan."""
    return () if plan is None else tuple(map(_disk_plan, plan.disks))


def _disk_plan(plan: DiskPlan) -> DiskPlanReport:
    return DiskPlanReport(
        plan.slot,
        plan.facts.size_bytes,
        plan.mode.value,
        plan.reason.word,
        one_line(plan.why),
        plan.reason.expected,
    )


def _disk(disk: DiskFigures) -> DiskReport:
    why = f"{disk.reason.text} ({disk.detail})" if disk.detail else disk.reason.text
    return DiskReport(
        slot=disk.slot,
        size_bytes=disk.size_bytes,
        mode=disk.mode.value,
        reason=disk.reason.word,
        reason_text=one_line(why),
        changed_bytes=disk.changed_bytes,
        read_bytes=disk.read_bytes,
        wire_bytes=disk.wire_bytes,
        stored_bytes=disk.stored_bytes,
        new_chunks=disk.new_chunks,
        reread_chunks=disk.reread_chunks,
        resumed=disk.resumed,
        proved_bytes=disk.proved_bytes,
        lied_chunks=disk.lied_chunks,
        seconds=round(disk.seconds, 3),
        rate_bytes=round(disk.rate_bytes, 1),
    )


def _point(check: PointCheck) -> PointReport:
    return PointReport(
        str(check.point_id), check.level, check.checked_bytes, tuple(map(one_line, check.faults))
    )


def _restore(result: RestoreResult) -> RestoreReport:
    return RestoreReport(
        _id(result.point_id), tuple(map(_restored, result.disks)), tuple(map(_excluded, result.excluded))
    )


def _excluded(disk: ExcludedDisk) -> ExcludedDiskReport:
    return ExcludedDiskReport(disk.slot, disk.path, disk.size_bytes, disk.pattern)


def _restored(disk: RestoredDisk) -> RestoredDiskReport:
    return RestoredDiskReport(disk.slot, disk.path, disk.size_bytes, disk.data_bytes, round(disk.seconds, 3))


def _id(value: UUID | None) -> str | None:
    return None if value is None else str(value)
