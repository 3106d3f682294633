"""Ledger entries: what hvps intended to make, and made, on a host for one VM.

Each entry is a small object whose name ends in a counter, so a listing is in order. They are only added,
and deleted when they are old. The next run cleans up after one that died by its entries: an intent says what
may be on the host, what was made is there by its id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

# The note of a SETTLED entry that closes the whole ledger and not just its run.
ALL_SETTLED = "all runs are settled"


class LedgerKind(StrEnum):
    """What an entry says. :class:`LedgerEntry` lists the fields that each kind fills."""

    RUN_STARTED = "run_started"
    CHECKPOINT_INTENDED = "checkpoint_intended"
    CHECKPOINT_MADE = "checkpoint_made"
    CONVERSION_INTENDED = "conversion_intended"
    REFERENCE_POINT_MADE = "reference_point_made"
    RESTORE_INTENDED = "restore_intended"
    IN_PLACE = "in_place"
    RESTORED = "restored"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry.

    Attributes:
        shell_id, process_id, process_started: the host process; with RUN_STARTED.
        checkpoints_before: ids of all checkpoints that were there; with CHECKPOINT_INTENDED.
        reference_points_before: ids of all reference points that were there, with CHECKPOINT_INTENDED and
            CONVERSION_INTENDED; of those of this repository that are still there, with SETTLED when
            :attr:`all_settled`.
        mark: name given to the checkpoint, with CHECKPOINT_INTENDED; with CHECKPOINT_MADE the name that it
            has, if the host did not give it the mark; with RESTORE_INTENDED, notes of the unfinished VM.
        checkpoint_id: with CHECKPOINT_MADE and CONVERSION_INTENDED.
        reference_point: ``InstanceID``; with REFERENCE_POINT_MADE.
        point_id: the recovery point; with CONVERSION_INTENDED, REFERENCE_POINT_MADE and RESTORED.
        rct_ids: with REFERENCE_POINT_MADE, its ids, if they are not those of the recovery point.
        note: with RESTORE_INTENDED, what may be on the host, as JSON text (:class:`RestoreIntent`); with
            IN_PLACE and RESTORED a record of ``formats.in_place``.
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
    rct_ids: tuple[str, ...] = ()

    @property
    def all_settled(self) -> bool:
        """Whether no run needs an entry before this one.

        Then every run with an entry before this one is settled, and every reference point that those name is
        destroyed or named here.
        """
        return self.kind is LedgerKind.SETTLED and self.note == ALL_SETTLED

    @property
    def own_reference_points(self) -> tuple[str, ...]:
        """Reference points of this repository that the entry names."""
        if self.kind is LedgerKind.REFERENCE_POINT_MADE and self.reference_point is not None:
            return (self.reference_point,)
        return self.reference_points_before if self.all_settled else ()


@dataclass(frozen=True, slots=True)
class RestoreIntent:
    """What a restore onto a host is about to make there.

    Attributes:
        machine: name of the host as it calls itself.
        name: of the VM.
        place: folder of the VM, which did not exist.
        files: disk files, those that are being written included.
        folders: in the place, the innermost first, and the place itself.
        expires: of a drill, when its VM should be gone; empty for a VM that stays when it is finished.
        config_files: the files among them that a planned VM is made of; empty if the VM is made without one.
        planned_before: ids of planned VMs that were there already.
        source: name of the VM in the point, which a planned VM has until it gets the mark.
    """

    machine: str
    name: str
    place: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    expires: str = ""
    config_files: tuple[str, ...] = ()
    planned_before: tuple[str, ...] = ()
    source: str = ""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            found = json.loads(text)
            expires = str(found.get("expires", ""))
            if expires and datetime.fromisoformat(expires).tzinfo is None:
                raise ValueError("without a time zone")
            return cls(
                str(found["machine"]),
                str(found["name"]),
                str(found["place"]),
                tuple(map(str, found["files"])),
                tuple(map(str, found["folders"])),
                expires,
                tuple(map(str, found.get("config_files", ()))),
                tuple(map(str, found.get("planned_before", ()))),
                str(found.get("source", "")),
            )
        except (AttributeError, KeyError, TypeError, RecursionError) as err:
            raise ValueError("not what a restore is about to make") from err
