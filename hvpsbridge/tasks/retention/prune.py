"""Prunes the points that no rule keeps, and that nothing else needs.

A prune takes no lease. It removes nothing that a backup in progress counts from: the newest points of a VM
and the bases of its next increments stay, and a backup that lists them later only knows newer ones. With the
lease, a prune could not run beside a backup of many hours, nor a backup start beside a prune. A writer checks
its bases before and after its manifest all the same, for points that are forgotten by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import HvpsError, PointNotFound, PruneOutOfLine
from hvpsbridge.formats.retention import (
    GuardVerdict,
    Rules,
    VmDecisions,
    decide,
    guard,
    past_prunes,
    refuse_out_of_line,
)
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.points import vms_named
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.retention.points import retention_points
from hvpsbridge.tasks.retention.shown import PruneReport, prune_report
from hvpsbridge.tasks.retention.text import POINT_COLUMNS, note_lines, point_rows
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Scope, Task, TaskContext


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What a prune is about to do.

    Attributes:
        at: when it was decided.
        points: all points that were decided about, by id.
        unreadable: points of these VMs whose manifest cannot be read, described for people.
    """

    rules: Rules
    at: datetime
    decisions: tuple[VmDecisions, ...]
    verdict: GuardVerdict
    points: Mapping[UUID, Point]
    unreadable: tuple[str, ...]

    @property
    def report(self) -> PruneReport:
        """What reports show of it."""
        return prune_report(self.rules, self.decisions, self.verdict, self.at, self.unreadable)


def find_vms(repository: Repository, names: tuple[str, ...]) -> frozenset[UUID] | None:
    """VMs of the repository with these names or ids; None, which means all, without names.

    Raises:
        PointNotFound: one of them has no point.
    """
    if not names:
        return None
    points = repository.catalog.points()
    found: set[UUID] = set()
    for name in names:
        mine = vms_named(points, name)
        if not mine:
            raise PointNotFound(name, repository.url)
        found |= mine
    return frozenset(found)


def plan_prune(
    repository: Repository, rules: Rules, vm_ids: frozenset[UUID] | None = None, now: datetime | None = None
) -> PrunePlan:
    """Decide which points stay. Nothing is changed.

    Args:
        repository: the repository.
        rules: what to keep.
        vm_ids: only points of these VMs; of all by default.
        now: points after it are in the future.
    """
    now = datetime.now(UTC) if now is None else now
    found = retention_points(repository, vm_ids)
    decisions = decide(rules, (known for _, known in found), now)
    # Points of other VMs, and of those that were forgotten whole, say nothing about these.
    mine = {vm.vm_id for vm in decisions}
    removals = ((tomb.vm_id, tomb.at) for tomb in repository.catalog.tombstones() if tomb.vm_id in mine)
    lost = repository.catalog.lost_points()
    return PrunePlan(
        rules=rules,
        at=now,
        decisions=decisions,
        verdict=guard(decisions, past_prunes(removals), now),
        points={point.point_id: point for point, _ in found},
        unreadable=tuple(
            f"{each.name}: {each.what}"
            for each in lost
            if vm_ids is None or each.vm_id is None or each.vm_id in vm_ids
        ),
    )


def prune(repository: Repository, plan: PrunePlan, confirmed: int | None = None) -> PruneReport:
    """Prune what was decided.

    Args:
        repository: the repository.
        plan: the decisions.
        confirmed: the number of points that a user confirmed.

    Raises:
        PruneOutOfLine: the number is out of line, and was not confirmed; nothing was pruned.
        CollectRefused: the repository has format 1.
    """
    refuse_out_of_line(plan.verdict, confirmed)
    removed = [plan.points[point.point_id] for vm in plan.decisions for point in vm.removed]
    kept = repository.pruner.prune(removed)
    return replace(plan.report, protected=tuple(point.point_id for point in kept))


# -- the task ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PruneResult(TaskResult):
    """Result of a prune."""

    report: PruneReport | None = None

    @property
    def section(self) -> PruneReport | None:
        """What was decided."""
        return self.report


def prune_vms(context: TaskContext, rules: Rules) -> PruneResult:
    """Prune the selected VMs. What is out of line is an error that names the number of points."""
    started = datetime.now(UTC)
    repository = context.repository
    report: PruneReport | None = None
    error: HvpsError | None = None
    refusal: tuple[HvpsError, ...] = ()
    try:
        vm_ids = frozenset(vm.vm_id for vm in context.vms if vm.vm_id is not None)
        plan = plan_prune(repository, rules, vm_ids)
        report = plan.report
        context.cancel.check()
        if context.check:
            refusal = _refusal(plan)
        else:
            report = prune(repository, plan)
    except HvpsError as err:
        error = err
    return PruneResult(
        vm=context.vm,
        task="prune",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        conditions=refusal,
        planned_only=context.check,
        report=report,
    )


def _refusal(plan: PrunePlan) -> tuple[HvpsError, ...]:
    """Why a prune would refuse the plan: a condition, since a check that shows it has not failed."""
    try:
        refuse_out_of_line(plan.verdict, None)
    except PruneOutOfLine as err:
        return (err,)
    return ()


def _not_kept(report: PruneReport) -> Iterator[tuple[str, ...]]:
    return point_rows(report, all_points=False)


def _columns() -> tuple[Column, ...]:
    def cell(index: int) -> Callable[[tuple[str, ...]], str]:
        return lambda row: row[index]

    return tuple(
        Column(heading, cell(index), right=heading == "age") for index, heading in enumerate(POINT_COLUMNS)
    )


def _lines(report: PruneReport, planned: bool) -> Iterator[str]:
    yield from note_lines(report)
    if not planned and not report.out_of_line:
        removed = report.removed - len(report.protected)
        yield f"{removed} removed, {report.kept + len(report.protected)} kept"


TASK = Task(
    name="prune",
    summary="remove recovery points that no rule keeps, once for all selected VMs",
    options=Rules,
    run=prune_vms,
    result=PruneResult,
    tables=(
        ResultTable("retention", point_rows, _columns(), planned=True),
        ResultTable("points that no rule keeps", _not_kept, _columns()),
    ),
    lines=_lines,
    scope=Scope.SELECTED,
    plans=True,
)
