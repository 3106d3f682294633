"""The task ``restore_drill``: restores a VM beside the original, sees it start, and removes it again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from hvpsbridge.options import Option, Unit
from hvpsbridge.tasks.planning.drills import drill_name
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.results import TABLES, RestoreResult, lines
from hvpsbridge.tasks.restore.starting import Drill
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_id, restore_vm
from hvpsbridge.tasks.task import Task, TaskContext

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

_WAIT_SECONDS = 600.0
# What the restore itself may take before an administrator should look for what is left of a drill.
_MAX_RESTORE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOptions:
    """Task `restore_drill`: restore a recovery point of each selected VM as a VM beside the original, without
    a network, start it, wait for the heartbeat of its guest, and remove it again."""

    host: Annotated[
        str | None, Option("host of this file to restore onto; without it the one of the point")
    ] = None
    point: Annotated[str, Option("latest, latest~1, a time, a short id or id:PREFIX")] = "latest"
    path: Annotated[
        str | None, Option("folder on the host for the VM; without it the host's folder of VMs")
    ] = None
    wait: Annotated[
        float, Option("how long the guest may take to show a heartbeat", unit=Unit.SECONDS, more_than=0)
    ] = _WAIT_SECONDS
    new_tpm: Annotated[bool, Option("make a new vTPM if the host cannot use the old one")] = False


def drill(context: TaskContext, options: DrillOptions) -> RestoreResult:
    """Restore a point of the VM beside it, and remove it again. Errors are in the result."""

    def made(host: HyperVHost, context: TaskContext, wanted: RestoreOptions) -> HostVm:
        identity = restore_id(context)
        name = drill_name(identity, context.vm.name)
        onto = HostOptions(name=name, folder=options.path, new_tpm=options.new_tpm)
        expires = datetime.now(UTC) + timedelta(seconds=options.wait) + _MAX_RESTORE
        watched = Drill(context.run_id, expires, options.wait, context.cancel.pause)
        return HostVm(host, context.repository, identity, onto, watched)

    wanted = RestoreOptions(to=f"hyperv:{options.host or context.vm.host}", point=options.point)
    return replace(restore_vm(context, wanted, on_host=made), task=TASK.name)


def _hosts(options: DrillOptions) -> tuple[str, ...]:
    return () if options.host is None else (options.host,)


TASK = Task(
    name="restore_drill",
    summary="restore a VM beside the original, see it start, and remove it",
    options=DrillOptions,
    run=drill,
    result=RestoreResult,
    lines=lines,
    hosts=_hosts,
    tables=TABLES,
)
