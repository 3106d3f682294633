"""The ids object: what conversion returned for a point. Only with it may a point be a base.

Written after the checkpoint became a reference point, under the point's own name. It repeats what it
belongs to (the manifest's digest, VM id, disk ids), so that ids can never be used with another point.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.manifest import Manifest


@dataclass(frozen=True, slots=True)
class DiskIds:
    """RCT id of one disk as the reference point carries it."""

    slot: str
    disk_id: UUID | None
    rct_id: str


@dataclass(frozen=True, slots=True)
class PointIds:
    """Ids of a reference point that belongs to a recovery point.

    Attributes:
        manifest_digest: SHA-256 of the manifest's canonical text.
        reference_point: its ``InstanceID`` on the host.
    """

    manifest_digest: bytes
    vm_id: UUID
    reference_point: str
    disks: tuple[DiskIds, ...]

    def fits(self, manifest: Manifest) -> bool:
        """Whether these ids may be used with the point of ``manifest``: digest, VM, every disk and id."""
        stored = {(disk.slot, disk.disk_id): disk.rct_id for disk in manifest.disks}
        return (
            self.manifest_digest == manifest.digest()
            and self.vm_id == manifest.vm_id
            and all(stored.get((disk.slot, disk.disk_id)) == disk.rct_id for disk in self.disks)
        )

    def rct_id(self, slot: str) -> str | None:
        """RCT id of the disk in ``slot``; None when the reference point has none for it."""
        return next((disk.rct_id for disk in self.disks if disk.slot == slot), None)
