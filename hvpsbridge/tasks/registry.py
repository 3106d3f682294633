"""The table of task kinds. It imports none of them, since every command uses it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvpsbridge.tasks.task import Task

# Name of each task kind in playbooks and reports, and the module that holds its ``TASK``.
TASKS = {
    "backup": "hvpsbridge.tasks.backup.task",
    "verify": "hvpsbridge.tasks.verify",
    "restore": "hvpsbridge.tasks.restore.task",
    "restore_drill": "hvpsbridge.tasks.restore.drill",
    "prune": "hvpsbridge.tasks.retention.prune",
    "collect": "hvpsbridge.tasks.retention.collect",
}


def find_task(name: str) -> Task[Any]:
    """The task kind of that name; imports its module.

    Raises:
        KeyError: there is no such kind.
    """
    task: Task[Any] = importlib.import_module(TASKS[name]).TASK
    return task
