"""The task ``collect``: frees the space of what no recovery point needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from hvpsbridge.errors import Damaged, HvpsError
from hvpsbridge.options import Option, TextForm, Unit
from hvpsbridge.repository.collect.choice import MAX_UNUSED
from hvpsbridge.repository.collect.report import GRACE, CollectOptions, CollectReport
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Scope, Task, TaskContext
from hvpsbridge.text import counted
from hvpsbridge.units import size_text


def parse_percent(text: str) -> float:
    """The part, 0 to 1, of a text such as ``5%``.

    Raises:
        ValueError: it is not a percentage from 0% to 100%.
    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?) ?%", text.strip())
    if match is None or float(match[1]) > 100:
        raise ValueError("must be a percentage between 0% and 100%, for example 5%")
    return float(match[1]) / 100


PERCENT = TextForm(
    read=parse_percent,
    name="percentage",
    pattern=r"^\d{1,3}(\.\d{1,3})? ?%$",
    examples=("5%", "0%"),
    metavar="PERCENT",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings:
    """Task `collect`: free the space of what no recovery point needs, once for the repository."""

    grace: Annotated[
        float,
        Option(
            "how long restores that are in progress can still read what is about to be deleted",
            unit=Unit.SECONDS,
            at_least=0,
        ),
    ] = GRACE.total_seconds()
    max_unused: Annotated[
        float | None,
        Option(
            f"part of the stored bytes that may be unused, {MAX_UNUSED:.0%} without it; less moves more",
            form=PERCENT,
        ),
    ] = None

    def options(self, *, check: bool) -> CollectOptions:
        """As the repository takes them."""
        unused = MAX_UNUSED if self.max_unused is None else self.max_unused
        return CollectOptions(grace=timedelta(seconds=self.grace), max_unused=unused, check=check)


def plan_lines(report: CollectReport) -> Iterator[str]:
    """What a collect is about to do, as it says beforehand."""
    if report.deleted_packs or report.deleted_points:
        yield f"frees {_packs(report.deleted_packs, report.deleted_bytes)} now"
    if report.moved_bytes:
        yield f"moves {size_text(report.moved_bytes)} into new packs"
    if report.doomed_packs:
        yield f"dooms {_packs(report.doomed_packs, report.doomed_bytes)}, which a later collect frees"
    yield from _waiting(report)


def collect_lines(report: CollectReport, *, check: bool) -> Iterator[str]:
    """What a collect did, or would do."""
    would = "would be " if check else ""
    if report.deleted_packs or report.deleted_points:
        points = (
            f", and the manifests of {report.deleted_points} pruned points" if report.deleted_points else ""
        )
        yield f"{would}freed: {_packs(report.deleted_packs, report.deleted_bytes)}{points}"
    if report.moved_bytes:
        yield f"{would}moved into new packs: {size_text(report.moved_bytes)}"
    if report.doomed_packs:
        packs = _packs(report.doomed_packs, report.doomed_bytes)
        yield f"{would}doomed: {packs}; a later collect frees them, after the grace time"
    yield from _waiting(report)
    if report.kept_again:
        yield f"doomed packs that stay, since a point needs them again: {report.kept_again}"
    if report.dead_runs:
        yield f"runs that {'are' if check else 'were declared'} dead: {report.dead_runs}"
    for name in report.damaged:
        yield f"{name} should be moved, but is damaged and stays; see `hvps verify`"
    if report.keeps_versions and report.deleted_packs:
        yield (
            "the bucket keeps what was deleted as old versions: their space comes back by a lifecycle rule "
            "(docs/stores.md#buckets-with-versions)"
        )
    unused = f"{size_text(report.unused_bytes)} unused" if report.unused_bytes else "all in use"
    yield f"{size_text(report.stored_bytes)} {'would stay' if check else 'stay'}, {unused}"


def _waiting(report: CollectReport) -> Iterator[str]:
    if not report.waiting_packs and report.waits_until is None:
        return
    over = report.waits_until is None or report.waits_until <= datetime.now(UTC)
    until = "" if over else f" until {report.waits_until:%Y-%m-%d %H:%M} UTC"
    and_ = " and" if until else ""
    runs = f"{and_} for the end of {'; '.join(report.runs)}" if report.runs else ""
    yield f"waiting{until}{runs}: {_packs(report.waiting_packs, report.waiting_bytes)}"


def _packs(number: int, size_bytes: int) -> str:
    return f"{counted(number, 'pack')}, {size_text(size_bytes)}"


# -- the task ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CollectResult(TaskResult):
    """Result of a collect."""

    report: CollectReport | None = None

    @property
    def section(self) -> CollectReport | None:
        """What was freed, moved and left."""
        return self.report


def collect_repository(context: TaskContext, settings: CollectSettings) -> CollectResult:
    """Free space in the repository. Packs that should be moved and are damaged are a condition."""
    started = datetime.now(UTC)
    report: CollectReport | None = None
    error: HvpsError | None = None

    def on_decided(report: CollectReport) -> None:
        for text in plan_lines(report):
            context.observer.noted(context.vm, text)

    try:
        report = context.repository.collect(context.run_id, settings.options(check=context.check), on_decided)
    except HvpsError as err:
        error = err
    damaged = () if report is None else report.damaged
    url = context.repository.url
    return CollectResult(
        vm=context.vm,
        task="collect",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        conditions=tuple(Damaged(url, name, "it should be moved, but stays where it is") for name in damaged),
        planned_only=context.check,
        report=report,
    )


def _table(*, planned: bool) -> ResultTable:
    return ResultTable(
        "space",
        lambda report: collect_lines(report, check=planned),
        (Column("result", str),),
        planned=planned,
    )


TASK = Task(
    name="collect",
    summary="free the space of what no recovery point needs, once for the repository",
    options=CollectSettings,
    run=collect_repository,
    result=CollectResult,
    tables=(_table(planned=True), _table(planned=False)),
    scope=Scope.REPOSITORY,
    plans=True,
)
