"""Tables of a task kind: declared with the task, rendered by ``report``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        heading: one or two words.
        text: text of a row in this column.
        right: whether to align it to the right, as figures are.
    """

    heading: str
    text: Callable[[Any], str]
    right: bool = False


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table of all results of a task kind. If it is for VMs, columns for host and VM come first.

    Attributes:
        title: one or two words, small letters.
        rows: rows of the section of one task.
        columns: from left to right.
        planned: shown after runs that only planned, and only after those.
        with_host: whether to show the host.
    """

    title: str
    rows: Callable[[Any], Iterable[Any]]
    columns: tuple[Column, ...]
    planned: bool = False
    with_host: bool = True
