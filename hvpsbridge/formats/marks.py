"""Small records about points: frames that were found bad, points that were pruned, later proofs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.manifest import Proof


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that could not be read. ``pack`` is the name of its pack, or 16 zero bytes when no index has
    the frame."""

    id: bytes
    pack: bytes


@dataclass(frozen=True, slots=True)
class BadList:
    """Frames that a verification found bad. Deduplication ignores them, so the next backup that has such a
    chunk stores it again, which repairs older points as well."""

    at: datetime
    frames: tuple[BadFrame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What remains of a pruned point: its place in the lineage of its VM."""

    point_id: UUID
    vm_id: UUID
    sequence: int
    digest: bytes
    previous: bytes | None
    at: datetime


@dataclass(frozen=True, slots=True)
class LaterProof:
    """A proof of a disk that was made after its manifest was written; of all disks if ``slot`` is empty."""

    manifest_digest: bytes
    slot: str
    proof: Proof
