"""Removes or converts the checkpoints that earlier runs left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from hvpsbridge.contract.results import CheckpointInfo
from hvpsbridge.errors import CommitForkFailed, OperationFailed, RepositoryError
from hvpsbridge.formats.ledger import LedgerEntry
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.ownership import open_intents, rct_ids_of, unmarked_run
from hvpsbridge.tasks.cleanup.reference_points import discard, known_by, left_unproven, publish_ids
from hvpsbridge.tasks.planning.lineage import read_lineage
from hvpsbridge.tasks.planning.mark import parse_mark


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
        # One without a mark may be anybody's, so that it does not end the waiting for ours.
        newest = max((entry.at for entry in open_intents(open_entries, checkpoints)), default=None)
        if newest is None:
            return checkpoints
        if context.own_run is None and not context.uncertain:
            return checkpoints
        age = (datetime.now(UTC) - newest).total_seconds()
        if context.uncertain:
            age = min(age, context.clock() - started)
        if age > context.limits.appear_seconds or not context.pause(context.limits.poll_seconds):
            return checkpoints


def dispose(
    context: CleanupContext, checkpoints: Iterable[CheckpointInfo]
) -> tuple[tuple[CheckpointInfo, ...], tuple[str, ...]]:
    """Convert the checkpoint of the newest point, remove all others.

    Returns:
        The checkpoints that are gone, and a line for each thing that stays.
    """
    gone: list[CheckpointInfo] = []
    left: list[str] = []
    for checkpoint in checkpoints:
        point = _newest_point_of(context, checkpoint)
        if point is not None:
            converted, unproven = _convert(context, checkpoint, point)
            left.extend(unproven)
            if converted:
                gone.append(checkpoint)
                continue
        try:
            removal = context.host.remove_checkpoint(
                context.vm_id,
                checkpoint.checkpoint_id,
                checkpoint.name,
                job_seconds=context.job_seconds,
            )
        except CommitForkFailed:
            raise
        except OperationFailed as err:
            left.append(f"recovery checkpoint {checkpoint.name!r}: {err.describe()}")
            continue
        gone.append(checkpoint)
        if removal.removed:
            context.note(f"removed recovery checkpoint {checkpoint.name!r}")
    return tuple(gone), tuple(left)


def _newest_point_of(context: CleanupContext, checkpoint: CheckpointInfo) -> Point | None:
    """The newest point, if a conversion of this checkpoint can make it a base."""
    points = context.repository.catalog.points(context.vm_id)
    mark = parse_mark(checkpoint.name)
    if mark is None:
        run_id = unmarked_run(checkpoint, context.journal.ledger.current_entries())
    else:
        run_id = mark.run_id
    if not points or run_id is None:
        return None
    manifest = points[-1].manifest
    if (manifest.checkpoint_id, manifest.run_id) != (checkpoint.checkpoint_id, run_id):
        return None
    may_have_ids = any(disk.rct_id or disk.tracked_without_id for disk in manifest.disks)
    return points[-1] if may_have_ids else None


def _convert(
    context: CleanupContext, checkpoint: CheckpointInfo, point: Point
) -> tuple[bool, tuple[str, ...]]:
    """Whether the checkpoint was converted, and a line for what cannot be proved to be ours."""
    try:
        rct_ids = rct_ids_of(point.manifest)
        differ = read_lineage(context.repository, context.vm_id).ids_differ
        before = context.host.reference_points(context.vm_id)
        context.journal.conversion_intended(checkpoint.checkpoint_id, point.point_id, before)
        made = context.host.convert(
            context.vm_id,
            checkpoint.checkpoint_id,
            rct_ids=() if differ else rct_ids,
            existing=[one.instance_id for one in before],
            job_seconds=context.job_seconds,
        )
        own_ids = known_by(
            context.host, context.vm_id, point.manifest, made, before, differ=differ or not rct_ids
        )
        if own_ids is None and made.rct_ids:
            return True, left_unproven(context.host, context.vm_id, made)
        if own_ids is not None:
            context.journal.reference_point_made(made.instance_id, point.point_id, own_ids)
            context.note(f"converted the checkpoint of point {point.short_id}")
        if not publish_ids(context, made, point) and own_ids != ():
            return True, discard(context.host, context.vm_id, made, before, context.job_seconds)
    except CommitForkFailed:
        raise
    except (OperationFailed, RepositoryError) as err:
        # Without ids the point cannot be a base, but nothing worse; a checkpoint that stays grows.
        context.note(f"cannot convert checkpoint {checkpoint.name!r}, removing it: {err}")
        return False, ()
    return True, ()
