"""Writes the ledger as a backup goes on. Each method makes one entry durable before it returns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hvpsbridge.contract.results import CheckpointInfo, HostInfo, ReferencePointInfo
from hvpsbridge.formats.ledger import ALL_SETTLED, LedgerEntry, LedgerKind
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.repository.points import Point


class Journal:
    """What one run does to one VM on one host, in order.

    Args:
        ledger: of the VM.
        run_id: of the run.
        vm_id: the VM.
        host: name of the host.
    """

    def __init__(self, ledger: Ledger, run_id: UUID, vm_id: UUID, host: str) -> None:
        self.ledger = ledger
        self.run_id = run_id
        self.vm_id = vm_id
        self._host = host

    def shell_opened(self, shell_id: str, info: HostInfo) -> None:
        """A shell, and its process, exist on the host."""
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
        """A checkpoint named ``mark`` is about to be created; the others exist already."""
        self._write(
            LedgerKind.CHECKPOINT_INTENDED,
            mark=mark,
            checkpoints_before=tuple(checkpoint.checkpoint_id for checkpoint in checkpoints),
            reference_points_before=tuple(point.instance_id for point in reference_points),
        )

    def checkpoint_made(self, checkpoint_id: UUID, unmarked: str | None = None) -> None:
        """The checkpoint was created and has this id; ``unmarked`` is its name if that is not the mark."""
        self._write(LedgerKind.CHECKPOINT_MADE, checkpoint_id=checkpoint_id, mark=unmarked)

    def conversion_intended(
        self, checkpoint_id: UUID, point_id: UUID, reference_points: Iterable[ReferencePointInfo]
    ) -> None:
        """The checkpoint is about to become a recovery point's reference point; the others exist already."""
        self._write(
            LedgerKind.CONVERSION_INTENDED,
            checkpoint_id=checkpoint_id,
            point_id=point_id,
            reference_points_before=tuple(point.instance_id for point in reference_points),
        )

    def reference_point_made(self, instance_id: str, point_id: UUID, rct_ids: Iterable[str] = ()) -> None:
        """The reference point was created and has this id.

        Args:
            instance_id: of the reference point.
            point_id: its recovery point.
            rct_ids: its RCT ids, if they are not those of the recovery point.
        """
        self._write(
            LedgerKind.REFERENCE_POINT_MADE,
            reference_point=instance_id,
            point_id=point_id,
            rct_ids=tuple(rct_ids),
        )

    def checkpoint_claimed(self, checkpoint_id: UUID, run_id: UUID) -> None:
        """A user says that this checkpoint is the one that the run intended."""
        self._write(
            LedgerKind.CHECKPOINT_MADE, run_id=run_id, checkpoint_id=checkpoint_id, note="claimed by hand"
        )

    def reference_point_claimed(self, instance_id: str) -> None:
        """A user says that hvps created this reference point, though no recovery point names it."""
        self._write(LedgerKind.REFERENCE_POINT_MADE, reference_point=instance_id, note="claimed by hand")

    def settled(self, run_id: UUID | None = None, note: str = "") -> None:
        """Only its reference point is left of a run on the host; ``run_id`` is this run by default."""
        self._write(LedgerKind.SETTLED, run_id=run_id, note=note)

    def all_settled(self, run_id: UUID, reference_points: Iterable[str]) -> None:
        """That run was the last open one; of what hvps created, only these reference points are left."""
        self._write(
            LedgerKind.SETTLED,
            run_id=run_id,
            reference_points_before=tuple(reference_points),
            note=ALL_SETTLED,
        )

    def expire(self, newest: Point | None) -> None:
        """Delete old entries of the ledger.

        Args:
            newest: the VM's newest recovery point.

        Raises:
            RepositoryError: the store refuses or fails.
        """
        self.ledger.expire(datetime.now(UTC), newest)

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
