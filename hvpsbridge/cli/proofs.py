"""What ``hvps list`` and ``hvps show`` say about the state of recovery points."""

from __future__ import annotations

import datetime as dt
from typing import TypeAlias

from hvpsbridge.formats.manifest import PROOF_LEVELS, Proof
from hvpsbridge.repository import Point, Repository

Proofs: TypeAlias = dict[str, Proof | None]


def moment_text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lost_chunks_text(count: int) -> str:
    """The line about chunks that are known to be lost."""
    return f"{count} chunks are listed as damaged and have no good copy; `hvps verify` names what is affected"


def lowest_level(proofs: Proofs, point: Point) -> str:
    """The lowest level among the disks of a point."""
    levels = [
        PROOF_LEVELS[0] if (proof := proofs[disk.slot]) is None else proof.level for disk in point.disks
    ]
    return min(levels, key=PROOF_LEVELS.index, default=PROOF_LEVELS[0])


def best_proofs(repository: Repository, point: Point) -> Proofs:
    """The proof of the highest level for each disk, by slot: from the manifest or recorded later."""
    best: Proofs = {}
    later = repository.catalog.proofs(point)
    for disk in point.disks:
        found = [entry.proof for entry in later if entry.slot in ("", disk.slot)]
        if disk.proof is not None:
            found.append(disk.proof)
        best[disk.slot] = max(
            found, key=lambda proof: (PROOF_LEVELS.index(proof.level), proof.at), default=None
        )
    return best
