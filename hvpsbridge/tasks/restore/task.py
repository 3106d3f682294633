"""The task ``restore``: writes disks of a recovery point; each chunk is checked on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid5

from hvpsbridge.errors import ConfigurationError, HvpsError, PointNotFound
from hvpsbridge.formats.definition import missing_sections
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.options import Option
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.places import Place
from hvpsbridge.tasks.restore.results import TABLES, RestoredDisk, RestoreResult, lines
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.targets import (
    TARGET,
    RestoreTarget,
    fill_names,
    open_target,
    target_host,
    target_path,
)
from hvpsbridge.tasks.task import Task, TaskContext

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Task `restore`: write disks of a recovery point of each selected VM to files on this machine, or make a
    VM of it on a Hyper-V host."""

    to: Annotated[
        str,
        Option(
            "FORMAT:FOLDER; formats are raw, vhdx, vhdx-fixed, vhd, vhd-fixed, qcow2 and libvirt; "
            "may contain {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }}; or hyperv:HOST for a VM on "
            "a host of this file",
            form=TARGET,
        ),
    ]
    point: Annotated[str, Option("latest, latest~1, a time, a short id or id:PREFIX")] = "latest"
    disk: Annotated[int | None, Option("only the disk of this number", at_least=0)] = None
    overwrite: Annotated[bool, Option("replace files that exist")] = False
    skip_damaged: Annotated[bool, Option("leave out what is damaged, and restore the rest")] = False
    keep_ids: Annotated[bool, Option("give files the disk ids of the source")] = False
    name: Annotated[
        str | None,
        Option(
            "name of the new VM on the host; may contain {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }}; "
            "without it the name of the VM and the time of the point"
        ),
    ] = None
    path: Annotated[
        str | None, Option("folder on the host for the new VM; without it the host's folder of VMs")
    ] = None
    connect_network: Annotated[bool, Option("connect the new VM to the switches of the old one")] = False
    start: Annotated[bool, Option("start the new VM when all of it is proven")] = False
    keep_macs: Annotated[bool, Option("keep static MAC addresses")] = False
    new_tpm: Annotated[
        bool,
        Option("make a new vTPM if the host cannot use the old one; BitLocker will ask for its recovery key"),
    ] = False
    from_config: Annotated[
        bool,
        Option("make the VM of the configuration files in the point, not of the definition"),
    ] = False
    replace: Annotated[bool, Option("write into the disks of the VM itself, which is off")] = False
    discard_saved_state: Annotated[bool, Option("with replace, discard the saved state of the VM")] = False
    remove_checkpoints: Annotated[bool, Option("with replace, remove checkpoints of the VM")] = False

    @property
    def conflict(self) -> str | None:
        """Which options do not fit together; None if all do."""
        makes_vm = self._given(
            "name", "path", "connect_network", "start", "keep_macs", "new_tpm", "from_config"
        )
        gives_up = self._given("discard_saved_state", "remove_checkpoints")
        for_host = [*makes_vm, *self._given("replace"), *gives_up]
        if target_host(self.to) is None and for_host:
            return f"{for_host[0]} is for hyperv:HOST"
        if gives_up and not self.replace:
            return f"{gives_up[0]} is for replace"
        if self.replace and makes_vm:
            return f"replace restores into the VM as it is, without {makes_vm[0]}"
        if self.from_config and self.new_tpm:
            return "from_config takes the vTPM as it is, without new_tpm"
        return None

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name)]


def choose_disks(point: Point, disk: int | None) -> tuple[ManifestDisk, ...]:
    """All disks of the point, or the one of that number in its order, from 0.

    Raises:
        ConfigurationError: the point has no disk of that number.
    """
    if disk is None:
        return point.disks
    if not 0 <= disk < len(point.disks):
        raise ConfigurationError(
            f"disk {disk}", f"point {point.short_id} has {len(point.disks)} disks, numbered from 0"
        )
    return (point.disks[disk],)


