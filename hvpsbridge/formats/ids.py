"""The ids object of a recovery point: the ids of its reference point. A point without one cannot be a base.

It is written after the checkpoint was converted, under the point's name. It repeats what it belongs to (the
manifest's digest, the VM id, disk ids), so that ids are never used with another point.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.manifest import Manifest


@dataclass(frozen=True, slots=True)
class DiskIds:
    """The RCT id of a disk in a reference point."""

    slot: str
    disk_id: UUID | None
    rct_id: str


@dataclass(frozen=True, slots=True)
class PointIds:
    """Ids of the reference point of a recovery point.

    Attributes:
        manifest_digest: SHA-256 of the manifest's canonical text.
        reference_point: its ``InstanceID`` on the host.
    """

    manifest_digest: bytes
    vm_id: UUID
    reference_point: str
    disks: tuple[DiskIds, ...]

    def fits(self, manifest: Manifest) -> bool:
        """Whether these are ids of the point of ``manifest``: its digest, VM, disks and RCT ids are equal."""
        stored = {(disk.slot, disk.disk_id): disk.rct_id for disk in manifest.disks}
        return (
            self.manifest_digest == manifest.digest()
            and self.vm_id == manifest.vm_id
            and all(stored.get((disk.slot, disk.disk_id)) == disk.rct_id for disk in self.disks)
        )

    def rct_id(self, slot: str) -> str | None:
        """RCT id of the disk in ``slot``; None when there is none."""
        return next((disk.rct_id for disk in self.disks if disk.slot == slot), None)
