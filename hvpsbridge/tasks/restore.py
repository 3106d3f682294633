"""The task ``restore``: writes disks of a recovery point; each chunk is checked on its way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from hvpsbridge.errors import ConfigurationError, HvpsError, PointNotFound
from hvpsbridge.formats.definition import missing_sections
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.manifest import ExcludedDisk, ManifestDisk
from hvpsbridge.options import Option
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.devices import Device
from hvpsbridge.tasks.events import Meter, Progress, VmRef
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.places import Place
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.targets import TARGET, RestoreTarget, open_target, target_path
from hvpsbridge.tasks.task import Task, TaskContext
from hvpsbridge.units import MIB, duration_text, size_text

USUAL_SECTOR_BYTES = 512
# Zeros written to a device at a time, between two looks at signals.
ZERO_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Task `restore`: write disks of a recovery point of each selected VM to files on this machine."""

    to: Annotated[
        str,
        Option("raw:FOLDER; may contain {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }}", form=TARGET),
    ]
    point: Annotated[str, Option("latest, latest~1, a time, a short id or id:PREFIX")] = "latest"
    disk: Annotated[int | None, Option("only the disk of this number", at_least=0)] = None
    overwrite: Annotated[bool, Option("replace files that exist")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredDisk:
    """One restored disk: where it is, how large, and how much of it is data.

    Attributes:
        sector_bytes: logical sector size of the disk; programs that read the image must be told.
        unfinished_bytes: size of what a killed restore had left of the file, which was replaced.
        device: the block device that the disk was written into; null for a file.
    """

    slot: str
    path: str
    size_bytes: int
    data_bytes: int
    seconds: float
    sector_bytes: int
    unfinished_bytes: int = 0
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class RestoreSection:
    """The report of a restore.

    Attributes:
        excluded: disks of the VM that are not in the point.
        mapped: names that were changed to become file names.
        unfinished: files that killed restores left beside the disks.
        definition_lacks: sections that the VM's definition in the point lacks.
    """

    point_id: UUID | None
    disks: tuple[RestoredDisk, ...]
    excluded: tuple[ExcludedDisk, ...] = ()
    mapped: tuple[MappedName, ...] = ()
    unfinished: tuple[str, ...] = ()
    definition_lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreResult(TaskResult):
    """Result of a restore; see :class:`RestoreSection` for the fields."""

    point_id: UUID | None = None
    disks: tuple[RestoredDisk, ...] = ()
    excluded: tuple[ExcludedDisk, ...] = ()
    mapped: tuple[MappedName, ...] = ()
    unfinished: tuple[str, ...] = ()
    definition_lacks: tuple[str, ...] = ()

    @property
    def section(self) -> RestoreSection:
        """What reports contain of it."""
        return RestoreSection(
            self.point_id, self.disks, self.excluded, self.mapped, self.unfinished, self.definition_lacks
        )


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


def restore_disk(
    repository: Repository,
    point: Point,
    disk: ManifestDisk,
    target: RestoreTarget,
    *,
    cancel: Cancellation,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_spoiled: Callable[[str], None] = lambda text: None,
) -> RestoredDisk:
    """Restore one disk.

    Args:
        repository: holds the point.
        point: the point.
        disk: one of its disks.
        target: where it goes.
        cancel: checked before each chunk.
        on_progress: called a few times a second.
        on_spoiled: called if the place was changed but does not hold the disk.

    Raises:
        TargetExists: something is there already.
        ConfigurationError: nothing may be written there.
        NoSpace: it does not fit.
        Damaged: a chunk is not what was stored; the target keeps nothing.
    """
    started = time.monotonic()
    image = repository.image(point, disk)
    data_bytes = total_bytes(image.extents())
    meter = Meter(on_progress, disk.slot, "restore", data_bytes)
    with target.sink(disk, data_bytes) as sink:
        try:
            if sink.in_place:
                for offset, length in _holes(image.extents(), disk.size_bytes):
                    cancel.check()
                    sink.zero(offset, length)
            for offset, data in image.chunks():
                cancel.check()
                sink.write(offset, data)
                meter.moved(len(data), 0)
            sink.finish()
        finally:
            if sink.spoiled:
                on_spoiled(sink.spoiled)
    return RestoredDisk(
        slot=disk.slot,
        path=target.place(disk),
        size_bytes=disk.size_bytes,
        data_bytes=data_bytes,
        seconds=round(time.monotonic() - started, 3),
        sector_bytes=disk.sector_bytes,
        unfinished_bytes=sink.found_bytes,
        device=sink.device,
    )


def _holes(extents: Iterable[Extent], size_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what the extents leave of a disk, in pieces of at most :data:`ZERO_BYTES`."""
    position = 0
    for extent in itertools.chain(extents, [Extent(size_bytes, 0)]):
        while position < extent.offset:
            length = min(extent.offset - position, ZERO_BYTES)
            yield position, length
            position += length
        position = extent.end


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
    warnings: list[str] = []
    error: HvpsError | None = None
    point: Point | None = None
    try:
        if vm.vm_id is None:
            raise PointNotFound(vm.name, repository.store.url)
        point = repository.catalog.find_point_of(vm.vm_id, options.point)
        chosen = choose_disks(point, options.disk)
        target = target or _named_target(context, options)
        target.check(chosen)
        for disk in chosen:
            disks.append(
                restore_disk(
                    repository,
                    point,
                    disk,
                    target,
                    cancel=context.cancel,
                    on_progress=lambda progress: context.observer.progress(vm, progress),
                    on_spoiled=warnings.append,
                )
            )
    except HvpsError as err:
        error = err
    return RestoreResult(
        vm=vm,
        task=TASK.name,
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        warnings=tuple(warnings),
        point_id=None if point is None else point.point_id,
        disks=tuple(disks),
        excluded=() if point is None else point.manifest.excluded,
        mapped=() if target is None else target.mapped,
        unfinished=() if target is None else tuple(map(str, target.unfinished())),
        definition_lacks=() if point is None else missing_sections(point.manifest.definition),
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


def _lines(section: RestoreSection, planned: bool) -> Iterator[str]:
    for excluded in section.excluded:
        yield f"disk {excluded.slot} ({excluded.path or 'physical disk'}) was left out of this point"
    for lacking in section.definition_lacks:
        yield f"the VM's definition in this point lacks {lacking}"
    for mapped in section.mapped:
        yield f"{mapped.name!r} is {mapped.file_name!r} in the path, as a file name"
    for path in section.unfinished:
        yield f"{path} looks like what a killed restore left; remove it if it is"
    for disk in section.disks:
        if disk.unfinished_bytes:
            size = size_text(disk.unfinished_bytes)
            yield f"disk {disk.slot}: a killed restore had left {size}, which this one replaced"
        yield from _sector_lines(disk)


def _sector_lines(disk: RestoredDisk) -> Iterator[str]:
    if disk.device is None:
        if disk.sector_bytes != USUAL_SECTOR_BYTES:
            yield (
                f"disk {disk.slot} has sectors of {disk.sector_bytes} bytes: read it with "
                f"`losetup --sector-size {disk.sector_bytes}`"
            )
        return
    if disk.device.sector_bytes != disk.sector_bytes:
        yield (
            f"disk {disk.slot} has sectors of {disk.sector_bytes} bytes, but {disk.path} of "
            f"{disk.device.sector_bytes}: its partitions will not be found there"
        )
    if disk.device.size_bytes > disk.size_bytes:
        rest = size_text(disk.device.size_bytes - disk.size_bytes)
        yield f"disk {disk.slot} is smaller than {disk.path}: the last {rest} are as they were"


TASK = Task(
    name="restore",
    summary="write disks of a recovery point to files",
    options=RestoreOptions,
    run=restore_vm,
    result=RestoreResult,
    lines=_lines,
    places=_places,
    tables=(
        ResultTable(
            "disks restored",
            lambda section: ((section, disk) for disk in section.disks),
            (
                Column("point", lambda row: str(row[0].point_id)[:8]),
                Column("disk", lambda row: row[1].slot),
                Column("file", lambda row: row[1].path),
                Column("sector", lambda row: str(row[1].sector_bytes), right=True),
                Column("size", lambda row: size_text(row[1].size_bytes), right=True),
                Column("data", lambda row: size_text(row[1].data_bytes), right=True),
                Column("time", lambda row: duration_text(row[1].seconds), right=True),
            ),
            with_host=False,
        ),
    ),
)
