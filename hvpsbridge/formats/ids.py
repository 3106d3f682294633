"""The ids object of a recovery point: the ids of its reference point. A point without one cannot be a base.

It is written after the checkpoint was converted, under the point's name. It repeats what it belongs to (the
manifest's digest, the VM id, disk ids), so that ids are never used with another point.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.formats.manifest import Manifest


class IdWay(StrEnum):
    """How the RCT id of a disk in a reference point relates to the id that the frozen disk had.

    ``frozen``: it is the same. ``reference``: it is another one. ``late``: the frozen disk was not tracked,
    so the id is later than the checkpoint, and no increment may start from it.
    """

    FROZEN = "frozen"
    REFERENCE = "reference"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class DiskIds:
    """The RCT id of a disk in a reference point."""

    slot: str
    disk_id: UUID | None
    rct_id: str
    way: IdWay = IdWay.FROZEN


@dataclass(frozen=True, slots=True)
class PointIds:
    """Ids of the reference point of a recovery point.

    Attributes:
        manifest_digest: SHA-256 of the manifest's canonical text.
        reference_point: its ``InstanceID`` on the host; empty if it is gone or not known to be ours.
    """

    manifest_digest: bytes
    vm_id: UUID
    reference_point: str
    disks: tuple[DiskIds, ...]

    def fits(self, manifest: Manifest) -> bool:
        """Whether these are ids of the point of ``manifest``: its digest, VM and disks are equal, and its RCT
        ids as far as ``way`` says so."""
        stored = {(disk.slot, disk.disk_id): disk.rct_id for disk in manifest.disks}
        return (
            self.manifest_digest == manifest.digest()
            and self.vm_id == manifest.vm_id
            and all(_fits(disk, stored) for disk in self.disks)
        )

    @property
    def may_be_base(self) -> bool:
        """Whether an increment may start from an id of this reference point, once its host is trusted."""
        return bool(self.reference_point) and any(disk.way is not IdWay.LATE for disk in self.disks)

    def disk(self, slot: str) -> DiskIds | None:
        """Id of the disk in ``slot``; None when there is none."""
        return next((disk for disk in self.disks if disk.slot == slot), None)


def _fits(disk: DiskIds, stored: dict[tuple[str, UUID | None], str | None]) -> bool:
    key = (disk.slot, disk.disk_id)
    return key in stored and (disk.way is not IdWay.FROZEN or stored[key] == disk.rct_id)
