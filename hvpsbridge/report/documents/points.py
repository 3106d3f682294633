"""Documents about recovery points: ``hvps list``, ``show``, ``verify`` and ``copy``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.manifest import DiskStats, ExcludedDisk, ManifestDisk, Proof
from hvpsbridge.report.documents.document import Document
from hvpsbridge.report.values import INLINE
from hvpsbridge.repository import Point, VerifyReport
from hvpsbridge.repository.copying import CopyReport
from hvpsbridge.repository.point_ages import VmAge
from hvpsbridge.repository.tags import NO_TAGS, PointTags
from hvpsbridge.secret import Word
from hvpsbridge.tasks.boots import BootCheck
from hvpsbridge.tasks.files.readable import ReadableCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDisk:
    """One disk of a recovery point.

    Attributes:
        number: number for hvps restore --disk.
        slot: controller and position, as scsi 0:1.
        disk_id: VirtualDiskId of the disk file.
        sector_bytes: logical sector size; programs that read the restored image must be told.
        mode: full, incremental or compare.
        reason: why this mode was chosen.
        base: recovery point that the increment starts from.
        stats: what the backup of the disk cost.
        proof: highest level to which the content was proved; null when it was only written.
    """

    number: int
    slot: str
    disk_id: UUID | None
    size_bytes: int
    sector_bytes: int
    mode: Word
    reason: Word
    base: UUID | None
    stats: DiskStats
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class PointProof:
    """The newest proof of one level.

    Attributes:
        level: written, hashed, equal, readable, boots or restored.
        slot: of the disk it is about; null for all disks.
        proved_bytes: how much was checked or read.
        run_id: run that did.
    """

    level: Word
    slot: str | None
    at: datetime
    proved_bytes: int
    run_id: UUID


@dataclass(frozen=True, slots=True)
class PointFile:
    """A configuration file of the VM that is part of a recovery point."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSummary:
    """A recovery point.

    Attributes:
        checkpoint_id: checkpoint on the host from which the point was read.
        sequence: 1 for the first point of the VM in this repository.
        hvps: version of hvps that made the point.
        contract: version of the host operations it used.
        consistency_asked: consistency that was asked for.
        consistency: consistency that was reached.
        excluded: disks of the VM that were left out on request.
        proofs: the newest proof of each level, lowest level first.
        protected: whether nothing may prune or forget it.
    """

    point_id: UUID
    vm: str
    vm_id: UUID
    host: str
    created: datetime
    run_id: UUID
    checkpoint_id: UUID | None
    sequence: int
    hvps: str
    contract: int
    consistency_asked: Word
    consistency: Word
    disks: tuple[PointDisk, ...]
    excluded: tuple[ExcludedDisk, ...]
    files: tuple[PointFile, ...]
    proofs: tuple[PointProof, ...]
    tags: tuple[str, ...] = ()
    protected: bool = False


@dataclass(frozen=True, slots=True)
class UnreadablePoint:
    """A recovery point whose manifest is damaged or missing.

    Attributes:
        vm_id: null if nothing else says to which VM it belongs.
        name: of the object.
        what: what is wrong with it.
    """

    point_id: UUID
    vm_id: UUID | None
    name: str
    what: str


@dataclass(frozen=True, slots=True)
class PointList(Document):
    """Recovery points of a repository, oldest first.

    Attributes:
        unreadable: points whose manifest is damaged or missing.
        lost_chunks: chunks of the points that are known to be lost; hvps verify tells which points need them.
        unverified_since: when the pack that was not verified for longest was last read and hashed; for one
            that never was, the earliest time at which a part of it may have been stored. Null if the
            repository has format 1, or no packs.
    """

    repository_id: UUID
    points: tuple[PointSummary, ...]
    unreadable: tuple[UnreadablePoint, ...] = ()
    lost_chunks: int = 0
    unverified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PointShown(Document):
    """One recovery point.

    Attributes:
        usable_as_base: whether the next backup can be an increment on this point.
        lost_chunks: chunks of the point that are known to be lost.
        unverified_since: the same as in a list, of the packs that the point needs.
    """

    point: PointSummary = field(metadata=INLINE)
    usable_as_base: bool
    lost_chunks: int = 0
    unverified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verified(Document):
    """Result of a verification.

    Attributes:
        good: whether no problem was found.
        readable: what could be read of each point, at the level readable.
        boots: how each point booted, at the level boots.
    """

    good: bool
    report: VerifyReport
    readable: tuple[ReadableCheck, ...] = ()
    boots: tuple[BootCheck, ...] = ()


