"""The task ``restore``: writes disks of a recovery point; each chunk is checked on its way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from hvpsbridge.errors import ConfigurationError, HvpsError, PointNotFound
from hvpsbridge.formats.definition import missing_sections
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.options import Option
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.places import Place
from hvpsbridge.tasks.restore.results import TABLES, RestoredDisk, RestoreResult, lines
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.targets import TARGET, RestoreTarget, open_target, target_path
from hvpsbridge.tasks.task import Task, TaskContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Task `restore`: write disks of a recovery point of each selected VM to files on this machine."""

    to: Annotated[
        str,
        Option(
            "FORMAT:FOLDER; formats are raw, vhdx, vhdx-fixed, vhd, vhd-fixed, qcow2 and libvirt; "
            "may contain {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }}",
            form=TARGET,
        ),
    ]
    point: Annotated[str, Option("latest, latest~1, a time, a short id or id:PREFIX")] = "latest"
    disk: Annotated[int | None, Option("only the disk of this number", at_least=0)] = None
    overwrite: Annotated[bool, Option("replace files that exist")] = False
    skip_damaged: Annotated[bool, Option("leave out what is damaged, and restore the rest")] = False
    keep_ids: Annotated[bool, Option("give files the disk ids of the source")] = False


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
    context: TaskContext, options: RestoreOptions, target: RestoreTarget | None = None
) -> RestoreResult:
    """Restore disks of one of the VM's points. Errors are in the result.

    Args:
        context: no host is needed.
        options: the task's.
        target: in place of the one that the options name.
    """
    vm, repository = context.vm, context.repository
    started = datetime.now(UTC)
    disks: list[RestoredDisk] = []
    conditions: list[HvpsError] = []
    warnings: list[str] = []
    notes: tuple[str, ...] = ()
    error: HvpsError | None = None
    point: Point | None = None
    try:
        if vm.vm_id is None:
            raise PointNotFound(vm.name, repository.store.url)
        point = repository.catalog.find_point_of(vm.vm_id, options.point)
        chosen = choose_disks(point, options.disk)
        target = target or _named_target(context, options)
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


def _named_target(context: TaskContext, options: RestoreOptions) -> RestoreTarget:
    names = _names(context.vm, context.run_id)
    return open_target(options.to, names, context.repository, overwrite=options.overwrite)


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
    summary="write disks of a recovery point to files",
    options=RestoreOptions,
    run=restore_vm,
    result=RestoreResult,
    lines=lines,
    places=_places,
    tables=TABLES,
)
