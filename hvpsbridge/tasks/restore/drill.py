"""The task ``restore_drill``: restores a VM beside the original, sees it start, and removes it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

from hvpsbridge import stopping
from hvpsbridge.errors import (
    ConfigurationError,
    HostError,
    HvpsError,
    VmDoesNotRun,
    VmNoHeartbeat,
)
from hvpsbridge.options import Option, Unit
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.planning.drills import drill_name
from hvpsbridge.tasks.proofs import record_proof
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.results import TABLES, Finished, RestoredDisk, RestoreResult, lines
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_id, restore_vm
from hvpsbridge.tasks.task import Task, TaskContext

_WAIT_SECONDS = 600.0
# Between two looks at the heartbeat, which guests send every few seconds.
_LOOK_SECONDS = 2.0
# What the restore itself may take before an administrator should look for what is left of a drill.
_MAX_RESTORE = timedelta(days=1)
# Microsoft.HyperV.PowerShell.VMHeartbeatStatus: the guest answers, whatever its applications say.
_OK = (5, 6, 7)
_HEARTBEATS = (
    "unknown",
    "disabled",
    "no contact",
    "an error",
    "lost",
    "ok, applications unknown",
    "ok, applications healthy",
    "ok, applications critical",
    "paused",
)


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


@dataclass(slots=True)
class DrillVm:
    """A VM that is made, started, watched and removed.

    Args:
        vm: the VM, with options of a drill.
        run_id: of the run, for the proof.
        wait_seconds: for a heartbeat.
        pause: waits between looks; may raise to end it.
    """

    vm: HostVm
    run_id: UUID
    wait_seconds: float
    pause: Callable[[float], object] = time.sleep

    @property
    def mapped(self) -> tuple[MappedName, ...]:
        """Names that had to be changed to become parts of a path."""
        return self.vm.mapped

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Look at everything that may be in the way, before anything is made."""
        self.vm.check(point, sources)

    def unfinished(self) -> tuple[Path, ...]:
        """Nothing on this machine."""
        return ()

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the file of a disk."""
        return self.vm.write(source)

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Make the VM, start it, watch it, and remove it, whatever happened.

        Raises:
            HostError: the VM cannot be made, or not be removed; then it is in the ledger for a sweep.
            Interrupted: the drill was stopped; the VM was removed.
        """
        made = self.vm.make(point)
        started = time.monotonic()
        try:
            problems = tuple(self._watch(made.vm_id, made.name))
            seconds = time.monotonic() - started
        finally:
            with stopping.to_the_end():
                self.vm.remove(made.vm_id)
        if problems:
            return Finished((f"removed VM {made.name}",), conditions=problems)
        note = f"VM {made.name} started and showed a heartbeat after {seconds:.0f} s; it is removed"
        proved_bytes = sum(disk.size_bytes for disk in disks)
        warning = record_proof(self.vm.repository, point, "restored", proved_bytes, self.run_id)
        return Finished((note,), () if warning is None else (warning,))

    def _watch(self, vm_id: UUID, name: str) -> Iterator[HvpsError]:
        """Start the VM and wait for a heartbeat; why there is none."""
        host = self.vm.host
        until = time.monotonic() + self.wait_seconds
        try:
            running = host.restoring.start_vm(vm_id).running
            while running:
                seen = host.restoring.heartbeat(vm_id)
                running = seen.running
                if running and seen.heartbeat in _OK:
                    return
                left = until - time.monotonic()
                if running and left <= 0:
                    yield VmNoHeartbeat(host.name, name, self.wait_seconds, _heartbeat_text(seen.heartbeat))
                    return
                self.pause(min(_LOOK_SECONDS, max(left, 0)))
            yield VmDoesNotRun(host.name, name)
        except HostError as err:
            yield err


def _heartbeat_text(heartbeat: int | None) -> str:
    if heartbeat is None or not 0 <= heartbeat < len(_HEARTBEATS):
        return "unknown"
    return _HEARTBEATS[heartbeat]


def host_options(context: TaskContext, options: DrillOptions) -> HostOptions:
    """How the VM of a drill is made."""
    return HostOptions(
        name=drill_name(restore_id(context), context.vm.name),
        folder=options.path,
        new_tpm=options.new_tpm,
        expires=datetime.now(UTC) + timedelta(seconds=options.wait) + _MAX_RESTORE,
    )


def drill(context: TaskContext, options: DrillOptions) -> RestoreResult:
    """Restore a point of the VM beside it, and remove it again. Errors are in the result."""
    started = datetime.now(UTC)
    name = options.host or context.vm.host
    try:
        host = context.hosts.connect_to(name)
        if host is None:
            raise ConfigurationError(f"host {name}", "the playbook has no such host; add it to hosts")
    except HvpsError as err:
        seconds = (datetime.now(UTC) - started).total_seconds()
        return RestoreResult(vm=context.vm, task=TASK.name, started=started, seconds=seconds, error=err)
    with host:
        made = HostVm(host, context.repository, restore_id(context), host_options(context, options))
        target = DrillVm(made, context.run_id, options.wait, context.cancel.pause)
        result = restore_vm(context, RestoreOptions(to=f"hyperv:{name}", point=options.point), target)
        return replace(result, task=TASK.name)


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
