"""Which point the disks of a VM were restored from: what its next backup compares with.

Ids of change tracking from before a restore are never used again: they may not cover what it wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from hvpsbridge.errors import HvpsError
from hvpsbridge.formats.in_place import RestoredDisks
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.repository import Repository
from hvpsbridge.repository.ledger import Ledger

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """The newest restore of disks of a VM.

    Attributes:
        after: number of the VM's newest point at that time.
        slots: disks that were restored.
        manifest: of the point that they hold; None if it is gone, or an undo put them back.
    """

    after: int
    slots: frozenset[str]
    manifest: Manifest | None


def record_restored(
    repository: Repository,
    *,
    run_id: UUID,
    vm_id: UUID,
    host: str,
    point_id: UUID | None,
    source_vm_id: UUID,
    slots: Iterable[str],
) -> None:
    """Record that disks of a VM are about to hold a point. Durable when this returns.

    Args:
        repository: of the point.
        run_id: of the restore.
        vm_id: the VM that has the disks now.
        host: where it is.
        point_id: the point; None if disks are put back to what no point has.
        source_vm_id: the VM of the point.
        slots: of the disks.
    """
    points = repository.catalog.points(vm_id)
    after = points[-1].manifest.sequence if points else 0
    _ledger(repository, vm_id).append(
        LedgerEntry(
            kind=LedgerKind.RESTORED,
            run_id=run_id,
            vm_id=vm_id,
            host=host,
            at=datetime.now(UTC),
            point_id=point_id,
            note=RestoredDisks(after, source_vm_id, tuple(slots)).text(),
        )
    )


def read_restored(repository: Repository, vm_id: UUID) -> Restored | None:
    """The newest restore of disks of a VM; None if there was none."""
    for entry in reversed(_ledger(repository, vm_id).current_entries()):
        if entry.kind is not LedgerKind.RESTORED:
            continue
        try:
            found = RestoredDisks.parse(entry.note)
        except ValueError:
            logger.error("entry of run %s in the ledger of restored disks cannot be read", entry.run_id)
            continue
        manifest = None
        if entry.point_id is not None:
            try:
                manifest = next(
                    (
                        point.manifest
                        for point in repository.catalog.points(found.source_vm_id)
                        if point.point_id == entry.point_id
                    ),
                    None,
                )
            except HvpsError as err:
                logger.warning("the point that VM %s was restored from cannot be read: %s", vm_id, err)
        return Restored(found.after, frozenset(found.slots), manifest)
    return None


def _ledger(repository: Repository, vm_id: UUID) -> Ledger:
    return repository.ledger(uuid5(vm_id, "hvps restored disks"))