def restore_vm(
    context: TaskContext,
    options: RestoreOptions,
    target: RestoreTarget | None = None,
    *,
    on_host: Callable[[HyperVHost, TaskContext, RestoreOptions], RestoreTarget] | None = None,
) -> RestoreResult:
    """Restore disks of one of the VM's points. Errors are in the result.

    Args:
        context: with the host that the options name.
        options: the task's.
        target: in place of the one that the options name.
        on_host: makes the target on the host that the options name; :func:`host_target` without it.
    """
    vm, repository = context.vm, context.repository
    started = datetime.now(UTC)
    disks: list[RestoredDisk] = []
    conditions: list[HvpsError] = []
    warnings: list[str] = []
    notes: tuple[str, ...] = ()
    error: HvpsError | None = None
    point: Point | None = None
    session = ExitStack()
    try:
        if vm.vm_id is None:
            raise PointNotFound(vm.name, repository.store.url)
        point = repository.catalog.find_point_of(vm.vm_id, options.point)
        chosen = choose_disks(point, options.disk)
        target = target or _named_target(context, options, session, on_host or host_target)
        sources = deque(
            DiskSource(
                repository,
                point,
                disk,
                cancel=context.cancel,
                on_progress=lambda progress: context.observer.progress(vm, progress),
                on_spoiled=warnings.append,
                skip_damaged=options.skip_damaged,
                keep_ids=options.keep_ids,
            )
            for disk in chosen
        )
        target.check(point, sources)
        while sources:
            # A source keeps the extents of its disk: not longer than they are needed.
            source = sources.popleft()
            disks.append(target.write(source))
            conditions += source.conditions()
        finished = target.finish(point, disks)
        notes = finished.notes
        warnings += finished.warnings
        conditions += finished.conditions
    except HvpsError as err:
        error = err
    finally:
        session.close()
    return RestoreResult(
        vm=vm,
        task=TASK.name,
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        conditions=tuple(conditions),
        warnings=tuple(warnings),
        point_id=None if point is None else point.point_id,
        disks=tuple(disks),
        excluded=() if point is None else point.manifest.excluded,
        mapped=() if target is None else target.mapped,
        unfinished=() if target is None else tuple(map(str, target.unfinished())),
        definition_lacks=() if point is None else missing_sections(point.manifest.definition),
        notes=notes,
    )


def host_target(host: HyperVHost, context: TaskContext, options: RestoreOptions) -> RestoreTarget:
    """A new VM on a host, or the VM itself, as the options say."""
    # Commands that only read a repository would take twice as long to start with the client imported.
    from hvpsbridge.tasks.restore.in_place import InPlaceVm
    from hvpsbridge.tasks.restore.in_place_checks import InPlaceOptions
    from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm

    # Of this restore: several VMs of a run may be restored at the same time.
    repository, run_id = context.repository, restore_id(context)
    if options.replace:
        giving_up = InPlaceOptions(
            discard_saved_state=options.discard_saved_state, remove_checkpoints=options.remove_checkpoints
        )
        return InPlaceVm(host, repository, run_id, giving_up, context.cancel)
    onto = HostOptions(
        name=options.name and fill_names(options.name, _names(context.vm, context.run_id)),
        folder=options.path,
        start=options.start,
        connect_network=options.connect_network,
        keep_macs=options.keep_macs,
        new_tpm=options.new_tpm,
        from_config=options.from_config,
    )
    return HostVm(host, repository, run_id, onto)


def restore_id(context: TaskContext) -> UUID:
    """The id of the restore of one VM in a run, for its lease, its mark and its entries in the ledger."""
    return uuid5(context.run_id, str(context.vm.vm_id))


def _named_target(
    context: TaskContext,
    options: RestoreOptions,
    session: ExitStack,
    on_host: Callable[[HyperVHost, TaskContext, RestoreOptions], RestoreTarget],
) -> RestoreTarget:
    name = target_host(options.to)
    if name is None:
        names = _names(context.vm, context.run_id)
        return open_target(options.to, names, context.repository, overwrite=options.overwrite)
    if options.conflict is not None:
        raise ConfigurationError(options.to, options.conflict)
    host = context.hosts.connect_to(name)
    if host is None:
        raise ConfigurationError(options.to, "the playbook does not have this host; add it to hosts")
    session.callback(host.close)
    return on_host(host, context, options)


def _hosts(options: RestoreOptions) -> tuple[str, ...]:
    name = target_host(options.to)
    return () if name is None else (name,)


def _places(vm: VmRef, options: RestoreOptions, run_id: UUID) -> tuple[Place, ...]:
    try:
        folder, _ = target_path(options.to, _names(vm, run_id))
    except ValueError:
        return ()  # the task says what is wrong
    return (Place(folder, options.disk),)


def _names(vm: VmRef, run_id: UUID) -> dict[str, str]:
    return {"vm": vm.name, "vm_id": str(vm.vm_id or ""), "host": vm.host, "run_id": str(run_id)}


TASK = Task(
    name="restore",
    summary="write disks of a recovery point to files, or make a VM of it on a host",
    options=RestoreOptions,
    run=restore_vm,
    result=RestoreResult,
    lines=lines,
    places=_places,
    hosts=_hosts,
    conflict=lambda options: options.conflict,
    tables=TABLES,
)
