"""What tables show of a task kind, declared beside the task and drawn by ``report``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        heading: a word or two.
        text: what a row has there.
        right: whether it holds figures, which are set to the right.
    """

    heading: str
    text: Callable[[Any], str]
    right: bool = False


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table over all results of a task kind, after columns for the host and the VM.

    Attributes:
        title: a word or two, small letters.
        rows: the rows of one task's section of the report.
        columns: from left to right.
        planned: whether it is shown after a run that only planned, instead of after others.
        with_host: whether the host is worth a column.
    """

    title: str
    rows: Callable[[Any], Iterable[Any]]
    columns: tuple[Column, ...]
    planned: bool = False
    with_host: bool = True
