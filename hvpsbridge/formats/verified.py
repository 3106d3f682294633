"""What was verified, and when: for each pack, the last time that all of its frames were read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.malformed import Malformed

NAME_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPacks:
    """Packs of one age.

    Attributes:
        at: when their frames were read and checked. If they never were, the earliest time at which one of
            their frames may have been stored.
        hashed: whether they were read and checked.
        packs: their names, 16 bytes each, ascending.
    """

    at: datetime
    hashed: bool
    packs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyPass:
    """One verification with a budget.

    Attributes:
        at: when it began.
        vm_id: the VM whose points it was about; None for the whole repository.
        read_bytes: bytes of packs that it read.
    """

    at: datetime
    vm_id: UUID | None
    read_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification checked. A later time of the same pack counts, and any check before none.

    Attributes:
        packs: what it checked, and packs that were in the index and in no other object.
        passes: that of the budget, if there was one; several in an object that a collect merged.
    """

    packs: tuple[VerifiedPacks, ...]
    passes: tuple[VerifyPass, ...] = ()


def check_verified(found: Verified) -> None:
    """Check the values of a record. Anyone can forge one in a plain repository.

    Raises:
        Malformed: a value is not one that hvps writes.
    """
    for group in found.packs:
        if len(group.packs) % NAME_BYTES:
            raise Malformed(f"{len(group.packs)} bytes are not names of packs")
    for each in found.passes:
        if each.read_bytes < 0:
            raise Malformed(f"a pass that read {each.read_bytes} bytes")
