"""Gets space back, beside backups, copies and restores: it waits for none of them.

One collect publishes what is not needed any more, as a doomed list; a later one deletes it. Between the two,
writers that began after the list count its packs as absent, and those that began before it have ended or were
declared dead, and what they committed is marked again. Every step may be the last one: the next collect goes
on from what is published.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import CollectRefused, Damaged, NoDataKey, ObjectMissing
from hvpsbridge.formats.doomed import DoomedList, DoomedPack
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.repository.cache import Renumbered
from hvpsbridge.repository.check.scan import NO_PACK
from hvpsbridge.repository.check.verify import VerifyContext
from hvpsbridge.repository.collect.decision import Decision, decide
from hvpsbridge.repository.collect.doomed_lists import publish_doomed
from hvpsbridge.repository.collect.index_changes import replace_index
from hvpsbridge.repository.collect.moving import Mover
from hvpsbridge.repository.collect.report import CollectOptions, CollectReport
from hvpsbridge.repository.collect.run_states import forget_runs, run_states
from hvpsbridge.repository.collect.small_objects import (
    forget_points,
    forget_rest,
    merge_tombstones,
)
from hvpsbridge.repository.collect.view import Seen, see
from hvpsbridge.repository.index_objects import publish_index
from hvpsbridge.repository.layout import binary_name, pack_name
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.runs import collect_lease, start_run
from hvpsbridge.repository.verified import inherit_ages, merge_ages

logger = logging.getLogger(__name__)

# Without a grace time: dooms, deletes, empties packs that were kept, and deletes them. Then nothing is left.
MAX_PASSES = 4


def collect(
    context: VerifyContext,
    run_id: UUID,
    options: CollectOptions,
    on_decided: Callable[[CollectReport], None] = lambda report: None,
) -> CollectReport:
    """Get space back.

    Args:
        context: the repository.
        run_id: of this run.
        options: how to collect.
        on_decided: called with what will be done, before anything is.

    Raises:
        CollectRefused: the repository has format 1, a point cannot be read, or an older hvps writes to it.
        RepositoryLocked: another collect is in progress.
        LeaseLost: this run was declared dead; what it did so far is complete.
        StoreError: the store fails; what was done so far is complete.
    """
    objects = context.objects
    if objects.format < 2:
        what = "it has format 1, whose programs do not know what is about to be deleted"
        raise CollectRefused(objects.store.url, what, "run `hvps repo upgrade` first")
    if options.check:
        return _look(context, None, options)[2]
    with collect_lease(objects, run_id), start_run(objects, run_id) as run:
        return _collect(context, RunGuard(objects, context.catalog, run), options, on_decided)


def _collect(
    context: VerifyContext,
    guard: RunGuard,
    options: CollectOptions,
    on_decided: Callable[[CollectReport], None],
) -> CollectReport:
    total: CollectReport | None = None
    for _ in range(MAX_PASSES):
        seen, decision, report = _look(context, guard, options)
        if total is None:
            on_decided(replace(report))
        _carry_out(context, guard, seen, decision)
        listed = _doom(context, guard, seen, decision, report)
        _tidy(context, guard, seen, decision)
        total = total.with_pass(report) if total is not None else report
        if listed is None or listed.runs or options.grace:
            break
        # Nothing can rely on what was doomed, so another look shows that it can be deleted.
    assert total is not None
    return replace(total, keeps_versions=context.objects.store.keeps_versions)


def _look(
    context: VerifyContext, guard: RunGuard | None, options: CollectOptions
) -> tuple[Seen, Decision, CollectReport]:
    while True:
        seen = see(context, guard, options.grace)
        report = CollectReport(dead_runs=len(seen.runs.dead))
        with contextlib.suppress(Renumbered):
            decision = decide(context, seen, options, report)
            if decision is not None:
                return seen, decision, report


def _carry_out(context: VerifyContext, guard: RunGuard, seen: Seen, decision: Decision) -> None:
    """Delete in the reverse order of writing: manifests, the index, packs. Then the lists that named them."""
    objects = context.objects
    guard.check()
    forget_points(objects, {*decision.gone_points, *(each.point_id for each in seen.void)})
    if decision.gone:
        replace_index(objects, context.cache, decision.gone, seen.runs.alive, guard.check)
    objects.store.commit_barrier()
    objects.delete_all(decision.victims)
    objects.store.commit_barrier()
    objects.delete_all(decision.carried_out)


def _doom(
    context: VerifyContext, guard: RunGuard, seen: Seen, decision: Decision, report: CollectReport
) -> DoomedList | None:
    """Empty packs that are mostly unused, and publish what a later collect deletes.

    A list without runs is of a collect that died before it published the second one. It is published again.
    """
    objects = context.objects
    moved = _move(context, guard, seen, decision, report)
    begun = {name: listed for name, listed in seen.lists.items() if listed.runs is None}
    packs = {*decision.unused, *moved, *(pack for each in begun.values() for pack in each.packs)}
    unlisted = {*decision.unlisted, *(pack for each in begun.values() for pack in each.unlisted)}
    points = {*decision.pruned, *(point for each in begun.values() for point in each.points)}
    if not packs and not unlisted and not points:
        objects.delete_all(begun)
        return None
    listed = DoomedList(
        at=datetime.now(UTC),
        runs=None,
        packs=tuple(sorted(packs)),
        unlisted=tuple(sorted(unlisted)),
        points=tuple(sorted(points)),
    )
    guard.check()
    first = publish_doomed(objects, listed)
    # A run that is not among these reads the list that was just published. Those that were fenced before the
    # marks were made rely on nothing else.
    runs = run_states(objects, guard.run)
    leaning = (runs.alive | runs.dead) - seen.runs.dead
    final = replace(listed, at=datetime.now(UTC), runs=tuple(sorted(leaning)))
    publish_doomed(objects, final)
    objects.delete_all([first, *begun])
    return final


def _move(
    context: VerifyContext, guard: RunGuard, seen: Seen, decision: Decision, report: CollectReport
) -> list[DoomedPack]:
    """The packs of which everything that points need was moved, and is in the index."""
    if not decision.moves:
        return []
    new: list[IndexedPack] = []
    moved: list[DoomedPack] = []
    mover = Mover(context.objects, context.frames, new.append)
    try:
        for pack, places in decision.moves:
            try:
                mover.move(pack, places)
            except (Damaged, ObjectMissing) as err:
                logger.error("%s; the pack stays as it is", err)
                report.damaged += (pack_name(pack.kind, pack.name),)
            except NoDataKey:
                logger.info("a pack of format 1 stays as it is: only a key that reads data can check it")
            else:
                moved.append(DoomedPack(pack.kind, pack.name))
        mover.flush()
    except BaseException:
        mover.abandon()
        raise
    report.moved_bytes = mover.moved_bytes
    guard.check()
    if new:
        oldest = min((each.created for each in (*seen.live, *seen.pruned)), default=datetime.now(UTC))
        inherit_ages(context.objects, mover.sources, oldest)
        publish_index(context.objects, IndexObject((), tuple(new)))
    return moved


def _tidy(context: VerifyContext, guard: RunGuard, seen: Seen, decision: Decision) -> None:
    """Remove what is left of dead runs, and merge small objects."""
    objects = context.objects
    forget_runs(objects, seen.runs.dead | seen.runs.ended)
    replace_index(objects, context.cache, (), seen.runs.alive, guard.check)
    merge_tombstones(objects, context.catalog)
    # The packs that were listed, and those that this collect has made.
    context.cache.synchronise()
    stored = b"".join(map(binary_name, seen.stored))
    merge_ages(objects, stored + context.cache.pack_names())
    forget_rest(objects, context.catalog)
    there = (seen.packs.keys() | set(map(binary_name, seen.stored))) - decision.gone
    done = [name for name, packs in seen.bad.items() if NO_PACK not in packs and not packs & there]
    objects.delete_all(done)
