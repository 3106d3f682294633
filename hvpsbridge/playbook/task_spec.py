"""A task of a play, as a frozen value: which kind, with which options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from hvpsbridge.options import DeclaredOption, Option, options_of
from hvpsbridge.playbook.derive import model_class
from hvpsbridge.tasks.registry import TASKS, find_task


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task, done for each VM of a play, or once after those.

    Attributes:
        kind: name of the task kind.
        options: an instance of the kind's options class.
    """

    kind: str
    options: Any
    name: Annotated[str | None, Option("name of the task")] = None
    tags: Annotated[tuple[str, ...], Option("words for --tags, beside the play's")] = ()

    @staticmethod
    def playbook_model() -> Any:
        """What pydantic reads it by: a key for each task kind, of which exactly one is given."""
        kinds = tuple(TASKS)
        declared = [*options_of(TaskSpec).values(), *map(_option_of, kinds)]
        doc = (
            f"One task, done for each VM of the play, or once after those. Exactly one of {', '.join(kinds)}."
        )

        def expand(value: object) -> object:
            # ``- backup`` and ``- backup:`` mean that task with its defaults.
            if isinstance(value, str) and value in kinds:
                return {value: {}}
            if isinstance(value, dict):
                return {key: {} if key in kinds and item is None else item for key, item in value.items()}
            return value

        def make(read: Any) -> TaskSpec:
            given = [kind for kind in kinds if getattr(read, kind) is not None]
            if len(given) != 1:
                raise ValueError(f"specify exactly one of {', '.join(kinds)}; found {len(given)}")
            return TaskSpec(given[0], getattr(read, given[0]), read.name, read.tags)

        return Annotated[
            model_class("TaskSpec", doc, declared), BeforeValidator(expand), AfterValidator(make)
        ]


# Only its default is looked at.
_NO_TASK: Any = dataclasses.field(default=None)


def _option_of(kind: str) -> DeclaredOption:
    task = find_task(kind)
    return DeclaredOption(kind, task.options | None, Option(task.summary), _NO_TASK)
