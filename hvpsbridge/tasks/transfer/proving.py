"""Proves a stored disk against the frozen one; what differs is read again and stored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from hvpsbridge.errors import ProtocolViolation
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.tasks.transfer.host_side import HostSide
from hvpsbridge.tasks.transfer.proof_time import ProofLeftOutError, ProofTime
from hvpsbridge.tasks.transfer.repository_side import RepositorySide

logger = logging.getLogger(__name__)

# The rotating audit proves one part of the disk in each run, and all of it in this many runs.
AUDIT_PARTS = 16


@dataclass(frozen=True, slots=True)
class ProofResult:
    """What a proof found.

    Attributes:
        replaced: chunks that were stored with other content; they are right now.
        left_out: why the proof ended early; empty if it did not.
    """

    replaced: int
    left_out: str


def audited_part(grid: ChunkGrid, size_bytes: int, turn: int) -> Extent | None:
    """The part of a disk that the rotating audit proves in a turn; None if the disk is too small for it."""
    part_bytes = -(-grid.count(size_bytes) // AUDIT_PARTS) * grid.chunk_bytes
    first = turn % AUDIT_PARTS * part_bytes
    return None if first >= size_bytes else Extent(first, min(part_bytes, size_bytes - first))


def prove(
    slot: str,
    host: HostSide,
    stored: RepositorySide,
    ranges: tuple[Extent, ...],
    pull: Callable[[tuple[Extent, ...]], None],
    time: ProofTime | None,
) -> ProofResult:
    """Compare a part of the stored disk with the frozen one; read and store what differs.

    Args:
        slot: of the disk, for messages.
        host: the frozen disk.
        stored: the stored one.
        ranges: what to compare, in whole chunks; a sorted set.
        pull: reads chunks whole and stores them.
        time: what the proof may take; None for as long as the backup may go on.

    Raises:
        ProtocolViolation: what was read still does not match the host's digests.
    """
    repaired: list[Extent] = []
    before: dict[int, bytes] = {}
    left_out = ""
    stored.make_comparable()
    try:
        if time is not None:
            time.check()
        for found in host.differences(stored.comparable, ranges, "prove", confirm=True, proof_time=time):
            repaired.extend(found)
            before.update(stored.ids(found))
            pull(found)
    except ProofLeftOutError as err:
        left_out = str(err)
    if not repaired:
        return ProofResult(0, left_out)
    stored.make_comparable()
    if any(host.differences(stored.comparable, tuple(repaired), "prove", confirm=True)):
        raise ProtocolViolation(
            host.name, "Get-HvpsDiskDigest", f"the data of frozen disk {slot} does not match its digests"
        )
    return ProofResult(count_replaced(slot, stored, before), left_out)


def count_replaced(slot: str, stored: RepositorySide, before: dict[int, bytes]) -> int:
    """How many chunks, given by their former ids, have other content now.

    The host's digests can be wrong twice; what was read is the third look, and decides.
    """
    count = stored.count_replaced(before)
    if not count:
        logger.warning("disk %s: the host's digests differed, but not what was read", slot)
    return count
