"""Output: results on standard output, progress and notes on standard error.

On a terminal, tables are drawn and progress has bars. Elsewhere both are plain text with one record per
line, never cut to a width. Text from outside is cleaned (:mod:`hvpsbridge.text`).
"""

from __future__ import annotations

import codecs
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from hvpsbridge.cli.logs import printable, redact
from hvpsbridge.cli.progress_text import ended_text, figures_text, plan_lines, vm_name
from hvpsbridge.report.documents import Document, document_parts, document_text
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.totals import Totals
from hvpsbridge.text import json_ascii

if TYPE_CHECKING:
    from hvpsbridge.report.views import Table
    from hvpsbridge.tasks.events import Progress as Moved
    from hvpsbridge.tasks.events import VmRef
    from hvpsbridge.tasks.planning.plan import VmPlan
    from hvpsbridge.tasks.results import TaskResult

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
    _json([document_text(content, indent=indent, redact=redact)])


def long_document(content: Document, key: str, lists: Sequence[Iterable[object]]) -> None:
    """Print a JSON document whose lists ``key`` are empty, with these instead, item by item."""
    _json(document_parts(content, key, lists, redact=redact))


def _json(parts: Iterable[str]) -> None:
    # JSON is UTF-8; ASCII is that in nearly every encoding.
    as_it_is = _is_utf8(sys.stdout)
    for part in parts:
        sys.stdout.write(part if as_it_is else json_ascii(part))
    sys.stdout.write("\n")


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
    from hvpsbridge.cli.terminal import draw  # rich takes a twentieth of the start of a command

    draw(content)


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
        from hvpsbridge.cli.terminal import Bars  # as in table()

        bars = Bars()
        with bars.display:
            yield bars
    else:
        yield _Lines()


class _Lines(Observer):
    """One line for each start, decision and end, and now and then for progress."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._printed: dict[tuple[VmRef, str, str], float] = {}
        self._totals = Totals()
        self._total_printed = time.monotonic()

    def started(self, vm: VmRef, task: str) -> None:
        note(f"{vm_name(vm)}: {task} started")

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        for text in plan_lines(plan):
            note(f"{vm_name(vm)}: {text}")

    def noted(self, vm: VmRef, text: str) -> None:
        note(f"{vm_name(vm)}: {text}")

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        note(f"{vm_name(vm)}: {ended_text(result)}")

    def progress(self, vm: VmRef, progress: Moved) -> None:
        key, now = (vm, progress.slot, progress.activity), time.monotonic()
        total = self._totals.add(vm, progress)
        with self._lock:
            if now - self._total_printed >= PLAIN_SECONDS and self._totals.disks > 1:
                self._total_printed = now
                note(f"all disks: {figures_text(total)}")
            if now - self._printed.setdefault(key, now) < PLAIN_SECONDS:
                return
            self._printed[key] = now
        note(f"{vm_name(vm)}: {progress.slot} {progress.activity} {figures_text(progress)}")
