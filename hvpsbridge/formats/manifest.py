"""The manifest: a recovery point exists when its manifest does.

Canonical JSON (``formats.record``) in an envelope of kind MANIFEST. Per VM, manifests form a line: each
has the next sequence number and the digest of the one before, so a lost one leaves a gap that a prune
would have covered with a tombstone.
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
    """How far content was proved: ``level`` is one of written, hashed, equal, readable, boots, restored.

    Attributes:
        proved_bytes: how much of it the proof looked at.
        by: run that proved it.
    """

    level: str
    at: datetime
    proved_bytes: int
    by: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStats:
    """What one disk cost. All bytes.

    Attributes:
        changed_bytes: as change tracking reported (the whole of what was read for a full).
        read_bytes: raw bytes taken from the frozen disk.
        wire_bytes: received for them, all encodings included.
        stored_bytes: added to packs.
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
        slot: where it hangs, for example ``scsi 0:1``.
        disk_id: VirtualDiskId.
        sector_bytes: logical sector size.
        path: frozen file on the host; chain: that file and its parents.
        tree: the content.
        rct_id: ``MostRecentId`` read from the frozen handle; None when tracking was off.
        mode: full, incremental or compare; reason: why, as the planner's word.
        base: point whose chunks were patched; None for a full.
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
    """A disk the VM had when the point was made, and that is not in it because somebody wanted it so.

    Attributes:
        path: its file on the host; None for a physical disk.
        pattern: of the playbook, by which it was left out.
    """

    slot: str
    disk_id: UUID | None
    path: str | None
    size_bytes: int
    pattern: str


@dataclass(frozen=True, slots=True)
class FileRef:
    """A stored file: configuration files of the VM."""

    name: str
    size_bytes: int
    sha256: bytes
    tree: TreeRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A recovery point.

    Attributes:
        sequence: 1 for the VM's first point here, then one more each; 0 until the repository sets it.
        previous: digest of the manifest before; None for the first.
        created: when the checkpoint was taken, UTC.
        contract: number of the host contract.
        consistency_asked: application, crash, or a policy's word; consistency: which was reached, in
            the words of ``contract.results.Consistency``.
        definition: portable definition of the VM, JSON text.
        excluded: disks of the VM that were left out on request.
        durable: whether the store could promise, when this was written, that it survives a power loss.
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
        """SHA-256 of the canonical text; names this manifest in the next one and in its ids object."""
        return hashlib.sha256(self.encode()).digest()

    def disk(self, slot: str) -> ManifestDisk:
        """The disk in ``slot``.

        Raises:
            KeyError: there is none.
        """
        for disk in self.disks:
            if disk.slot == slot:
                return disk
        raise KeyError(slot)


def decode_manifest(payload: bytes | memoryview) -> Manifest:
    """The manifest in ``payload``.

    Raises:
        Malformed: it is none.
    """
    return decode_record(Manifest, payload)