@dataclass(frozen=True, slots=True)
class AgesChecked(Document):
    """Ages of the newest points.

    Attributes:
        good: whether every VM has a point that is new enough; false without VMs.
        max_seconds: how old a newest point may be.
        vms: VMs that are too old first.
    """

    good: bool
    max_seconds: float
    vms: tuple[VmAge, ...]


@dataclass(frozen=True, slots=True)
class NotCopied:
    """A recovery point that could not be copied, and why.

    Attributes:
        vm_id: null if the manifest cannot be read and nothing else says to which VM it belongs.
        error: kind of the error.
        text: what it says.
    """

    point_id: UUID
    vm_id: UUID | None
    error: Word
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Document):
    """Result of a copy; points by id.

    Attributes:
        read_bytes: bytes read from the source.
        stored_bytes: bytes added to the target.
        copied: points that were copied.
        present: points that the target already had.
        skipped: points that are older than the newest copy of their VM.
        problems: points that could not be copied.
    """

    read_bytes: int
    stored_bytes: int
    copied: tuple[UUID, ...]
    present: tuple[UUID, ...]
    skipped: tuple[UUID, ...]
    problems: tuple[NotCopied, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenPoint:
    """A recovery point that was removed by hand.

    Attributes:
        needed: what it was the newest of, or the base of; empty if nothing needed it.
    """

    point_id: UUID
    vm: str
    vm_id: UUID
    created: datetime
    needed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(Document):
    """Recovery points that were removed by hand.

    Attributes:
        check: whether nothing was changed.
        protected: points that were protected meanwhile, and so stay.
    """

    check: bool
    points: tuple[ForgottenPoint, ...]
    protected: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class TaggedPoint:
    """Tags of a recovery point, and whether it is protected."""

    point_id: UUID
    vm: str
    vm_id: UUID
    tags: tuple[str, ...]
    protected: bool


@dataclass(frozen=True, slots=True)
class PointsTagged(Document):
    """Recovery points whose tags or protection were changed."""

    points: tuple[TaggedPoint, ...]


def point_summary(
    point: Point,
    proofs: Mapping[str, Proof | None],
    levels: tuple[PointProof, ...],
    tags: PointTags = NO_TAGS,
) -> PointSummary:
    """The summary of a point.

    Args:
        point: the point.
        proofs: furthest proof of each disk, by slot.
        levels: the newest proof of each level.
        tags: its tags.
    """
    manifest = point.manifest
    return PointSummary(
        point_id=manifest.point_id,
        vm=manifest.vm_name,
        vm_id=manifest.vm_id,
        host=manifest.host,
        created=manifest.created,
        run_id=manifest.run_id,
        checkpoint_id=manifest.checkpoint_id,
        sequence=manifest.sequence,
        hvps=manifest.hvps_version,
        contract=manifest.contract,
        consistency_asked=Word(manifest.consistency_asked),
        consistency=Word(manifest.consistency),
        disks=tuple(_disk(number, disk, proofs) for number, disk in enumerate(manifest.disks)),
        excluded=manifest.excluded,
        files=tuple(PointFile(file.name, file.size_bytes) for file in manifest.files),
        proofs=levels,
        tags=tuple(sorted(tags.tags)),
        protected=tags.protected,
    )


def _disk(number: int, disk: ManifestDisk, proofs: Mapping[str, Proof | None]) -> PointDisk:
    return PointDisk(
        number=number,
        slot=disk.slot,
        disk_id=disk.disk_id,
        size_bytes=disk.size_bytes,
        sector_bytes=disk.sector_bytes,
        mode=Word(disk.mode),
        reason=Word(disk.reason),
        base=disk.base,
        stats=disk.stats,
        proof=proofs[disk.slot],
    )


def copied(report: CopyReport) -> Copied:
    """The document of a copy."""
    return Copied(
        read_bytes=report.read_bytes,
        stored_bytes=report.stored_bytes,
        copied=tuple(point.point_id for point in report.copied),
        present=tuple(point.point_id for point in report.present),
        skipped=tuple(point.point_id for point in report.skipped),
        problems=tuple(
            NotCopied(each.point_id, each.vm_id, Word(each.error.kind), str(each.error))
            for each in report.problems
        ),
    )
