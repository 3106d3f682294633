"""A play that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hvpsbridge.repository import Repository
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.task import PlayTask, Scope


@dataclass(frozen=True, slots=True)
class PlayRun:
    """A play that is ready to run: its repository is open, its hosts can be connected to.

    Attributes:
        name: for logs.
        tasks: in the order of the play.
        limit: patterns of ``--limit``.
        named: hosts that tasks name.
    """

    name: str
    hosts: tuple[HostTarget, ...]
    repository: Repository
    vms: VmSelection
    tasks: tuple[PlayTask[Any], ...]
    limit: tuple[str, ...] = ()
    named: tuple[HostTarget, ...] = ()

    @property
    def needs_hosts(self) -> bool:
        """Whether any task needs a host; otherwise the repository gives the VMs."""
        return any(item.task.needs_host for item in self.tasks)

    @property
    def vm_tasks(self) -> tuple[PlayTask[Any], ...]:
        """Tasks for each VM, in order."""
        return tuple(item for item in self.tasks if item.task.scope is Scope.VM)

    @property
    def once_tasks(self) -> tuple[PlayTask[Any], ...]:
        """Tasks that are done once, after those for each VM, in order."""
        return tuple(item for item in self.tasks if item.task.scope is not Scope.VM)

    @property
    def host_names(self) -> str:
        """The names of all hosts, for errors."""
        return ", ".join(target.name for target in self.hosts)
