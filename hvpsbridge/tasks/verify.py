"""The task ``verify``: checks whether recovery points of a VM are intact in the repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

from hvpsbridge.errors import Damaged, HvpsError, PointNotFound, RepositoryError
from hvpsbridge.options import Option, TextForm, Unit
from hvpsbridge.qemu.guest import Accelerator
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.check.coverage import Budget, Checked, Coverage
from hvpsbridge.repository.check.verify import Level, VerifyReport
from hvpsbridge.tasks.boots import STAY_SECONDS, WAIT_SECONDS, BootOptions, check_boots, record_boots
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.files.readable import check_readable, record_readable
from hvpsbridge.tasks.proofs import not_recorded, record_proof
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Task, TaskContext
from hvpsbridge.text import one_line
from hvpsbridge.units import parse_duration, parse_size, size_text, span_text


class Points(StrEnum):
    """Which recovery points of a VM."""

    LATEST = "latest"
    ALL = "all"


def parse_part(text: str) -> tuple[int, int]:
    """Numerator and denominator of a part such as ``1/14``.

    Raises:
        ValueError: it is not a part, or more than the whole.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError("must be n/m with n not greater than m, for example 1/14")
    return int(match[1]), int(match[2])


def parse_budget(text: str) -> Budget:
    """The budget in a text such as ``45m`` or ``500GiB``.

    Raises:
        ValueError: it is neither a duration nor a size with a unit.
    """
    if not text.strip()[-1:].isdigit():
        with contextlib.suppress(ValueError):
            return Budget(seconds=parse_duration(text))
        with contextlib.suppress(ValueError):
            return Budget(size_bytes=parse_size(text))
    raise ValueError("must be a time or a size with its unit, for example 45m or 500GiB")


BUDGET = TextForm(
    read=parse_budget,
    name="time or size, as `45m` or `500GiB`",
    pattern=r"^[\d.]+ *[A-Za-z]+$",
    examples=("45m", "500GiB"),
    metavar="TIME|SIZE",
)
PART = TextForm(read=parse_part, name="part, as `1/14`", pattern=r"^[1-9]\d*/[1-9]\d*$", examples=("1/14",))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Task `verify`: check recovery points of the selected VMs and what they need; not key slots, ids, ledger
    and `restore.py`, which `hvps verify` without points checks, too."""

    level: Annotated[
        Level,
        Option(
            "`written`: check that everything exists; `hashed`: also read and hash every chunk; "
            "`readable`: check that everything exists, open file systems and read a sample of files; "
            "`boots`: check that everything exists, and boot in QEMU without a network"
        ),
    ] = Level.HASHED
    points: Annotated[Points, Option("which points")] = Points.LATEST
    subset: Annotated[
        tuple[int, int] | None, Option("part of the data, a different part each day", form=PART)
    ] = None
    budget: Annotated[
        Budget | None,
        Option(
            "with the level `hashed`: how long to read packs, or how many bytes of them, first those that "
            "were not read for longest; all trees are walked in any case",
            form=BUDGET,
        ),
    ] = None
    boot_wait: Annotated[float, Option("how long a boot may take", unit=Unit.SECONDS, more_than=0)] = (
        WAIT_SECONDS
    )
    boot_stay: Annotated[
        float,
        Option("how long the screen of a booted system must stay", unit=Unit.SECONDS, more_than=0),
    ] = STAY_SECONDS
    boot_mark: Annotated[
        str, Option("text on the serial line that says that the guest is up; a login prompt does, too")
    ] = ""
    screenshots: Annotated[
        Path | None,
        Option("folder of screenshots of boots; without it the folder screenshots of the state folder"),
    ] = None
    accelerator: Annotated[
        Accelerator | None,
        Option("what QEMU runs the guest by; without it KVM, or TCG where that is not possible"),
    ] = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.level is not Level.HASHED:
            raise ValueError("a budget is only possible with the level hashed")
        if self.budget is not None and self.subset is not None:
            raise ValueError("use either a budget or a subset, not both")

    @property
    def boot(self) -> BootOptions:
        """How boots are watched."""
        return BootOptions(
            wait_seconds=self.boot_wait,
            stay_seconds=self.boot_stay,
            mark=self.boot_mark,
            screenshots=self.screenshots,
            accelerator=self.accelerator,
        )


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


def parts_of_day(subset: tuple[int, int] | None, day: date) -> tuple[tuple[int, int], ...]:
    """Parts of the chunks to verify on ``day``, as (part, count) with parts from 1.

    ``(1, 14)`` gives a different fourteenth each day, and all of them in two weeks; ``(2, 14)`` gives two a
    day.
    """
    if subset is None:
        return ((1, 1),)
    wanted, count = subset
    first = day.toordinal() * wanted
    return tuple(((first + step) % count + 1, count) for step in range(min(wanted, count)))


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
        for part in parts_of_day(options.subset, started.date()):
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
            whole = options.subset is None
            warning = record_findings(
                repository, report, points, context.run_id, whole=whole, checked=checked
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
