"""Restores into existing VMs in the ledger: those that did not end, and copies that are kept for an undo.

They share the ledger of restores with copies, but no sweep touches them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.formats.in_place import InPlaceRestore, Stage
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cleanup.restores import restores_ledger
from hvpsbridge.tasks.restore.in_place_role import bring_back

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenInPlace:
    """A restore in place that did not end, or whose copies are kept."""

    run_id: UUID
    restore: InPlaceRestore

    @property
    def kept(self) -> bool:
        """Whether the VM is whole, and copies for an undo are kept."""
        return self.restore.stage is Stage.KEPT


class InPlaceLedger:
    """Writes the stages of one restore in place. Each is durable when its method returns.

    Args:
        repository: of the point.
        host: name of the host.
        run_id: of the restore that began it.
    """

    def __init__(self, repository: Repository, host: str, run_id: UUID) -> None:
        self._ledger = restores_ledger(repository)
        self._host = host
        self._run_id = run_id

    def reached(self, restore: InPlaceRestore, stage: Stage) -> InPlaceRestore:
        """The restore is at this stage."""
        now = replace(restore, stage=stage)
        self._append(LedgerKind.IN_PLACE, now.vm_id, now.text())
        return now

    def settled(self, restore: InPlaceRestore, note: str) -> None:
        """Nothing of it is left on the host."""
        self._append(LedgerKind.SETTLED, restore.vm_id, note)

    def _append(self, kind: LedgerKind, vm_id: UUID, note: str) -> None:
        at = datetime.now(UTC)
        self._ledger.append(
            LedgerEntry(kind=kind, run_id=self._run_id, vm_id=vm_id, host=self._host, at=at, note=note)
        )


def open_in_place(repository: Repository, machine: str) -> Iterator[OpenInPlace]:
    """Restores in place on a host that left something there, oldest first.

    Args:
        repository: with the ledger.
        machine: name of the host as it calls itself.
    """
    found: dict[UUID, InPlaceRestore] = {}
    for entry in restores_ledger(repository).open_entries():
        if entry.kind is not LedgerKind.IN_PLACE:
            continue
        try:
            found[entry.run_id] = InPlaceRestore.parse(entry.note)
        except ValueError:
            logger.error("an entry of run %s in the ledger of restores cannot be read", entry.run_id)
    for run_id, restore in found.items():
        if restore.machine.casefold() == machine.casefold():
            yield OpenInPlace(run_id, restore)


def in_place_of(repository: Repository, machine: str, vm_id: UUID) -> OpenInPlace | None:
    """The restore into a VM that left something on a host; None if none did."""
    return next((one for one in open_in_place(repository, machine) if one.restore.vm_id == vm_id), None)


def end_restore(host: HyperVHost, ledger: InPlaceLedger, restore: InPlaceRestore) -> tuple[str, ...]:
    """Remove the copies for an undo, and bring the role online again if it had been; lines about the role.

    Nothing of the restore is left then.

    Raises:
        HostError: the host cannot remove them, or the cluster does not start the VM.
    """
    host.restoring.remove_files(disk.undo for disk in restore.disks)
    lines = bring_back(host, restore)
    ledger.settled(restore, "nothing is kept")
    return lines
