"""What ``hvps list`` and ``hvps show`` say about the state of recovery points."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.formats.manifest import PROOF_LEVELS, Proof
from hvpsbridge.formats.marks import LaterProof
from hvpsbridge.report.documents.points import PointProof
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.tags import PointTags
from hvpsbridge.secret import Word
from hvpsbridge.units import span_text


def moment_text(moment: dt.datetime) -> str:
    """A time in UTC, to the second: ``2026-03-01T02:00:00Z``."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tags_text(tags: PointTags) -> str:
    """Tags of a point, and whether it is protected; empty for a point without either."""
    return ", ".join([*(["(protected)"] if tags.protected else []), *sorted(tags.tags)])


def lost_chunks_text(count: int) -> str:
    """The line about chunks that are known to be lost."""
    return f"{count} chunks are listed as damaged and have no good copy; `hvps verify` names what is affected"


def unverified_text(since: dt.datetime) -> str:
    """The line about the oldest check."""
    age = span_text((dt.datetime.now(dt.UTC) - since).total_seconds())
    return f"oldest unverified chunk: {age}, since {moment_text(since)}"


class ProvenDisk(Protocol):
    """A disk of a point."""

    @property
    def slot(self) -> str:
        """Where it is attached."""

    @property
    def proof(self) -> Proof | None:
        """How it was proved before the point was committed."""


@dataclass(frozen=True, slots=True)
class PointProofs:
    """How far a point was proved.

    Attributes:
        best: the proof of the highest level for each disk, by slot; None if the disk was only written.
        levels: the newest proof of each level, lowest level first.
    """

    best: Mapping[str, Proof | None]
    levels: tuple[PointProof, ...]

    @property
    def lowest(self) -> str:
        """The lowest level among the disks, and the day of its proof."""
        proofs = [proof for proof in self.best.values() if proof is not None]
        if not proofs or len(proofs) < len(self.best):
            return PROOF_LEVELS[0]
        lowest = min(proofs, key=lambda proof: (PROOF_LEVELS.index(proof.level), proof.at))
        return f"{lowest.level} {lowest.at.astimezone(dt.UTC):%Y-%m-%d}"


def proofs_of(repository: Repository, point: Point) -> PointProofs:
    """Proofs of a point, from its manifest or recorded later."""
    return gathered(point.disks, repository.catalog.proofs.of(point))


def gathered(disks: Sequence[ProvenDisk], later: Iterable[LaterProof]) -> PointProofs:
    """Proofs of a point with these disks, and those that were recorded later."""
    found = [(entry.slot, entry.proof) for entry in later]
    found += [(disk.slot, disk.proof) for disk in disks if disk.proof is not None]
    best = {
        disk.slot: max(
            (proof for slot, proof in found if slot in ("", disk.slot)),
            key=lambda proof: (PROOF_LEVELS.index(proof.level), proof.at),
            default=None,
        )
        for disk in disks
    }
    newest: dict[tuple[int, str], Proof] = {}
    for slot, proof in found:
        key = PROOF_LEVELS.index(proof.level), slot
        if key not in newest or newest[key].at < proof.at:
            newest[key] = proof
    levels = tuple(
        PointProof(Word(proof.level), slot or None, proof.at, proof.proved_bytes, proof.by)
        for (_, slot), proof in sorted(newest.items(), key=lambda item: item[0])
    )
    return PointProofs(best, levels)
