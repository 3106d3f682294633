"""A task kind as small as one can be: counts the recovery points of each VM."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from hvpsbridge.options import Option
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Task, TaskContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CountOptions:
    """Task `count`: count recovery points of the selected VMs."""

    expected: Annotated[int, Option("number of points that is enough", at_least=0)] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Points of a VM, and whether they are enough."""

    points: int
    enough: bool


@dataclass(frozen=True, slots=True)
class CountResult(TaskResult):
    """Result of a count."""

    count: Count | None = None

    @property
    def section(self) -> Count | None:
        """What reports hold of it."""
        return self.count


def count(context: TaskContext, options: CountOptions) -> CountResult:
    """Count the points of a VM."""
    started = datetime.now(UTC)
    points = len(context.repository.catalog.points(context.vm.vm_id))
    return CountResult(
        vm=context.vm,
        task="count",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        count=Count(points=points, enough=points >= options.expected),
    )


TASK = Task(
    name="count",
    summary="count recovery points",
    options=CountOptions,
    run=count,
    result=CountResult,
    tables=(
        ResultTable(
            "points counted",
            lambda section: (section,),
            (Column("points", lambda row: str(row.points), right=True),),
        ),
    ),
    lines=lambda section, planned: () if section.enough else ("there are too few points",),
)
