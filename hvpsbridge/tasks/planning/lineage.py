"""The recovery points of a VM and what they say about its disks. Pure, but for :func:`read_lineage`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.ids import IdWay, PointIds
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.restored import Restored, read_restored

# Level of a proof that compared the disk with the frozen one.
EQUAL = "equal"
# How many increments proved whole make tracking of a disk trusted on an OS build, and how many compares must
# confirm it after it was wrong.
PROOFS_WANTED = 2


@dataclass(frozen=True, slots=True)
class KnownDisk:
    """A disk in one point.

    Attributes:
        rct_id: usable id of the disk in that point; None if there is none.
        way: how that id relates to the one the frozen disk had.
        id_fault: why there is none.
        reference_point: ``InstanceID`` of the reference point the id belongs to.
        changed_bytes: what tracking reported for that point.
        created: when the checkpoint of that point was created.
        host: where it was created.
        os: the build of that host at the time.
    """

    point_id: UUID
    slot: str
    disk_id: UUID | None
    size_bytes: int
    sector_bytes: int
    chain: tuple[str, ...]
    tree: TreeRoot
    rct_id: str | None
    way: IdWay
    id_fault: str
    reference_point: str | None
    changed_bytes: int
    created: datetime
    host: str
    os: OsBuild


@dataclass(frozen=True, slots=True)
class Trust:
    """How far tracking of a disk can be trusted on an OS build."""

    proved_increments: int

    @property
    def earned(self) -> bool:
        """Whether the rotating audit is enough, in place of whole proofs."""
        return self.proved_increments >= PROOFS_WANTED


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A committed point with its ids object; None if it has none."""

    manifest: Manifest
    ids: PointIds | None

    @property
    def usable(self) -> bool:
        """Whether the ids match the manifest, so that the point can be the base of an increment."""
        return self.ids is not None and self.ids.fits(self.manifest)


