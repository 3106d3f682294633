"""What a restore reports: its section of reports, lines for people, and the table of disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import HvpsError
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.restore.devices import Device
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.units import duration_text, size_text

USUAL_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes of a disk that could not be restored; they read as zeros in the target, or as before."""

    offset: int
    length: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredDisk:
    """One restored disk: where it is, how large, and how much of it is data.

    Attributes:
        format: of the file, as in ``--to``.
        sector_bytes: logical sector size of the disk; programs that read a raw image must be told.
        unfinished_bytes: size of what a killed restore had left of the file, which was replaced.
        device: the block device that the disk was written into; null for a file.
        damaged: ranges that were left out because of damage, ascending.
        damaged_kept: they have the content from before the restore, instead of zeros.
    """

    slot: str
    path: str
    size_bytes: int
    data_bytes: int
    seconds: float
    sector_bytes: int
    format: str = "raw"
    unfinished_bytes: int = 0
    device: Device | None = None
    damaged: tuple[DamagedRange, ...] = ()
    damaged_kept: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What a target says when all disks are there.

    Attributes:
        notes: about what it made, one line each.
        warnings: what may not be as wanted, one line each.
        conditions: what failed although the disks are there.
    """

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conditions: tuple[HvpsError, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreSection:
    """The report of a restore.

    Attributes:
        excluded: disks of the VM that are not in the point.
        mapped: names that were changed to become file names.
        unfinished: files that killed restores left beside the disks.
        definition_lacks: sections that the VM's definition in the point lacks.
        notes: what the target says about what it made, one line each.
    """

    point_id: UUID | None
    disks: tuple[RestoredDisk, ...]
    excluded: tuple[ExcludedDisk, ...] = ()
    mapped: tuple[MappedName, ...] = ()
    unfinished: tuple[str, ...] = ()
    definition_lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreResult(TaskResult):
    """Result of a restore; see :class:`RestoreSection` for the fields."""

    point_id: UUID | None = None
    disks: tuple[RestoredDisk, ...] = ()
    excluded: tuple[ExcludedDisk, ...] = ()
    mapped: tuple[MappedName, ...] = ()
    unfinished: tuple[str, ...] = ()
    definition_lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def section(self) -> RestoreSection:
        """What reports contain of it."""
        return RestoreSection(
            self.point_id,
            self.disks,
            self.excluded,
            self.mapped,
            self.unfinished,
            self.definition_lacks,
            self.notes,
        )


def lines(section: RestoreSection, planned: bool) -> Iterator[str]:
    """Lines to print beside the table."""
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
        state = "as before the restore" if disk.damaged_kept else "zeros"
        for damaged in disk.damaged:
            yield (
                f"disk {disk.slot}: bytes {damaged.offset} to {damaged.offset + damaged.length - 1} are "
                f"damaged, and {state} in {disk.path}: {damaged.what}"
            )
        yield from _sector_lines(disk)
    yield from section.notes


def _sector_lines(disk: RestoredDisk) -> Iterator[str]:
    if disk.device is None:
        if disk.format == "raw" and disk.sector_bytes != USUAL_SECTOR_BYTES:
            yield (
                f"disk {disk.slot} has sectors of {disk.sector_bytes} bytes: read it with "
                f"`losetup --sector-size {disk.sector_bytes}`"
            )
        if disk.format == "qcow2" and disk.sector_bytes != USUAL_SECTOR_BYTES:
            yield (
                f"disk {disk.slot} has sectors of {disk.sector_bytes} bytes: start QEMU with "
                f"logical_block_size={disk.sector_bytes}"
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


TABLES = (
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
)
