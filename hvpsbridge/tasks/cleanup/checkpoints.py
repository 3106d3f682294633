"""Removes or converts the checkpoints that earlier runs left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from hvpsbridge.contract.results import CheckpointInfo
from hvpsbridge.errors import CommitForkFailed, OperationFailed, RepositoryError
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.merge_wait import children_of
from hvpsbridge.tasks.cleanup.ownership import may_be_intended, open_intents
from hvpsbridge.tasks.cleanup.reference_points import publish_ids


def list_checkpoints(
    context: CleanupContext, open_entries: Sequence[LedgerEntry], started: float
) -> tuple[CheckpointInfo, ...]:
    """The VM's checkpoints, once one that was being created has had time to appear.

    A host lists a checkpoint some seconds after its job has ended
    (docs/hyperv-facts.md#checkpoint-listed-late). Looking too early and closing the ledger would leave it
    there, without any record that hvps created it.

    Args:
        context: the clean-up.
        open_entries: ledger entries of the runs to clean up after.
        started: when the clean-up began, on the context's clock.
    """
    while True:
        checkpoints = context.host.checkpoints(context.vm_id)
        intents = list(open_intents(open_entries, checkpoints))
        newest = max((entry.at for entry in intents), default=None)
        if newest is None or any(may_be_intended(one, intent) for one in checkpoints for intent in intents):
            return checkpoints
        if context.own_run is None and not context.uncertain:
            return checkpoints
        age = (datetime.now(UTC) - newest).total_seconds()
        if context.uncertain:
            age = min(age, context.clock() - started)
        if age > context.limits.appear_seconds or not context.pause(context.limits.poll_seconds):
            return checkpoints


def children_above(context: CleanupContext, checkpoints: Sequence[CheckpointInfo]) -> tuple[str, ...]:
    """Files on top of the disks of ``checkpoints``, which are merged when these are removed."""
    if not checkpoints:
        return ()
    frozen = (path for checkpoint in checkpoints for path in checkpoint.disk_paths)
    return children_of(frozen, context.host.disks(context.vm_id))


def dispose(context: CleanupContext, checkpoints: Iterable[CheckpointInfo]) -> Iterator[str]:
    """Convert the checkpoint of the newest point, remove all others; a line for each that stays."""
    for checkpoint in checkpoints:
        point = _newest_point_of(context, checkpoint)
        if point is not None and _converted(context, checkpoint, point):
            continue
        try:
            removal = context.host.remove_checkpoint(
                context.vm_id, checkpoint.checkpoint_id, job_seconds=context.job_seconds
            )
        except CommitForkFailed:
            raise
        except OperationFailed as err:
            yield f"recovery checkpoint {checkpoint.name!r}: {err.describe()}"
            continue
        if removal.removed:
            context.note(f"removed recovery checkpoint {checkpoint.name!r}")


def _newest_point_of(context: CleanupContext, checkpoint: CheckpointInfo) -> Point | None:
    points = context.repository.catalog.points(context.vm_id)
    if not points or points[-1].manifest.checkpoint_id != checkpoint.checkpoint_id:
        return None
    return points[-1]


def _converted(context: CleanupContext, checkpoint: CheckpointInfo, point: Point) -> bool:
    try:
        context.journal.conversion_intended(checkpoint.checkpoint_id, point.point_id)
        made = context.host.convert(context.vm_id, checkpoint.checkpoint_id, job_seconds=context.job_seconds)
        context.journal.reference_point_made(made.instance_id, point.point_id)
        context.note(f"converted the checkpoint of point {point.short_id}")
        publish_ids(context, made, point)
    except CommitForkFailed:
        raise
    except (OperationFailed, RepositoryError) as err:
        # Without ids the point cannot be a base, but nothing worse; a checkpoint that stays grows.
        context.note(f"cannot convert checkpoint {checkpoint.name!r}, removing it: {err}")
        return False
    return True
