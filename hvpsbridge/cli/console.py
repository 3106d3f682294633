"""Output: results on standard output, progress and notes on standard error.

On a terminal, tables are drawn and progress has bars. Elsewhere both are plain text with one record per
line, never cut to a width. Text from outside is cleaned (:mod:`hvpsbridge.text`).
"""

from __future__ import annotations

import codecs
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table as RichTable
from rich.text import Text

from hvpsbridge.cli.logs import printable, redact
from hvpsbridge.report.documents import Document, document_text
from hvpsbridge.report.views import Table
from hvpsbridge.tasks.events import Progress as Moved
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.observer import Moment, Observer
from hvpsbridge.tasks.planning.plan import VmPlan
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.totals import Totals
from hvpsbridge.units import duration_text, size_text

# Between two plain progress lines of one disk, so that the log of a long night stays readable.
PLAIN_SECONDS = 15.0
# A longer cell moves the rest of its own row only: one long sentence does not make every row as wide.
PLAIN_COLUMN = 40


def line(text: str) -> None:
    """Print a line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def flush() -> None:
    """Hand everything printed so far to the reader of standard output."""
    sys.stdout.flush()


def document(content: Document, *, indent: int | None = 2) -> None:
    """Print a JSON document, on one line when ``indent`` is None.

    Secrets are hidden in its text values, before they are written as JSON: a short passphrase may well be
    part of a key or a word that programs rely on, and is spelled differently once it is escaped.
    """
    text = document_text(content, indent=indent, redact=redact)
    if not _is_utf8(sys.stdout):
        # JSON is UTF-8; ASCII is that in nearly every encoding.
        text = json.dumps(json.loads(text), indent=indent)
    sys.stdout.write(f"{text}\n")


def _is_utf8(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding).name == "utf-8"
    except (LookupError, TypeError):
        return False


def schema(text: str) -> None:
    """Print a JSON Schema, which holds nothing secret."""
    sys.stdout.write(f"{text}\n")


def reveal(text: str) -> None:
    """Print a secret that the user asked for; nothing else is printed unredacted."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def table(content: Table) -> None:
    """Print a table of a result."""
    if not sys.stdout.isatty():
        for row in plain_rows(content):
            sys.stdout.write(f"{row}\n")
        return
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


def plain_rows(content: Table) -> Iterator[str]:
    """The table as aligned text: title, headings, rows."""
    rows = [content.columns, *(tuple(map(printable, row)) for row in content.rows)]
    widths = [
        max(len(row[index]) for row in rows if index in content.right or len(row[index]) <= PLAIN_COLUMN)
        for index in range(len(content.columns))
    ]
    yield printable(content.title).upper()
    for cells in rows:
        padded = (
            cell.rjust(width) if index in content.right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        yield "  ".join(padded).rstrip()


@contextmanager
def observer(*, quiet: bool = False) -> Iterator[Observer]:
    """An observer that shows the progress of a run on standard error: bars on a terminal, lines elsewhere.

    Args:
        quiet: show nothing. Results and errors are still printed.
    """
    if quiet:
        yield Observer()
    elif sys.stderr.isatty():
        bars = _Bars()
        with bars.display:
            yield bars
    else:
        yield _Lines()


def _name(vm: VmRef) -> str:
    return f"{vm.host}/{vm.name}"


def _ended(result: TaskResult) -> str:
    text = f"{result.task} {result.outcome.value} in {duration_text(result.seconds)}"
    return f"{text}: {result.error}" if result.error is not None else text


def _plan_lines(plan: VmPlan) -> Iterator[str]:
    for disk in plan.disks:
        yield f"{disk.slot}: {disk.mode.value}: {disk.why}"
    for left in plan.excluded:
        yield f"{left.slot}: excluded by {left.pattern!r}"


class _Lines(Observer):
    """One line for each start, decision and end, and now and then for progress."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._printed: dict[tuple[VmRef, str, str], float] = {}
        self._totals = Totals()
        self._total_printed = time.monotonic()

    def started(self, vm: VmRef, task: str) -> None:
        note(f"{_name(vm)}: {task} started")

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        for text in _plan_lines(plan):
            note(f"{_name(vm)}: {text}")

    def noted(self, vm: VmRef, text: str) -> None:
        note(f"{_name(vm)}: {text}")

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        note(f"{_name(vm)}: {_ended(result)}")

    def progress(self, vm: VmRef, progress: Moved) -> None:
        key, now = (vm, progress.slot, progress.activity), time.monotonic()
        total = self._totals.add(vm, progress)
        with self._lock:
            if now - self._total_printed >= PLAIN_SECONDS and self._totals.disks > 1:
                self._total_printed = now
                note(f"all disks: {_figures(total)}")
            if now - self._printed.setdefault(key, now) < PLAIN_SECONDS:
                return
            self._printed[key] = now
        note(f"{_name(vm)}: {progress.slot} {progress.activity} {_figures(progress)}")


def _figures(progress: Moved) -> str:
    part = 100 * progress.done_bytes / progress.owed_bytes if progress.owed_bytes else 100.0
    left = "" if progress.left_seconds is None else f", {duration_text(progress.left_seconds)} left"
    return (
        f"{part:3.0f} % of {size_text(progress.owed_bytes)}, {size_text(progress.wire_bytes)} on the wire, "
        f"{size_text(int(progress.rate_bytes))}/s{left}"
    )


class _Bars(Observer):
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
                printable(f"{_name(vm)} {task}"), total=None, figures=""
            )

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        bar = self._bars.get((vm, ""))
        if bar is not None and moment == "before":
            self.display.update(bar, figures=step.text)

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        for text in _plan_lines(plan):
            self._console.print(printable(f"{_name(vm)}: {text}"))

    def noted(self, vm: VmRef, text: str) -> None:
        self._console.print(printable(f"{_name(vm)}: {text}"))

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
            figures=_figures(progress),
        )

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        with self._lock:
            done = [key for key in self._bars if key[0] == vm]
            for key in done:
                self.display.remove_task(self._bars.pop(key))
        self._console.print(printable(f"{_name(vm)}: {_ended(result)}"))
