"""Restoring: a point's disks written out, each chunk checked on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import ConfigurationError, HvpsError
from hvpsbridge.formats.extents import total_bytes
from hvpsbridge.formats.manifest import ExcludedDisk, ManifestDisk
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter, Progress
from hvpsbridge.tasks.policy import RestorePolicy
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.sinks import RawFile
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.task import Task, TaskContext
from hvpsbridge.units import duration_text, size_text


@dataclass(frozen=True, slots=True)
class RestoredDisk:
    """One disk written out: where, how large, and how much of it was data."""

    slot: str
    path: str
    size_bytes: int
    data_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreSection:
    """What reports hold of a restore; ``excluded`` are disks of the VM that the point does not have."""

    point_id: UUID | None
    disks: tuple[RestoredDisk, ...]
    excluded: tuple[ExcludedDisk, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreResult(TaskResult):
    """What came of a restore; see :class:`RestoreSection` for the fields."""

    point_id: UUID | None = None
    disks: tuple[RestoredDisk, ...] = ()
    excluded: tuple[ExcludedDisk, ...] = ()

    @property
    def section(self) -> RestoreSection:
        """What reports hold of it."""
        return RestoreSection(self.point_id, self.disks, self.excluded)


def restore_lines(section: RestoreSection, planned: bool) -> Iterator[str]:
    """What people read beside the table: disks they might miss."""
    for disk in section.excluded:
        yield f"disk {disk.slot} ({disk.path or 'physical disk'}) was left out of this point"


def file_name(slot: str) -> str:
    """Name of a disk's raw file when several go into one folder: ``scsi-0-1.raw``."""
    return slot.replace(" ", "-").replace(":", "-") + ".raw"


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
    path: Path,
    *,
    overwrite: bool,
    cancel: Cancellation,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> RestoredDisk:
    """Write one disk into a sparse raw file.

    Args:
        repository: holds the point.
        point: the point.
        disk: one of its disks.
        path: the file; it appears when it is whole.
        overwrite: whether a file there is replaced.
        cancel: asked before each chunk.
        tell: told how far it is.

    Raises:
        TargetExists: there is a file already.
        ConfigurationError: it lies in the repository.
        NoSpace: it does not fit.
        Damaged: a chunk is not what was stored; no file appears.
    """
    if repository.holds(path):
        raise ConfigurationError(str(path), "lies in the repository that is restored from")
    started = time.monotonic()
    image = repository.image(point, disk)
    data_bytes = total_bytes(image.extents())
    meter = Meter(tell, disk.slot, "restore", data_bytes)
    with RawFile(path, disk.size_bytes, data_bytes, overwrite=overwrite) as sink:
        for offset, data in image.chunks():
            cancel.check()
            sink.write(offset, data)
            meter.moved(len(data), 0)
        sink.finish()
    seconds = round(time.monotonic() - started, 3)
    return RestoredDisk(disk.slot, str(path), disk.size_bytes, data_bytes, seconds)


def restore_vm(context: TaskContext, policy: RestorePolicy) -> RestoreResult:
    """Write disks of one of the VM's points into a folder. Errors are in the result."""
    vm, repository = context.vm, context.repository
    started = datetime.now(UTC)
    disks: list[RestoredDisk] = []
    error: HvpsError | None = None
    point: Point | None = None
    try:
        point = repository.catalog.find_point(f"{vm.vm_id}@{policy.point}")
        folder = policy.folder(vm)
        for disk in choose_disks(point, policy.disk):
            disks.append(
                restore_disk(
                    repository,
                    point,
                    disk,
                    folder / file_name(disk.slot),
                    overwrite=policy.overwrite,
                    cancel=context.cancel,
                    tell=lambda progress: context.observer.progress(vm, progress),
                )
            )
    except HvpsError as err:
        error = err
    return RestoreResult(
        vm=vm,
        task="restore",
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        error=error,
        point_id=None if point is None else point.point_id,
        disks=tuple(disks),
        excluded=() if point is None else point.manifest.excluded,
    )


TASK = Task(
    name="restore",
    summary="write disks of a recovery point to files",
    run=restore_vm,
    result=RestoreResult,
    lines=restore_lines,
    tables=(
        ResultTable(
            "disks restored",
            lambda section: ((section, disk) for disk in section.disks),
            (
                Column("point", lambda row: str(row[0].point_id)[:8]),
                Column("disk", lambda row: row[1].slot),
                Column("file", lambda row: row[1].path),
                Column("size", lambda row: size_text(row[1].size_bytes), right=True),
                Column("data", lambda row: size_text(row[1].data_bytes), right=True),
                Column("time", lambda row: duration_text(row[1].seconds), right=True),
            ),
            with_host=False,
        ),
    ),
)
