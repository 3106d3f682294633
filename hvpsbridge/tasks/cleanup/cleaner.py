"""Cleans up a VM's host: finishes or removes what earlier runs left, and touches nothing else.

:mod:`.ownership` decides what hvps created. The undo of a failed backup cleans up in the same way, on a
connection of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from uuid import UUID

from hvpsbridge.errors import HvpsError, RepositoryError
from hvpsbridge.formats.ledger import LedgerKind
from hvpsbridge.tasks.cleanup.checkpoints import dispose, list_checkpoints
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.merge_wait import children_of, wait_for_merge
from hvpsbridge.tasks.cleanup.ownership import decide_ownership, is_ours
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints, adopt, publish_recorded, unproven_line
from hvpsbridge.tasks.cleanup.shells import end_shells, wait_for_jobs
from hvpsbridge.tasks.planning.lineage import read_lineage

logger = logging.getLogger(__name__)


def clean_up(context: CleanupContext, references: ReferencePoints) -> tuple[str, ...]:
    """Clean up after earlier runs; what is left and why, one line each.

    Args:
        context: where, and after which runs.
        references: the reference points of the same context.

    Raises:
        HostError: the host cannot be asked, or reported an error that cleaning up cannot solve.
    """
    started = context.clock()
    host, repository, ledger = context.host, context.repository, context.journal.ledger
    entries = ledger.current_entries()
    open_entries = [entry for entry in ledger.open_entries() if entry.run_id != context.own_run]
    end_shells(context, open_entries)
    left = [*wait_for_jobs(context)]
    lineage = read_lineage(repository, context.vm_id)
    ownership = decide_ownership(
        entries,
        open_entries,
        list_checkpoints(context, open_entries, started),
        host.reference_points(context.vm_id),
        lineage,
        repository.repository_id,
        context.claimed_ids,
        authentic=repository.encrypted,
    )
    disks = host.disks(context.vm_id) if ownership.ours else ()
    gone, staying = dispose(context, ownership.ours)
    left.extend(staying)
    # Nothing above a checkpoint that stays is merged, however long it is waited for.
    children = children_of((path for checkpoint in gone for path in checkpoint.disk_paths), disks)
    left.extend(
        f"cannot tell whether recovery checkpoint {one.name!r} ({one.checkpoint_id}) was created by hvps; "
        "decide with `hvps host sweep`"
        for one in ownership.unclear
        if str(one.checkpoint_id) not in context.foreign_ids
    )
    left.extend(
        adopt(
            context,
            (
                one
                for one in ownership.candidates
                if one.reference_point.instance_id not in context.foreign_ids
            ),
        )
    )
    left.extend(
        unproven_line(one) for one in ownership.unproven if one.instance_id not in context.foreign_ids
    )
    publish_recorded(context, entries, ownership.reference_points)
    left.extend(references.retire())
    left.extend(wait_for_merge(host, context.vm_id, children, context.limits, context.pause, context.clock))
    if not left:
        _close_runs(context, references, dict.fromkeys(entry.run_id for entry in open_entries))
    return tuple(left)


def _close_runs(context: CleanupContext, references: ReferencePoints, run_ids: Iterable[UUID]) -> None:
    try:
        for run_id in run_ids:
            close_run(context, references, run_id)
    except RepositoryError as err:
        # The host is clean all the same; the next run looks again and finds nothing.
        logger.warning("cannot close the ledger: %s", err)


def close_run(
    context: CleanupContext, references: ReferencePoints, run_id: UUID | None = None, note: str = ""
) -> None:
    """Close a run in the ledger; if no other run needs the ledger, close all of it and expire old entries.

    Args:
        context: the clean-up.
        references: as last seen on the host.
        run_id: the run; None for the journal's.
        note: for people, if only the run is closed.

    Raises:
        RepositoryError: the entry cannot be written.
    """
    journal, ledger = context.journal, context.journal.ledger
    run_id = run_id or journal.run_id
    going_on = [entry for entry in ledger.open_entries() if entry.run_id != run_id]
    # A run that has just begun only has shells. They are recorded again after the entry that closes the
    # ledger; if the run dies in between, its shells end when they are idle.
    only_begun = all(
        entry.run_id == context.own_run and entry.kind is LedgerKind.RUN_STARTED for entry in going_on
    )
    if not only_begun or references.there is None or references.out_of_sight:
        journal.settled(run_id, note)
        return
    journal.all_settled(run_id, references.there)
    for entry in going_on:
        ledger.append(entry)
    try:
        points = context.repository.catalog.points(context.vm_id)
        journal.expire(points[-1] if points else None)
    except RepositoryError as err:
        # An append-only store always refuses it, which is not an error.
        logger.info("old ledger entries stay: %s", err)


def unclean(context: CleanupContext, references: ReferencePoints) -> Iterator[str]:
    """Look once more at the host after a backup: a line for each thing that should not be there."""
    entries = context.authentic_entries
    for checkpoint in context.host.checkpoints(context.vm_id):
        if (
            is_ours(context.repository.repository_id, checkpoint, entries)
            or str(checkpoint.checkpoint_id) in context.claimed_ids
        ):
            yield f"recovery checkpoint {checkpoint.name!r}"
    there = [one.instance_id for one in references.look()]
    yield from (f"reference point {one}" for one in there if one not in references.keep)


def left_unknown(err: HvpsError) -> str:
    """The line for a host that could not be asked what is left."""
    return f"cannot see what is left: {err.describe()}"
