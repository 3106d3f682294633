"""Ledger entries: what hvps set out to make, and made, on a host for one VM. Append-only.

Each entry is a small object; its name starts with a counter, so a listing is in order. A run that died
is settled from them: what it intended tells what may be there, what it made tells by which id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class LedgerKind(StrEnum):
    """What an entry says. The fields each kind fills are named with :class:`LedgerEntry`."""

    RUN_STARTED = "run_started"
    CHECKPOINT_INTENDED = "checkpoint_intended"
    CHECKPOINT_MADE = "checkpoint_made"
    CONVERSION_INTENDED = "conversion_intended"
    REFERENCE_POINT_MADE = "reference_point_made"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry.

    Attributes:
        shell_id, process_id, process_started: of the host process, with RUN_STARTED.
        checkpoints_before, reference_points_before: ids of all that were there, with CHECKPOINT_INTENDED.
        mark: name given to the checkpoint, with CHECKPOINT_INTENDED.
        checkpoint_id: with CHECKPOINT_MADE and CONVERSION_INTENDED.
        reference_point: ``InstanceID``, with REFERENCE_POINT_MADE.
        point_id: the recovery point, from CONVERSION_INTENDED on.
    """

    kind: LedgerKind
    run_id: UUID
    vm_id: UUID
    host: str
    at: datetime
    shell_id: str | None = None
    process_id: int | None = None
    process_started: datetime | None = None
    mark: str | None = None
    checkpoints_before: tuple[UUID, ...] = ()
    reference_points_before: tuple[str, ...] = ()
    checkpoint_id: UUID | None = None
    reference_point: str | None = None
    point_id: UUID | None = None
    note: str = ""
