"""The sections of a report that are the tasks' own, one for each task kind."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any

from hvpsbridge.tasks.registry import TASKS, find_task


def task_sections() -> type[Any]:
    """A dataclass with a field for each task kind: what its results show, or None."""
    return _sections(tuple(TASKS))


@cache
def _sections(kinds: tuple[str, ...]) -> type[Any]:
    tasks = {kind: find_task(kind) for kind in kinds}
    made: type[Any] = make_dataclass(
        "TaskSections",
        [(kind, _shown(task.result) | None, field(default=None)) for kind, task in tasks.items()],
        frozen=True,
        slots=True,
        kw_only=True,
    )
    texts = "".join(f"    {kind}: {task.summary}.\n" for kind, task in tasks.items())
    made.__doc__ = f"What tasks did.\n\nAttributes:\n{texts}"
    return made


def _shown(result: type) -> Any:
    """Type of a result's section, as its property declares it."""
    declared: Mapping[str, Any] = typing.get_type_hints(result.section.fget)  # type: ignore[attr-defined]
    return declared["return"]
