"""The manifest: a recovery point exists when its manifest does.

It is canonical JSON (``formats.record``) in an envelope of kind MANIFEST. The manifests of a VM form a
lineage: each has the next sequence number and the digest of the one before. A lost one leaves a gap; a pruned
one leaves a tombstone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.record import decode_record, encode_record


@dataclass(frozen=True, slots=True)
class Proof:
    """How content was proved.

    Attributes:
        level: written, hashed, equal, readable, boots or restored.
        proved_bytes: how much of it was checked.
        by: the run that checked it.
    """

    level: str
    at: datetime
    proved_bytes: int
    by: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStats:
    """Statistics of one disk.

    Attributes:
        changed_bytes: what change tracking reported; for a full backup, all that was read.
        read_bytes: raw bytes read from the frozen disk.
        wire_bytes: bytes received for them.
        stored_bytes: bytes added to packs.
    """

    changed_bytes: int = 0
    read_bytes: int = 0
    wire_bytes: int = 0
    stored_bytes: int = 0
    new_chunks: int = 0
    reread_chunks: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestDisk:
    """One disk of a point.

    Attributes:
        slot: where it is attached, for example ``scsi 0:1``.
        disk_id: VirtualDiskId.
        sector_bytes: logical sector size.
        path: the frozen file on the host.
        chain: that file and its parents.
        tree: the content.
        rct_id: ``MostRecentId`` read from the frozen handle; None when tracking was off.
        mode: full, incremental or compare.
        reason: why, as a value of ``Reason``.
        base: the point whose chunks were patched; None for a full backup.
    """

    slot: str
    disk_id: UUID | None
    size_bytes: int
    sector_bytes: int
    path: str
    chain: tuple[str, ...]
    tree: TreeRoot
    rct_id: str | None
    mode: str
    reason: str
    base: UUID | None = None
    stats: DiskStats = DiskStats()
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class ExcludedDisk:
    """A disk of the VM that the playbook excludes from the point.

    Attributes:
        path: its file on the host; None for a physical disk.
        pattern: the pattern that excludes it.
    """

    slot: str
    disk_id: UUID | None
    path: str | None
    size_bytes: int
    pattern: str


@dataclass(frozen=True, slots=True)
class FileRef:
    """A stored configuration file of the VM."""

    name: str
    size_bytes: int
    sha256: bytes
    tree: TreeRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A recovery point.

    Attributes:
        sequence: counts the VM's points in this repository from 1; 0 until the repository sets it.
        previous: digest of the manifest before; None for the first one.
        created: when the checkpoint was taken, UTC.
        contract: number of the host contract.
        consistency_asked: what the policy required.
        consistency: what was reached, a value of ``contract.results.Consistency``.
        definition: portable definition of the VM, JSON text.
        excluded: disks of the VM that are not in the point.
        durable: whether the store could guarantee that the point survives a power loss.
    """

    point_id: UUID
    vm_id: UUID
    vm_name: str
    host: str
    run_id: UUID
    created: datetime
    hvps_version: str
    contract: int
    consistency_asked: str
    consistency: str
    checkpoint_id: UUID | None
    disks: tuple[ManifestDisk, ...]
    files: tuple[FileRef, ...] = ()
    definition: str = ""
    os_build: int = 0
    sequence: int = 0
    previous: bytes | None = None
    durable: bool = True
    excluded: tuple[ExcludedDisk, ...] = ()

    def encode(self) -> bytes:
        """Canonical text."""
        return encode_record(self)

    def digest(self) -> bytes:
        """SHA-256 of the canonical text; the next manifest and the ids object refer to this one by it."""
        return hashlib.sha256(self.encode()).digest()

    def disk(self, slot: str) -> ManifestDisk:
        """The disk in ``slot``.

        Raises:
            KeyError: there is no such disk.
        """
        for disk in self.disks:
            if disk.slot == slot:
                return disk
        raise KeyError(slot)


def decode_manifest(payload: bytes | memoryview) -> Manifest:
    """The manifest in ``payload``.

    Raises:
        Malformed: it is not a manifest.
    """
    return decode_record(Manifest, payload)
