"""Settling: what a run that ended early left on a host is finished or removed, and nothing else is touched.

:mod:`.judgement` says what there is and whose; :class:`Cleaner` acts on it. The same settler is the undo of a
running backup, on a connection of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.contract.results import CheckpointInfo, ReferencePointInfo
from hvpsbridge.errors import CommitForkFailed, HvpsError, OperationFailed, RepositoryError
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.merge_wait import children_of, wait_for_merge
from hvpsbridge.tasks.cleanup.ownership import (
    ids_of,
    judge,
    known_references,
    may_be,
    reference_points_to_keep,
    unfulfilled,
)
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.tasks.planning.mark import has_mark_of
from hvpsbridge.tasks.policy import Limits

logger = logging.getLogger(__name__)


def read_lineage(repository: Repository, vm_id: UUID) -> Lineage:
    """The VM's points with their ids, as the planner and the settler know them."""
    return Lineage(KnownPoint(point.manifest, ids) for point, ids in repository.catalog.with_ids(vm_id))


class Cleaner:
    """Settles one VM on one host.

    Args:
        host: the host; its own shell is left alone.
        repository: whose leftovers.
        vm_id: the VM.
        journal: where what is done is written down.
        limits: how long jobs and merges are waited for.
        own_run: a run whose entries are left open because it goes on; None settles every run.
        pause: waits so many seconds; false or an exception ends the waiting.
        note: told what was found and done, for people.
        warn: told what may be left where nobody can look, and goes by itself.
        connect_to: a session on another host by name, where the VM may have been; None when unknown.
        uncertain: a checkpoint may be being made at this moment, unseen.
        strangers: ids of checkpoints and reference points that somebody who knows says are not ours.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        host: HyperVHost,
        repository: Repository,
        vm_id: UUID,
        journal: Journal,
        limits: Limits,
        *,
        own_run: UUID | None,
        pause: Callable[[float], bool],
        note: Callable[[str], None],
        warn: Callable[[str], None] = lambda text: None,
        connect_to: Callable[[str], HyperVHost | None] = lambda name: None,
        uncertain: bool = False,
        strangers: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uncertain = uncertain
        self._strangers = strangers
        self._since = clock()
        self._connect_to = connect_to
        self._host = host
        self._repository = repository
        self._vm_id = vm_id
        self._journal = journal
        self._limits = limits
        self._own_run = own_run
        self._pause = pause
        self._note = note
        self._warn = warn
        self._clock = clock
        # Reference points of ours as last seen on the host; None before that. And those destroyed here.
        self._there: list[str] | None = None
        self._destroyed: set[str] = set()
        self._out_of_sight = False

    def run(self) -> tuple[str, ...]:
        """What is left and why, one line each; nothing when all is settled.

        Raises:
            HostError: the host cannot be asked, or reported what no settling can help.
        """
        self._since = self._clock()
        entries = self._journal.ledger.current_entries()
        open_entries = [
            entry for entry in self._journal.ledger.open_entries() if entry.run_id != self._own_run
        ]
        self._end_shells(open_entries)
        left = [*self._wait_for_jobs()]
        lineage = read_lineage(self._repository, self._vm_id)
        checkpoints = self._checkpoints(open_entries)
        judgement = judge(
            entries,
            open_entries,
            checkpoints,
            self._host.reference_points(self._vm_id),
            lineage,
            self._repository.repository_id,
        )
        children = self._children(judgement.ours)
        for checkpoint in judgement.ours:
            left.extend(self._dispose(checkpoint))
        for checkpoint in judgement.unclear:
            if str(checkpoint.checkpoint_id) not in self._strangers:
                name = f"recovery checkpoint {checkpoint.name!r} ({checkpoint.checkpoint_id})"
                left.append(f"{name} may be ours or not: tell hvps host sweep")
        left.extend(
            self._adopt(point for point in judgement.newcomers if point.instance_id not in self._strangers)
        )
        left.extend(self.retire())
        left.extend(self._wait_for_merge(children))
        if not left:
            self._close_runs(dict.fromkeys(entry.run_id for entry in open_entries))
        return tuple(left)

    def _close_runs(self, run_ids: Iterable[UUID]) -> None:
        try:
            for run_id in run_ids:
                self.settle(run_id)
        except RepositoryError as err:
            # The host is clean all the same; the next run looks again and finds nothing.
            logger.warning("the ledger cannot be closed: %s", err)

    def settle(self, run_id: UUID | None = None, note: str = "") -> None:
        """Close a run in the ledger; and the ledger itself when no other run needs what it says.

        Old entries expire then.

        Args:
            run_id: the run; the journal's without one.
            note: for people, where only the run is closed.

        Raises:
            RepositoryError: the entry cannot be written.
        """
        run_id = run_id or self._journal.run_id
        ledger = self._journal.ledger
        going_on = [entry for entry in ledger.open_entries() if entry.run_id != run_id]
        # All that a run has at its beginning is shells. They are written down again behind the entry before
        # which nothing is needed; a run that dies in between leaves shells that end when they are idle.
        only_begun = all(
            entry.run_id == self._own_run and entry.kind is LedgerKind.RUN_STARTED for entry in going_on
        )
        if not only_begun or self._there is None or self._out_of_sight:
            self._journal.settled(run_id, note)
            return
        self._journal.all_settled(run_id, self._there)
        for entry in going_on:
            ledger.append(entry)
        try:
            points = self._repository.catalog.points(self._vm_id)
            self._journal.expire(points[-1] if points else None)
        except RepositoryError as err:
            # An append-only store refuses it every time, and nothing is wrong then.
            logger.info("old ledger entries stay: %s", err)

    # -- shells and jobs ------------------------------------------------------------------------------

    def _end_shells(self, entries: Iterable[LedgerEntry]) -> None:
        """End shells of dead runs, wherever the VM was then; with them go their readers."""
        shells: dict[str, list[LedgerEntry]] = {}
        for entry in entries:
            if entry.kind is LedgerKind.RUN_STARTED and entry.shell_id is not None:
                shells.setdefault(entry.host, []).append(entry)
        for name, there in shells.items():
            if name == self._host.name:
                self._end_shells_on(self._host, there)
                continue
            try:
                other = self._connect_to(name)
                if other is not None:
                    with other:
                        self._end_shells_on(other, there)
                    continue
                why = "it is not among the hosts of this run"
            except HvpsError as err:
                why = err.describe()
            # The host may be dead, and its shells with it. If not, they end when they are idle, and a reader
            # gives its disk up before that (docs/hyperv-facts.md#shell-idle-timeout): nothing is left to do.
            shells_there = ", ".join(str(entry.shell_id) for entry in there)
            self._warn(f"shells of ours may be on {name} until they are idle ({shells_there}): {why}")

    def _end_shells_on(self, host: HyperVHost, entries: Iterable[LedgerEntry]) -> None:
        for entry in entries:
            assert entry.shell_id is not None
            if entry.shell_id.lower() != host.shell_id.lower() and host.end_shell(entry.shell_id):
                self._note(f"ended shell {entry.shell_id} of run {entry.run_id}")

    def _wait_for_jobs(self) -> tuple[str, ...]:
        until = self._clock() + self._limits.job_seconds
        while jobs := self._host.jobs(self._vm_id):
            names = ", ".join(job.description or job.instance_id for job in jobs)
            if self._clock() > until or not self._pause(self._limits.poll_seconds):
                return (f"unfinished jobs of the host: {names}",)
        return ()

    # -- checkpoints ----------------------------------------------------------------------------------

    def _checkpoints(self, open_entries: Sequence[LedgerEntry]) -> tuple[CheckpointInfo, ...]:
        """The VM's checkpoints, once one that was just being made has had the time to show.

        A host lists a checkpoint some seconds after its job has ended. To look too early and to close the
        ledger would leave it there, and nobody would know whose it is.
        """
        while True:
            checkpoints = self._host.checkpoints(self._vm_id)
            intents = list(unfulfilled(open_entries, checkpoints))
            newest = max((entry.at for entry in intents), default=None)
            if newest is None or any(may_be(one, intent) for one in checkpoints for intent in intents):
                return checkpoints
            if self._own_run is None and not self._uncertain:
                return checkpoints
            age = (datetime.now(UTC) - newest).total_seconds()
            if self._uncertain:
                age = min(age, self._clock() - self._since)
            if age > self._limits.appear_seconds or not self._pause(self._limits.poll_seconds):
                return checkpoints

    def _children(self, checkpoints: Sequence[CheckpointInfo]) -> tuple[str, ...]:
        if not checkpoints:
            return ()
        frozen = (path for checkpoint in checkpoints for path in checkpoint.disk_paths)
        return children_of(frozen, self._host.disks(self._vm_id))

    def _dispose(self, checkpoint: CheckpointInfo) -> Iterator[str]:
        """Convert a checkpoint that is the newest point's, remove any other."""
        point = self._point_of(checkpoint)
        if point is not None:
            try:
                self._convert(checkpoint, point)
            except CommitForkFailed:
                raise
            except (OperationFailed, RepositoryError) as err:
                # Without ids the point is no base, and nothing worse; a checkpoint that stays grows.
                self._note(f"checkpoint {checkpoint.name!r} cannot be converted, removing it: {err}")
            else:
                return
        try:
            removal = self._host.remove_checkpoint(
                self._vm_id, checkpoint.checkpoint_id, job_seconds=self._limits.job_seconds
            )
        except CommitForkFailed:
            raise
        except OperationFailed as err:
            yield f"recovery checkpoint {checkpoint.name!r}: {err.describe()}"
            return
        if removal.removed:
            self._note(f"removed recovery checkpoint {checkpoint.name!r}")

    def _point_of(self, checkpoint: CheckpointInfo) -> Point | None:
        points = self._repository.catalog.points(self._vm_id)
        if not points or points[-1].manifest.checkpoint_id != checkpoint.checkpoint_id:
            return None
        return points[-1]

    def _convert(self, checkpoint: CheckpointInfo, point: Point) -> None:
        self._journal.conversion_intended(checkpoint.checkpoint_id, point.point_id)
        made = self._host.convert(self._vm_id, checkpoint.checkpoint_id, job_seconds=self._limits.job_seconds)
        self._journal.reference_point_made(made.instance_id, point.point_id)
        self._note(f"converted the checkpoint of point {point.short_id}")
        self._publish(made, point)

    # -- reference points -----------------------------------------------------------------------------

    def _publish(self, made: ReferencePointInfo, point: Point) -> bool:
        """Publish the ids of ``made`` when they are the point's; whether they are."""
        ids = ids_of(point.manifest, made, self._host.disks(self._vm_id))
        if ids is None:
            return False
        if self._repository.catalog.ids(point) is None:
            self._repository.catalog.publish_ids(point, ids)
        return True

    def _adopt(self, newcomers: Iterable[ReferencePointInfo]) -> Iterator[str]:
        points = self._repository.catalog.points(self._vm_id)
        for newcomer in newcomers:
            for point in reversed(points):
                if self._publish(newcomer, point):
                    self._journal.reference_point_made(newcomer.instance_id, point.point_id)
                    self._note(f"adopted the reference point of point {point.short_id}")
                    break
            else:
                yield (
                    f"reference point {newcomer.instance_id} may be ours or not, for its ids are no point's: "
                    "tell hvps host sweep"
                )

    def retire(self) -> Iterator[str]:
        """Destroy our reference points but the one a base needs; a line for each that stays."""
        there, keep = self._own_reference_points()
        yield from self._destroy([instance_id for instance_id in there if instance_id not in keep])

    def _destroy(self, doomed: Iterable[str]) -> Iterator[str]:
        for instance_id in doomed:
            try:
                self._host.remove_reference_point(
                    self._vm_id, instance_id, job_seconds=self._limits.job_seconds
                )
            except OperationFailed as err:
                yield f"reference point {instance_id}: {err.describe()}"
            else:
                self._destroyed.add(instance_id)
                self._there = [one for one in self._there or () if one != instance_id]
                self._note(f"destroyed our reference point {instance_id}")

    def forget(self) -> Iterator[str]:
        """Destroy every reference point of ours; a line for each that stays."""
        there, _ = self._own_reference_points()
        yield from self._destroy(there)

    def _own_reference_points(self) -> tuple[list[str], tuple[str, ...]]:
        """``InstanceID`` of ours on the host, and of those the ones that stay."""
        lineage = read_lineage(self._repository, self._vm_id)
        entries = self._journal.ledger.current_entries()
        ours = known_references(entries, lineage)
        there = [
            point.instance_id
            for point in self._host.reference_points(self._vm_id)
            if point.instance_id in ours
        ]
        self._there = there
        # On the host that made it, one that is not there is destroyed. It may be on another one where the
        # VM was, and only the ledger may know it.
        found = {*there, *self._destroyed, *lineage.reference_points}
        self._out_of_sight = any(
            entry.host != self._host.name and not found.issuperset(entry.own_reference_points)
            for entry in entries
        )
        return there, reference_points_to_keep(lineage, there, durable=self._repository.durable)

    def unclean(self) -> Iterator[str]:
        """Look once more at what a finished run must not have left, one line for each thing it has."""
        for checkpoint in self._host.checkpoints(self._vm_id):
            if has_mark_of(self._repository.repository_id, checkpoint.name):
                yield f"recovery checkpoint {checkpoint.name!r}"
        there, keep = self._own_reference_points()
        expected = max(len(keep), 1)
        if len(there) != expected:
            yield f"{len(there)} reference points of ours instead of {expected}"

    # -- merges ---------------------------------------------------------------------------------------

    def _wait_for_merge(self, children: Iterable[str]) -> tuple[str, ...]:
        return wait_for_merge(
            self._host, self._vm_id, tuple(children), self._limits, self._pause, self._clock
        )


def left_unknown(err: HvpsError) -> str:
    """The line for a host that could not be asked what is left."""
    return f"what is left could not be seen: {err.describe()}"
