"""The task ``verify``: checks whether recovery points of a VM are intact in the repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import Damaged, HvpsError, PointNotFound, RepositoryError
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.check.coverage import Checked, Coverage
from hvpsbridge.repository.check.verify import Level, VerifyReport
from hvpsbridge.tasks.boots import BootOptions, check_boots, record_boots
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.files.readable import check_readable, record_readable
from hvpsbridge.tasks.proofs import not_recorded, record_proof
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Task, TaskContext
from hvpsbridge.tasks.verify_options import Points, VerifyOptions, parts_of_day
from hvpsbridge.text import one_line
from hvpsbridge.units import size_text, span_text


@dataclass(frozen=True, slots=True)
class PointCheck:
    """Result for one recovery point.

    Attributes:
        level: how much was checked.
        checked_bytes: raw bytes that were hashed, of all points checked together.
        faults: problems, one line each.
        coverage: of a budget, of all points checked together.
    """

    point_id: UUID
    level: str
    checked_bytes: int
    faults: tuple[str, ...]
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True)
class VerifyResult(TaskResult):
    """Result of a verify."""

    points: tuple[PointCheck, ...] = ()

    @property
    def section(self) -> tuple[PointCheck, ...]:
        """Its points."""
        return self.points


def coverage_text(covered: Coverage) -> str:
    """How far a budget went, for people."""
    every = (
        f"in {covered.passes} such verifications"
        if covered.period_seconds is None
        else f"every {span_text(covered.period_seconds)}"
    )
    return (
        f"{covered.read_packs} of {covered.packs} packs read ({size_text(covered.read_bytes)} of "
        f"{size_text(covered.pack_bytes)}); at this budget everything is verified {every}"
    )


def too_small_text(covered: Coverage) -> str:
    """The warning about a budget that is too small."""
    stored = size_text(covered.stored_bytes or 0)
    return (
        f"the budget is too small: {size_text(covered.read_bytes)} were read, but backups store {stored} "
        f"between two verifications; at this budget everything is verified every "
        f"{span_text(covered.period_seconds or 0)}, and later each time"
    )


def record_findings(
    repository: Repository,
    report: VerifyReport,
    points: Sequence[Point],
    run_id: UUID,
    *,
    whole: bool,
    checked: Checked | None = None,
) -> str | None:
    """Record bad chunks, so that no backup reuses them, which packs were read, and proofs of intact points.

    Called after the findings are reported. A verify needs only read access: if the store refuses to write,
    the findings remain what they are.

    Args:
        points: points that were verified.
        whole: whether all of their chunks were, not a part.
        checked: packs that were read.

    Returns:
        Why not everything could be recorded; None if it was.
    """
    try:
        repository.publish_bad(report.bad)
        if checked is not None:
            repository.record_checked(checked)
    except RepositoryError as err:
        return not_recorded(err)
    if report.level is not Level.HASHED or not whole or report.coverage is not None:
        return None
    touched = {touch.point_id for problem in report.problems for touch in problem.touches}
    for point in points:
        if point.point_id not in touched:
            size_bytes = sum(disk.size_bytes for disk in point.disks)
            warning = record_proof(repository, point, "hashed", size_bytes, run_id)
            if warning is not None:
                return warning
    return None


def verify_vm(context: TaskContext, options: VerifyOptions) -> VerifyResult:
    """Verify recovery points of a VM and record the findings. Damage is the error of the result."""
    vm, repository = context.vm, context.repository
    started = datetime.now(UTC)
    error: HvpsError | None = None
    checks: tuple[PointCheck, ...] = ()
    warnings: list[str] = []
    try:
        points = _points(repository, vm, options.points)
        faults: dict[UUID, list[str]] = {point.point_id: [] for point in points}
        checked_bytes = 0
        covered: Coverage | None = None
        # Only hashing has parts: the other levels would do all of their work once for each.
        subset = options.subset if options.level is Level.HASHED else None
        for part in parts_of_day(subset, started.date()):
            context.cancel.check()
            checked = Checked()
            report = repository.verify(
                options.level, points, subset=part, budget=options.budget, checked=checked
            )
            covered = report.coverage
            if covered is not None and not covered.enough:
                warnings.append(too_small_text(covered))
            checked_bytes += report.hashed_bytes
            _sort(report, faults)
            if options.level is Level.READABLE:
                warnings += _readable(repository, points, context)
            if options.level is Level.BOOTS and report.good:
                warnings += _boots(repository, points, context, options.boot)
            warning = record_findings(
                repository, report, points, context.run_id, whole=subset is None, checked=checked
            )
            if warning is not None and warning not in warnings:
                warnings.append(warning)
        checks = tuple(
            PointCheck(
                point.point_id, options.level.value, checked_bytes, tuple(faults[point.point_id]), covered
            )
            for point in points
        )
        bad = [check for check in checks if check.faults]
        lost = repository.catalog.lost_points(vm.vm_id)
        if bad:
            error = Damaged(
                repository.url, f"{len(bad)} of {len(checks)} points of VM {vm.name}", bad[0].faults[0]
            )
        elif lost and options.points is Points.ALL:
            error = Damaged(repository.url, lost[0].name, lost[0].what)
    except HvpsError as err:
        error = err
    return VerifyResult(
        vm=vm,
        task="verify",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        warnings=tuple(warnings),
        points=checks,
    )


def _readable(repository: Repository, points: Sequence[Point], context: TaskContext) -> list[str]:
    """What could not be read of points, and what could not be recorded."""
    warnings = []
    for point in points:
        context.cancel.check()
        check = check_readable(repository, point)
        warnings += [f"point {point.short_id} not shown to be readable: {each}" for each in check.not_shown]
        warning = record_readable(repository, point, check, context.run_id)
        warnings += [] if warning is None else [warning]
    return warnings


def _boots(
    repository: Repository, points: Sequence[Point], context: TaskContext, options: BootOptions
) -> list[str]:
    """Points that were not shown to boot, and what could not be recorded."""
    warnings = []
    for point in points:
        check = check_boots(repository, point, options, context.cancel.pause)
        if not check.shown:
            screen = f"; screenshot {check.screenshot}" if check.screenshot else ""
            warnings.append(
                f"point {point.short_id} not shown to boot ({check.accelerator}): {check.what}{screen}"
            )
        warning = record_boots(repository, point, check, context.run_id)
        warnings += [] if warning is None else [warning]
    return warnings


def _points(repository: Repository, vm: VmRef, which: Points) -> tuple[Point, ...]:
    if vm.vm_id is None:
        raise PointNotFound(vm.name, repository.url)
    if which is Points.LATEST:
        return (repository.catalog.find_point_of(vm.vm_id, "latest"),)
    points = repository.catalog.points(vm.vm_id)
    if not points:
        raise PointNotFound(f"{vm.name}@latest", repository.url)
    return points


def _sort(report: VerifyReport, faults: dict[UUID, list[str]]) -> None:
    """Add each problem to the points it affects; one that affects none counts for all."""
    for problem in report.problems:
        text = one_line(f"{problem.name}: {problem.what}")
        touched = {touch.point_id for touch in problem.touches} or set(faults)
        for point_id in touched & set(faults):
            if text not in faults[point_id]:
                faults[point_id].append(text)


def _covered(covered: Coverage | None) -> str:
    return "-" if covered is None else f"{covered.read_packs} of {covered.packs} packs"


TASK = Task(
    name="verify",
    summary="verify recovery points in the repository",
    options=VerifyOptions,
    run=verify_vm,
    result=VerifyResult,
    tables=(
        ResultTable(
            "points verified",
            lambda points: points,
            (
                Column("point", lambda point: str(point.point_id)[:8]),
                Column("level", lambda point: point.level),
                Column("read", lambda point: size_text(point.checked_bytes)),
                Column("covered", lambda point: _covered(point.coverage)),
                Column("found", lambda point: "; ".join(point.faults) or "good"),
            ),
        ),
    ),
)