class Lineage:
    """The points of one VM, oldest first.

    Args:
        points: oldest first.
        restored: the newest restore of its disks.
    """

    def __init__(self, points: Iterable[KnownPoint], restored: Restored | None = None) -> None:
        self.points: tuple[KnownPoint, ...] = tuple(points)
        self._restored = restored

    @property
    def reference_points(self) -> frozenset[str]:
        """``InstanceID`` of every reference point that an ids object names; hvps created these."""
        return frozenset(point.ids.reference_point for point in self.points if point.ids is not None)

    @property
    def last_sequence(self) -> int:
        """Number of the newest point; it grows by one with each point, whatever is pruned."""
        return self.points[-1].manifest.sequence if self.points else 0

    def has_excluded(self, slot: str) -> bool:
        """Whether the disk at this slot was excluded from the newest point."""
        return bool(self.points) and any(disk.slot == slot for disk in self.points[-1].manifest.excluded)

    def newest(self, slot: str, disk_id: UUID | None) -> KnownDisk | None:
        """The disk in the newest point that has it at this slot; an unknown id matches any disk there."""
        return self._first(
            lambda disk: disk.slot == slot and (disk_id is None or disk.disk_id in (disk_id, None))
        )

    def newest_at(self, slot: str) -> KnownDisk | None:
        """The disk at this slot, whichever it is, in the newest point that has one there."""
        return self._first(lambda disk: disk.slot == slot)

    def newest_elsewhere(self, disk_id: UUID | None) -> KnownDisk | None:
        """The disk of this id at any slot, in the newest point that has it; None if it has two."""
        if disk_id is None:
            return None
        for point in reversed(self.points):
            found = [disk for disk in point.manifest.disks if disk.disk_id == disk_id]
            if found:
                return _known(point, found[0]) if len(found) == 1 else None
        return None

    def was_restored(self, slot: str) -> bool:
        """Whether the disk at this slot was restored since the newest point that has one there."""
        restored = self._restored
        if restored is None or slot not in restored.slots:
            return False
        return not any(
            point.manifest.sequence > restored.after
            and any(disk.slot == slot for disk in point.manifest.disks)
            for point in self.points
        )

    def restored_disk(self, slot: str) -> KnownDisk | None:
        """What the disk at this slot was restored from; None if that is not known."""
        if self._restored is None or self._restored.manifest is None:
            return None
        point = KnownPoint(self._restored.manifest, None)
        return next((_known(point, disk) for disk in point.manifest.disks if disk.slot == slot), None)

    def newest_with_ids(self, slot: str, disk_id: UUID) -> KnownDisk | None:
        """The disk in the newest point that has a usable id for it, from after the last restore."""
        for point in reversed(self.points):
            if self._restored is not None and point.manifest.sequence <= self._restored.after:
                return None
            for disk in point.manifest.disks:
                if disk.slot == slot and disk.disk_id == disk_id:
                    known = _known(point, disk)
                    if known.rct_id is not None:
                        return known
        return None

    @property
    def ids_differ(self) -> bool:
        """Whether the newest reference point had other ids than the frozen disks."""
        newest = next((point.ids for point in reversed(self.points) if point.ids is not None), None)
        return newest is not None and any(disk.way is not IdWay.FROZEN for disk in newest.disks)

    def reference_ids_missed(self, os_build: OsBuild) -> bool:
        """Whether an id of a reference point was seen to miss changes on ``os_build``."""
        return any(
            point.manifest.os == os_build
            and disk.way == IdWay.REFERENCE
            and disk.reason in (Reason.TRACKING_LIED.word, Reason.IDS_LATE.word)
            for point in self.points
            for disk in point.manifest.disks
        )

    def proved_reference_ids(self, os_build: OsBuild, host: str) -> int:
        """How many increments from ids of reference points were proved whole on a host and build."""
        return sum(
            disk.mode == Mode.INCREMENTAL and disk.way == IdWay.REFERENCE and _proved_whole(disk)
            for point in self.points
            if point.manifest.os == os_build and point.manifest.host.casefold() == host.casefold()
            for disk in point.manifest.disks
        )

    def trust(self, slot: str, disk_id: UUID | None, os_build: OsBuild, way: IdWay = IdWay.FROZEN) -> Trust:
        """Counts increments on ``os_build`` from such ids that were proved whole since tracking was wrong."""
        proved = 0
        for point, disk in self._history(slot, disk_id):
            if disk.reason == Reason.TRACKING_LIED.word:
                break
            same = point.manifest.os == os_build and disk.way == way
            if same and disk.mode == Mode.INCREMENTAL and _proved_whole(disk):
                proved += 1
        return Trust(proved)

    def distrusted(self, slot: str, disk_id: UUID | None) -> bool:
        """Whether tracking of the disk was wrong, and was not confirmed often enough since."""
        right = 0
        for _, disk in self._history(slot, disk_id):
            if disk.reason == Reason.TRACKING_LIED.word:
                return right < PROOFS_WANTED
            if disk.reason == Reason.DISTRUSTED.word and _proved_whole(disk):
                right += 1
        return False

    def unexpected_in_a_row(self, slot: str, disk_id: UUID | None, expected: Sequence[str]) -> int:
        """How many of the newest points in a row have the disk with a reason that is not ``expected``."""
        count = 0
        for _, disk in self._history(slot, disk_id):
            if disk.reason in expected:
                break
            count += 1
        return count

    def change_rate(self, slot: str, disk_id: UUID | None) -> float | None:
        """Bytes per second that tracking reported between the disk's two newest points; None if unknown."""
        history = list(itertools.islice(self._history(slot, disk_id), 2))
        if len(history) < 2 or history[0][1].mode != Mode.INCREMENTAL:
            return None
        seconds = (history[0][0].manifest.created - history[1][0].manifest.created).total_seconds()
        return history[0][1].stats.changed_bytes / seconds if seconds > 0 else None

    def _history(self, slot: str, disk_id: UUID | None) -> Iterator[tuple[KnownPoint, ManifestDisk]]:
        for point in reversed(self.points):
            for disk in point.manifest.disks:
                if disk.slot == slot and disk.disk_id == disk_id:
                    yield point, disk

    def _first(self, wanted: Callable[[ManifestDisk], bool]) -> KnownDisk | None:
        for point in reversed(self.points):
            for disk in point.manifest.disks:
                if wanted(disk):
                    return _known(point, disk)
        return None


def read_lineage(repository: Repository, vm_id: UUID) -> Lineage:
    """The lineage of a VM in the repository."""
    return Lineage(
        (KnownPoint(point.manifest, ids) for point, ids in repository.catalog.with_ids(vm_id)),
        read_restored(repository, vm_id),
    )


def _proved_whole(disk: ManifestDisk) -> bool:
    return disk.proof is not None and disk.proof.level == EQUAL and disk.proof.proved_bytes >= disk.size_bytes


def _known(point: KnownPoint, disk: ManifestDisk) -> KnownDisk:
    rct_id: str | None = None
    way = IdWay.FROZEN
    if point.ids is None:
        fault = "its checkpoint was never converted"
    elif not point.usable:
        fault = "its ids object does not match its manifest"
    else:
        found = point.ids.disk(disk.slot)
        if found is None:
            fault = "its reference point has no id for the disk"
        elif found.way is IdWay.LATE:
            fault = "the disk was not tracked when its checkpoint was made"
        else:
            rct_id, way, fault = found.rct_id, found.way, ""
    return KnownDisk(
        point.manifest.point_id,
        disk.slot,
        disk.disk_id,
        disk.size_bytes,
        disk.sector_bytes,
        disk.chain,
        disk.tree,
        rct_id,
        way,
        fault,
        point.ids.reference_point if point.ids is not None else None,
        disk.stats.changed_bytes,
        point.manifest.created,
        point.manifest.host,
        point.manifest.os,
    )
