"""Small records about points: bad frames, points that were pruned, later proofs, tags."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """Tombstones of points whose manifests are gone, merged into one object by a collect."""

    tombstones: tuple[Tombstone, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """One change of a point's tags or of its protection. They apply in the order of their counters.

    Attributes:
        manifest_digest: of the point.
        add, remove: tags.
        protect: whether the point is protected from now on; None leaves it as it is.
    """

    manifest_digest: bytes
    at: datetime
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    protect: bool | None = None
