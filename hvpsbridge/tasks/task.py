"""What a task kind is.

A task does one thing for one VM of a play, or once for all of them. A task kind is a module that holds its
options, its result and a :class:`Task` named ``TASK``, and one line in
:data:`~hvpsbridge.tasks.registry.TASKS`. Playbook keys, the JSON report and the tables derive from what the
module declares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Generic, TypeVar
from uuid import UUID

from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.hosts import Hosts
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.places import Place
from hvpsbridge.tasks.registry import find_task
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import ResultTable
from hvpsbridge.tasks.transfer.limits import SharedLimits

_Options = TypeVar("_Options")


def no_places(vm: VmRef, options: Any, run_id: UUID) -> Iterable[Place]:
    return ()


def _no_hosts(options: Any) -> Iterable[str]:
    return ()


def _no_conflict(options: Any) -> str | None:
    return None


def _no_lines(section: object, planned: bool) -> Iterable[str]:
    return ()


class Scope(Enum):
    """What a task is done for. All but ``VM`` are done once, after the tasks of all VMs of the play.

    ``VM``: for each selected VM. ``SELECTED``: for all selected VMs together. ``REPOSITORY``: for the
    repository, whichever VMs are selected.
    """

    VM = auto()
    SELECTED = auto()
    REPOSITORY = auto()


@dataclass(slots=True)
class Leftovers:
    """What a running task may have on a host at this moment, one line each.

    The task keeps it up to date; a run that is given up reads it from another thread.
    """

    lines: tuple[str, ...] = ()

    def update(self, lines: tuple[str, ...]) -> None:
        """Replace all lines."""
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task works with: one VM of a play, and what all tasks of a run share.

    Attributes:
        vm: the VM; its host is the one on which it was found. ``EVERY_VM`` for a task that is done once.
        vms: for a task that is done once for the selected VMs: those of them that the repository has.
        hosts: hosts of the play.
        check: only plan; change nothing.
        budget: byte budget of all reads.
        shared: what all reads of the run share.
        leftovers: kept up to date by the task.
        named: whether the user named the VM, rather than a pattern that matches it.
    """

    vm: VmRef
    repository: Repository
    run_id: UUID
    observer: Observer
    cancel: Cancellation
    hosts: Hosts = field(default_factory=Hosts)
    check: bool = False
    budget: ByteBudget = field(default_factory=ByteBudget)
    shared: SharedLimits = field(default_factory=SharedLimits)
    leftovers: Leftovers = field(default_factory=Leftovers)
    named: bool = True
    vms: tuple[VmRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[_Options]):
    """A task kind.

    Attributes:
        name: as in the registry.
        summary: what it does, in a few words; description of its playbook key.
        options: dataclass of its options, declared with :class:`~hvpsbridge.options.Option`.
        run: runs the task; errors are in its result.
        result: class of its results; their ``section`` goes into reports.
        tables: tables of the sections of a run.
        lines: lines to print beside the tables, from a section and whether the run only planned.
        scope: what it is done for.
        needs_host: whether it needs a host; otherwise the repository gives the VMs.
        places: what it writes on this machine for a VM, from the VM, its options and the id of the run.
        hosts: names of hosts that its options name, beside those of the play.
        conflict: which of its options do not fit together; None if all do.
        plans: whether it takes part in a run that only plans (``--check``).
    """

    name: str
    summary: str
    options: type[_Options]
    run: Callable[[TaskContext, _Options], TaskResult]
    result: type[TaskResult]
    tables: tuple[ResultTable, ...] = ()
    lines: Callable[[Any, bool], Iterable[str]] = _no_lines
    places: Callable[[VmRef, Any, UUID], Iterable[Place]] = no_places
    hosts: Callable[[Any], Iterable[str]] = _no_hosts
    conflict: Callable[[Any], str | None] = _no_conflict
    scope: Scope = Scope.VM
    needs_host: bool = False
    plans: bool = False


@dataclass(frozen=True, slots=True)
class PlayTask(Generic[_Options]):
    """A task of a play: its kind and its options."""

    task: Task[_Options]
    options: _Options


def play_task(name: str, options: object) -> PlayTask[Any]:
    """A task of the named kind with these options."""
    return PlayTask(find_task(name), options)
