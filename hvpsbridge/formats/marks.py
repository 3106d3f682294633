"""Small records beside the points: what was found bad, what was pruned, what was proved later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.manifest import Proof


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that verification could not read. ``pack`` is the pack's name, 16 bytes; zero bytes when no
    index names the frame at all."""

    id: bytes
    pack: bytes


@dataclass(frozen=True, slots=True)
class BadList:
    """Frames found bad by one verification. A frame listed counts as absent when deduplicating, so the
    next backup that meets the chunk stores it again, and old points are whole again too."""

    at: datetime
    frames: tuple[BadFrame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What a prune leaves of a point: its place in the line of its VM."""

    point_id: UUID
    vm_id: UUID
    sequence: int
    digest: bytes
    previous: bytes | None
    at: datetime


@dataclass(frozen=True, slots=True)
class LaterProof:
    """Proof of a disk (all disks for an empty ``slot``) after its manifest was written."""

    manifest_digest: bytes
    slot: str
    proof: Proof
