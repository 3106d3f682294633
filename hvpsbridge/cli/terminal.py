"""What is drawn on a terminal: tables, and bars for the progress of a run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table as RichTable
from rich.text import Text

from hvpsbridge.cli.logs import printable
from hvpsbridge.cli.progress_text import ended_text, figures_text, plan_lines, vm_name
from hvpsbridge.tasks.observer import Moment, Observer
from hvpsbridge.tasks.totals import Totals

if TYPE_CHECKING:
    from hvpsbridge.report.views import Table
    from hvpsbridge.tasks.events import Progress as Moved
    from hvpsbridge.tasks.events import VmRef
    from hvpsbridge.tasks.planning.plan import VmPlan
    from hvpsbridge.tasks.results import TaskResult
    from hvpsbridge.tasks.steps import Step


def draw(content: Table) -> None:
    """Draw a table of a result."""
    shown = RichTable(
        title=Text(printable(content.title)),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, name in enumerate(content.columns):
        shown.add_column(name, justify="right" if index in content.right else "left", overflow="fold")
    for cells in content.rows:
        shown.add_row(*(Text(printable(cell)) for cell in cells))
    Console(markup=False, highlight=False).print(shown)


class Bars(Observer):
    """A bar for each disk in progress; lines about what has ended scroll above them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False)
        self.display = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._bars: dict[tuple[VmRef, str], TaskID] = {}
        self._totals = Totals()
        self._total: TaskID | None = None

    def started(self, vm: VmRef, task: str) -> None:
        with self._lock:
            self._bars[vm, ""] = self.display.add_task(
                printable(f"{vm_name(vm)} {task}"), total=None, figures=""
            )

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        bar = self._bars.get((vm, ""))
        if bar is not None and moment == "before":
            self.display.update(bar, figures=step.text)

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        for text in plan_lines(plan):
            self._console.print(printable(f"{vm_name(vm)}: {text}"))

    def noted(self, vm: VmRef, text: str) -> None:
        self._console.print(printable(f"{vm_name(vm)}: {text}"))

    def progress(self, vm: VmRef, progress: Moved) -> None:
        total = self._totals.add(vm, progress)
        with self._lock:
            if self._total is None and self._totals.disks > 1:
                self._total = self.display.add_task("all disks", total=None, figures="")
            if self._total is not None:
                self._show(self._total, total)
            key = (vm, progress.slot)
            if key not in self._bars:
                self._bars[key] = self.display.add_task("", total=None, figures="")
            bar = self._bars[key]
        self._show(bar, progress, printable(f"  {progress.slot} {progress.activity}"))

    def _show(self, bar: TaskID, progress: Moved, description: str | None = None) -> None:
        self.display.update(
            bar,
            description=description,
            total=max(progress.owed_bytes, 1),
            completed=progress.done_bytes if progress.owed_bytes else 1,
            figures=figures_text(progress),
        )

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        with self._lock:
            done = [key for key in self._bars if key[0] == vm]
            for key in done:
                self.display.remove_task(self._bars.pop(key))
        self._console.print(printable(f"{vm_name(vm)}: {ended_text(result)}"))
