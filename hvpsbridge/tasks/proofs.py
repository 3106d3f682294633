"""Keeps with a point how far it was proved."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import RepositoryError
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Point, Repository


def record_proof(
    repository: Repository, point: Point, level: str, proved_bytes: int, run_id: UUID
) -> str | None:
    """Record a proof of all disks of a point; why that failed, None if it did not.

    A proof needs only read access: if the store refuses to write, what was found remains what it is.

    Args:
        repository: of the point.
        point: the point.
        level: one of ``formats.manifest.PROOF_LEVELS``.
        proved_bytes: how much was looked at.
        run_id: of the run that proved it.
    """
    try:
        repository.catalog.proofs.record(point, Proof(level, datetime.now(UTC), proved_bytes, run_id))
    except RepositoryError as err:
        return not_recorded(err)
    return None


def not_recorded(err: RepositoryError) -> str:
    """The warning about findings that the store did not take."""
    return f"the findings were not recorded in the repository: {err.describe()}"
