"""What a list shows of a recovery point: the part of its manifest that is remembered on the client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hvpsbridge.formats.manifest import Manifest, Proof
from hvpsbridge.formats.marks import LaterProof
from hvpsbridge.repository.points import SHORT_ID_DIGITS


@dataclass(frozen=True, slots=True)
class LineDisk:
    """A disk of a point."""

    slot: str
    size_bytes: int
    sector_bytes: int
    mode: str
    proof: Proof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointLine:
    """A point; the fields are those of its manifest.

    Attributes:
        manifest_digest: of the manifest.
    """

    point_id: UUID
    vm_id: UUID
    vm_name: str
    host: str
    created: datetime
    sequence: int
    consistency: str
    writer: UUID | None
    manifest_digest: bytes
    disks: tuple[LineDisk, ...]

    def digest(self) -> bytes:
        """SHA-256 of the manifest."""
        return self.manifest_digest

    @property
    def short_id(self) -> str:
        """The first digits of the id, as shown to users."""
        return self.point_id.hex[:SHORT_ID_DIGITS]


def line_of(manifest: Manifest) -> PointLine:
    """The line of a point."""
    return PointLine(
        point_id=manifest.point_id,
        vm_id=manifest.vm_id,
        vm_name=manifest.vm_name,
        host=manifest.host,
        created=manifest.created,
        sequence=manifest.sequence,
        consistency=manifest.consistency,
        writer=manifest.writer,
        manifest_digest=manifest.digest(),
        disks=tuple(
            LineDisk(disk.slot, disk.size_bytes, disk.sector_bytes, disk.mode, disk.proof)
            for disk in manifest.disks
        ),
    )


def lines_in_order(lines: Iterable[PointLine]) -> tuple[PointLine, ...]:
    """Lines by VM, and within a VM by sequence, oldest first, as ``points.in_order``."""
    return tuple(sorted(lines, key=lambda line: (line.vm_id.hex, line.sequence, line.created)))


def encode_line(line: PointLine) -> list[Any]:
    """A line as JSON."""
    return [
        line.point_id.hex,
        line.vm_id.hex,
        line.vm_name,
        line.host,
        line.created.isoformat(),
        line.sequence,
        line.consistency,
        None if line.writer is None else line.writer.hex,
        line.manifest_digest.hex(),
        [
            [disk.slot, disk.size_bytes, disk.sector_bytes, disk.mode, _encode_proof(disk.proof)]
            for disk in line.disks
        ],
    ]


def decode_line(value: Any) -> PointLine:
    """The line in JSON."""
    point_id, vm_id, vm_name, host, created, sequence, consistency, writer, digest, disks = value
    return PointLine(
        point_id=UUID(point_id),
        vm_id=UUID(vm_id),
        vm_name=vm_name,
        host=host,
        created=datetime.fromisoformat(created),
        sequence=sequence,
        consistency=consistency,
        writer=None if writer is None else UUID(writer),
        manifest_digest=bytes.fromhex(digest),
        disks=tuple(
            LineDisk(slot, size, sector, mode, _decode_proof(proof))
            for slot, size, sector, mode, proof in disks
        ),
    )


def encode_later(later: LaterProof) -> list[Any]:
    """A proof that was made later, as JSON."""
    return [later.manifest_digest.hex(), later.slot, _encode_proof(later.proof)]


def decode_later(value: Any) -> LaterProof:
    """The proof in JSON.

    Raises:
        ValueError: there is none.
    """
    digest, slot, proof = value
    if (decoded := _decode_proof(proof)) is None:
        raise ValueError("a proof is missing")
    return LaterProof(bytes.fromhex(digest), slot, decoded)


def _encode_proof(proof: Proof | None) -> list[Any] | None:
    if proof is None:
        return None
    return [proof.level, proof.at.isoformat(), proof.proved_bytes, proof.by.hex]


def _decode_proof(value: Any) -> Proof | None:
    if value is None:
        return None
    level, at, proved_bytes, by = value
    return Proof(level, datetime.fromisoformat(at), proved_bytes, UUID(by))
