"""The manifest: a recovery point exists when its manifest does.

It is canonical JSON (``formats.record``) in an envelope of kind MANIFEST. The manifests of a VM form a
lineage: each has the next sequence number and the digest of the one before. A lost one leaves a gap; a pruned
one leaves a tombstone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.malformed import Malformed, UnknownFields
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.formats.record import decode_record, encode_record

# In the order of what they prove.
PROOF_LEVELS = ("written", "hashed", "equal", "readable", "boots", "restored")
# The largest VHDX.
MAX_DISK_BYTES = 64 << 40
MAX_SECTOR_BYTES = 64 * 1024
# What databases and file systems can represent.
MAX_NUMBER = (1 << 63) - 1
DIGEST_BYTES = 32
# Slots become file names, so nothing else is accepted.
_SLOT = re.compile("[a-z0-9_]{1,20} [0-9]{1,9}:[0-9]{1,9}")


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
        way: where the id came from that tracking was asked with, as a value of ``IdWay``.
        tracked_without_id: tracking was on, but the frozen handle showed no id.
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
    way: str = "frozen"
    tracked_without_id: bool = False


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
        os_build: build number of the host's Windows.
        os_revision: its revision (UBR); 0 if unknown, as in points of older versions of hvps.
        excluded: disks of the VM that are not in the point.
        writer: the run object of the writer that committed it; None in format 1.
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
    os_revision: int = 0
    writer: UUID | None = None

    @property
    def os(self) -> OsBuild:
        """The build of Windows on the host."""
        return OsBuild(self.os_build, self.os_revision)

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
        Malformed: it is not a manifest, or a value is not one that hvps writes.
        UnknownFields: a newer hvps wrote it.
    """
    manifest = decode_record(Manifest, payload)
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Check that all values are ones that hvps writes. Anyone can forge a manifest in a plain repository.

    Raises:
        Malformed: a value is not one that hvps writes.
        UnknownFields: a level of proof is one of a newer hvps.
    """
    _check_number("sequence", manifest.sequence)
    _check_number("contract", manifest.contract)
    _check_number("os_build", manifest.os_build)
    _check_number("os_revision", manifest.os_revision)
    _check_digest("previous", manifest.previous)
    slots = [disk.slot for disk in manifest.disks]
    for slot in (*slots, *(disk.slot for disk in manifest.excluded)):
        if not _SLOT.fullmatch(slot):
            raise Malformed(f"{slot[:40]!r} is not a valid slot")
    if len(slots) != len(set(slots)):
        raise Malformed("two disks have the same slot")
    for disk in manifest.disks:
        _check_number("sector_bytes", disk.sector_bytes, MAX_SECTOR_BYTES, least=1)
        _check_tree(disk.tree, disk.size_bytes)
        stats = disk.stats
        for count in (stats.changed_bytes, stats.read_bytes, stats.wire_bytes, stats.stored_bytes):
            _check_number("stats", count)
        for count in (stats.new_chunks, stats.reread_chunks):
            _check_number("stats", count)
        if disk.proof is not None:
            check_proof(disk.proof)
    for file in manifest.files:
        _check_digest("sha256", file.sha256)
        _check_tree(file.tree, file.size_bytes)
    for excluded in manifest.excluded:
        _check_number("size_bytes", excluded.size_bytes)


def check_proof(proof: Proof) -> None:
    """Check the values of a proof.

    Raises:
        Malformed: the number of bytes is not valid.
        UnknownFields: the level is one of a newer hvps.
    """
    if proof.level not in PROOF_LEVELS:
        raise UnknownFields(f"unknown level of proof {proof.level[:40]!r}")
    _check_number("proved_bytes", proof.proved_bytes)


def _check_number(what: str, value: int, most: int = MAX_NUMBER, *, least: int = 0) -> None:
    if not least <= value <= most:
        raise Malformed(f"{what} is {value}, but must be from {least} to {most}")


def _check_digest(what: str, value: bytes | None) -> None:
    if value is not None and len(value) != DIGEST_BYTES:
        raise Malformed(f"{what} has {len(value)} bytes instead of {DIGEST_BYTES}")


def _check_tree(tree: TreeRoot, size_bytes: int) -> None:
    _check_digest("root", tree.root)
    _check_number("size_bytes", size_bytes, MAX_DISK_BYTES)
    if tree.size_bytes != size_bytes:
        raise Malformed(f"a tree of {tree.size_bytes} bytes for {size_bytes} bytes")
