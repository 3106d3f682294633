"""The ledger in the words of a backup: each method writes one entry, durably, before it returns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hvpsbridge.contract.results import CheckpointInfo, HostInfo, ReferencePointInfo
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.repository.ledger import Ledger


class Journal:
    """What one run does to one VM on a host, in order."""

    def __init__(self, ledger: Ledger, run_id: UUID, vm_id: UUID, host: str) -> None:
        self.ledger = ledger
        self.run_id = run_id
        self.vm_id = vm_id
        self._host = host

    def shell_opened(self, shell_id: str, info: HostInfo) -> None:
        """A shell of ours, and its process, exist on the host."""
        self._write(
            LedgerKind.RUN_STARTED,
            shell_id=shell_id,
            process_id=info.process_id,
            process_started=info.process_started,
        )

    def checkpoint_intended(
        self,
        mark: str,
        checkpoints: Iterable[CheckpointInfo],
        reference_points: Iterable[ReferencePointInfo],
    ) -> None:
        """A checkpoint named ``mark`` is about to be made; these were there before."""
        self._write(
            LedgerKind.CHECKPOINT_INTENDED,
            mark=mark,
            checkpoints_before=tuple(checkpoint.checkpoint_id for checkpoint in checkpoints),
            reference_points_before=tuple(point.instance_id for point in reference_points),
        )

    def checkpoint_made(self, checkpoint_id: UUID) -> None:
        """The checkpoint exists and has this id."""
        self._write(LedgerKind.CHECKPOINT_MADE, checkpoint_id=checkpoint_id)

    def conversion_intended(self, checkpoint_id: UUID, point_id: UUID) -> None:
        """The checkpoint is about to become the reference point of a recovery point."""
        self._write(LedgerKind.CONVERSION_INTENDED, checkpoint_id=checkpoint_id, point_id=point_id)

    def reference_point_made(self, instance_id: str, point_id: UUID) -> None:
        """The reference point exists and has this id."""
        self._write(LedgerKind.REFERENCE_POINT_MADE, reference_point=instance_id, point_id=point_id)

    def checkpoint_claimed(self, checkpoint_id: UUID, run_id: UUID) -> None:
        """Somebody who knows says that this checkpoint is the one that run intended."""
        self._write(
            LedgerKind.CHECKPOINT_MADE, run_id=run_id, checkpoint_id=checkpoint_id, note="claimed by hand"
        )

    def reference_point_claimed(self, instance_id: str) -> None:
        """Somebody who knows says that this reference point is ours, though it is no point's."""
        self._write(LedgerKind.REFERENCE_POINT_MADE, reference_point=instance_id, note="claimed by hand")

    def settled(self, run_id: UUID | None = None, note: str = "") -> None:
        """Nothing of a run (this one without an id) is left on the host but its reference point."""
        self._write(LedgerKind.SETTLED, run_id=run_id, note=note)

    def _write(self, kind: LedgerKind, *, run_id: UUID | None = None, **facts: Any) -> None:
        self.ledger.append(
            LedgerEntry(
                kind=kind,
                run_id=run_id or self.run_id,
                vm_id=self.vm_id,
                host=self._host,
                at=datetime.now(UTC),
                **facts,
            )
        )
