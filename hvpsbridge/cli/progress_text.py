"""Texts about the progress of tasks, for terminals and logs alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvpsbridge.units import duration_text, size_text

if TYPE_CHECKING:
    from hvpsbridge.tasks.events import Progress, VmRef
    from hvpsbridge.tasks.planning.plan import VmPlan
    from hvpsbridge.tasks.results import TaskResult


def vm_name(vm: VmRef) -> str:
    """Host and name of a VM."""
    return vm.title


def ended_text(result: TaskResult) -> str:
    """How a task ended."""
    text = f"{result.task} {result.outcome.value} in {duration_text(result.seconds)}"
    return f"{text}: {result.error}" if result.error is not None else text


def plan_lines(plan: VmPlan) -> Iterator[str]:
    """Mode and reason of each disk, and what is excluded."""
    for disk in plan.disks:
        yield f"{disk.slot}: {disk.mode.value}: {disk.why}"
    for left in plan.excluded:
        yield f"{left.slot}: excluded by {left.pattern!r}"


def figures_text(progress: Progress) -> str:
    """How much is done, at what rate, and how long the rest takes."""
    part = 100 * progress.done_bytes / progress.owed_bytes if progress.owed_bytes else 100.0
    left = "" if progress.left_seconds is None else f", {duration_text(progress.left_seconds)} left"
    return (
        f"{part:3.0f} % of {size_text(progress.owed_bytes)}, {size_text(progress.wire_bytes)} on the wire, "
        f"{size_text(int(progress.rate_bytes))}/s{left}"
    )
