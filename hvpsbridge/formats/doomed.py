"""What a collect publishes before it deletes: lists of doomed packs and points, and fences of dead runs.

Writers read the lists when they begin, and count doomed packs as absent. A list is carried out by a later
collect, when every run that it names has ended or has a fence: such a run may have begun before the list, and
may rely on what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.malformed import Malformed

NAME_BYTES = 16
_PACK_KINDS = (Kind.DATA_PACK, Kind.NODE_PACK)


@dataclass(frozen=True, slots=True, order=True)
class DoomedPack:
    """A pack that no point needs. ``kind`` is 1 for a data pack, 2 for a node pack."""

    kind: int
    name: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DoomedList:
    """What a later collect deletes unless a point needs it again.

    Attributes:
        at: when it was published, on the clock of the collector.
        runs: run objects that existed after it was published; None in the object that was published first.
        packs: packs that are in an index. Writers count them as absent.
        unlisted: packs that were in no index. No writer can rely on them, except the one that stored them.
        points: pruned points whose manifests are still there.
    """

    at: datetime
    runs: tuple[UUID, ...] | None
    packs: tuple[DoomedPack, ...] = ()
    unlisted: tuple[DoomedPack, ...] = ()
    points: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Says that a run counts as dead for good, even if its process comes back.

    The first object of a fence has no ``points``. It is durable before the manifests are listed that the
    second one names: those of the run that are points. Any other manifest of the run is none, for every
    reader.

    Attributes:
        run: the run object.
        points: None in the first object.
    """

    run: UUID
    at: datetime
    points: tuple[UUID, ...] | None = None


def check_doomed(listed: DoomedList) -> None:
    """Check the packs of a list. Anyone can forge one in a plain repository.

    Raises:
        Malformed: a value is not one that hvps writes.
    """
    for pack in (*listed.packs, *listed.unlisted):
        if pack.kind not in _PACK_KINDS or len(pack.name) != NAME_BYTES:
            raise Malformed(f"{pack.name.hex()[:40]!r} of kind {pack.kind} is not a pack")
