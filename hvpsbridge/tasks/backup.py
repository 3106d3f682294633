"""The backup of one VM: the steps of :mod:`.steps` in their order, and the undo when one fails.

How it holds together: everything that will exist on the host is in the ledger before it is made. Until
the manifest is durable, an error undoes everything; from then on the point is safe, and an error only
costs its usefulness as a base. The undo is the settling of our own run on a fresh connection, so a crash,
an error and a signal all end in the same code.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from hvpsbridge import __version__
from hvpsbridge.contract.operations import CONTRACT
from hvpsbridge.contract.results import (
    CheckpointInfo,
    Consistency,
    DiskInfo,
    FrozenDisk,
    HostInfo,
    ReferencePointInfo,
    VmInfo,
    VmState,
    VolumeInfo,
)
from hvpsbridge.errors import (
    CheckpointGone,
    CommitForkFailed,
    ConsistencyNotReached,
    Gated,
    HostError,
    HostNotClean,
    HostUnreachable,
    HvpsError,
    InternalError,
    Interrupted,
    LeaseLost,
    NotEligible,
    OperationTimedOut,
    SessionLost,
    StoppedByPolicy,
    TrackingLied,
    VmBusy,
    VmNotFound,
)
from hvpsbridge.formats.manifest import ExcludedDisk, FileRef, Manifest
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.budget import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.repository.lease import Lease, current_holder
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.writer import Writer
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.disk import DiskBackup, Tools
from hvpsbridge.tasks.eligibility import (
    Finding,
    examine,
    left_out,
    no_checkpoint_holds,
    refusals,
    takes_part,
    waits,
)
from hvpsbridge.tasks.events import Observer, VmRef
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.judgement import ids_of
from hvpsbridge.tasks.lineage import PROOFS_WANTED, Lineage
from hvpsbridge.tasks.mark import Mark, parse_mark
from hvpsbridge.tasks.merging import wait_for_merge
from hvpsbridge.tasks.permits import Claim
from hvpsbridge.tasks.plan import DiskFacts, DiskPlan, Mode, Reason, VmPlan, plan_disks, slot_of
from hvpsbridge.tasks.policy import BackupPolicy, Limits, OnUnexpectedFull, ProofPolicy, Wish
from hvpsbridge.tasks.reader import DiskReader, open_shell
from hvpsbridge.tasks.results import BackupResult, DiskFigures
from hvpsbridge.tasks.settle import Settler, left_unknown, read_lineage
from hvpsbridge.tasks.sharing import ReaderGate, Sharing
from hvpsbridge.tasks.space import child_growth, volume_of
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.together import side_by_side
from hvpsbridge.tasks.watch import Guard, short_of_space

_LOG = logging.getLogger(__name__)

_EXPECTED = tuple(reason.word for reason in Reason if reason.expected)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the backups of a run share.

    Attributes:
        connect: a fresh session on the host that has the VM now, for the undo.
        connect_to: a session on a host by name, to end shells where the VM has been; None when the run
            does not know that host.
        budget: the process's byte budget.
        sharing: permits, the rate and what is known of hosts.
    """

    repository: Repository
    connect: Callable[[], HyperVHost]
    run_id: UUID
    observer: Observer
    cancel: Cancellation
    budget: ByteBudget
    connect_to: Callable[[str], HyperVHost | None] = lambda name: None
    sharing: Sharing = field(default_factory=Sharing)


class BackupVm:
    """One backup of one VM. Used once.

    Args:
        host: a session on the VM's host, used by nobody else meanwhile.
        vm: the VM as the inventory listed it.
        policy: the task's options.
        around: what is shared.
    """

    def __init__(self, host: HyperVHost, vm: VmInfo, policy: BackupPolicy, around: Surroundings) -> None:
        self._host = host
        self._vm = vm
        self._policy = policy
        self._around = around
        self._repository = around.repository
        self._ref = VmRef(host.name, vm.vm_id, vm.name)
        self._started = datetime.now(UTC)
        self._clock = time.monotonic
        self._guard = Guard(vm.vm_id, vm.name, policy.limits, around.cancel)
        self._journal: Journal | None = None
        self._readers: list[DiskReader] = []
        self._backups: list[DiskBackup] = []
        self._findings: tuple[Finding, ...] = ()
        self._plan: VmPlan | None = None
        self._volumes: tuple[VolumeInfo, ...] = ()
        self._ignore_disks = False
        self._point: Point | None = None
        self._consistency: Consistency | None = None
        self._stored_bytes = 0
        self._armed = False
        self._mark = ""
        self._uncertain = False
        self._warnings: list[str] = []
        self._conditions: list[HvpsError] = []
        self._leftovers: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """What this backup may have on the host at this moment, one line each; for a run that gives up."""
        if self._leftovers or not self._armed:
            return self._leftovers
        return (f"recovery checkpoint {self._mark!r}",)

    # -- entries --------------------------------------------------------------------------------------

    def run(self) -> BackupResult:
        """Make a recovery point; what came of it, errors included."""
        error = self._guarded(self._make)
        if isinstance(error, CheckpointGone) and not self._leftovers:
            error = self._start_over(error)
        if error is None and self._around.cancel.requested:
            error = self._around.cancel.error
        return self._result(error)

    def _start_over(self, error: CheckpointGone) -> HvpsError | None:
        """Make the backup anew, once, under a run id of its own: the first one's is settled for good."""
        self._note(f"starting over: {error}")
        self._warnings.append(f"started over: {error}")
        self._around = replace(self._around, run_id=uuid4())
        self._guard = Guard(self._vm.vm_id, self._vm.name, self._policy.limits, self._around.cancel)
        self._backups.clear()
        self._plan = self._consistency = None
        return self._guarded(self._make)

    def check(self) -> BackupResult:
        """Plan only: what a backup would do. Nothing is changed on the host or in the repository."""
        return replace(self._result(self._guarded(self._make_plan)), planned_only=True)

    def _guarded(self, work: Callable[[], None]) -> HvpsError | None:
        try:
            work()
        except HvpsError as err:
            return err
        except Exception as err:  # noqa: BLE001 - the VM's boundary: a bug must not take other VMs along
            _LOG.exception("VM %s", self._vm.name)
            internal = InternalError(f"{type(err).__name__}: {err}")
            internal.__cause__ = err
            return internal
        return None

    def _result(self, error: HvpsError | None) -> BackupResult:
        return BackupResult(
            vm=self._ref,
            task="backup",
            started=self._started,
            seconds=(datetime.now(UTC) - self._started).total_seconds(),
            error=error,
            conditions=tuple(self._conditions),
            warnings=tuple(self._warnings),
            plan=self._plan,
            findings=self._findings,
            point_id=None if self._point is None else self._point.point_id,
            consistency="" if self._consistency is None else self._consistency.value,
            disks=self._figures(),
            stored_bytes=self._stored_bytes,
            leftovers=self._leftovers,
        )

    def _figures(self) -> tuple[DiskFigures, ...]:
        return tuple(backup.figures() for backup in self._backups)

    # -- the steps ------------------------------------------------------------------------------------

    def _make_plan(self) -> None:
        """What ``--check`` does: steps 1 and 3 without lease, ledger or waiting, and the reader's C#."""
        info = self._host.host_info()
        vm, disks = self._look(wait=False)
        self._decide(vm, disks, info, read_lineage(self._repository, vm.vm_id))
        self._host.check_reader()

    def _make(self) -> None:
        with contextlib.ExitStack() as stack:
            with self._step(Step.RESOLVE):
                info = self._host.host_info()
                self._vm = self._host.vms(self._vm.vm_id)[0]
                self._refuse_unfit(self._vm, self._host.disks(self._vm.vm_id), None)
                lease = stack.enter_context(
                    self._repository.lease(self._vm.vm_id, current_holder(self._around.run_id))
                )
                ledger = self._repository.ledger(self._vm.vm_id)
                journal = Journal(ledger, self._around.run_id, self._vm.vm_id, self._host.name)
                self._journal = journal
                # From here on something of ours is on the host: this shell.
                journal.shell_opened(self._host.shell_id, info)
            error = self._guarded(lambda: self._make_leased(info, journal, lease))
            if error is not None and self._armed:
                error = self._undo(error)
            if error is not None:
                raise error

    def _make_leased(self, info: HostInfo, journal: Journal, lease: Lease) -> None:
        """Steps 2 to 10. When it is left, by whatever way, no reader of ours holds a disk."""
        with self._step(Step.SETTLE):
            self._settle(journal)
        with self._step(Step.PLAN):
            vm, disks = self._look(wait=True)
            lineage = read_lineage(self._repository, vm.vm_id)
            plan = self._decide(vm, disks, info, lineage)
            self._stop_at_unexpected(plan.disks)
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(self._repository.begin(self._around.run_id))
            stack.callback(self._drop_readers)
            checkpoint, frozen, children = self._freeze(plan, journal, lease)
            taken = datetime.now(UTC)
            with self._noticing_loss(checkpoint):
                with self._guard.watching(self._host), self._step(Step.READ):
                    self._read(plan, frozen, journal, writer)
                with self._step(Step.CONFIGURATION):
                    files = self._files(checkpoint, writer)
                    definition = self._host.definition(vm.vm_id).json
                with self._guard.watching(self._host), self._step(Step.PROVE):
                    self._prove(lineage.last_sequence)
            with self._step(Step.COMMIT):
                point = self._commit(checkpoint, taken, info, files, definition, writer, lease)
            self._convert(point, checkpoint, journal, lease)
            self._leave(journal, lineage, children, lease)

    @contextlib.contextmanager
    def _noticing_loss(self, checkpoint: CheckpointInfo) -> Iterator[None]:
        """Tell an error of the host whose cause is that our checkpoint is not there any more.

        Raises:
            CheckpointGone: that is so.
        """
        try:
            yield
        except HostError as err:
            gone = False
            with contextlib.suppress(HostError):
                there = {one.checkpoint_id for one in self._host.checkpoints(self._vm.vm_id)}
                gone = checkpoint.checkpoint_id not in there
            if gone:
                raise CheckpointGone(self._host.name, self._vm.name) from err
            raise

    @contextlib.contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        """One step: asked before it whether to go on, told before and after.

        Once the point exists, a request to stop waits: what remains is the cleaning of the host.
        """
        if self._point is None:
            self._guard.check()
        elif self._around.cancel.gave_up:
            raise self._around.cancel.error
        _LOG.debug("VM %s: %s", self._vm.name, step.label)
        self._around.observer.step(self._ref, step, "before")
        yield
        self._around.observer.step(self._ref, step, "after")

    # -- 1 to 3: before anything is made ----------------------------------------------------------------

    def _settle(self, journal: Journal) -> None:
        left = self._settler(self._host, journal).run()
        ours = [
            checkpoint
            for checkpoint in self._host.checkpoints(self._vm.vm_id)
            if (mark := parse_mark(checkpoint.name)) is not None
            and mark.repository_id == self._repository.repository_id
        ]
        if left and ours:
            # One checkpoint of ours at a time: a second one would pin the first one's chain.
            self._leftovers = left
            raise HostNotClean(self._host.name, self._vm.name, left)
        if left:
            self._leftovers = left
            self._conditions.append(HostNotClean(self._host.name, self._vm.name, left))

    def _settler(self, host: HyperVHost, journal: Journal, *, undo_until: float | None = None) -> Settler:
        """A settler of earlier runs; with ``undo_until`` of this one, too, waiting no longer than that."""
        undoing = undo_until is not None

        def pause(seconds: float) -> bool:
            if undo_until is None:
                return self._pause(seconds)
            return self._clock() < undo_until and self._around.cancel.pause_undo(seconds)

        return Settler(
            host,
            self._repository,
            self._vm.vm_id,
            journal,
            self._policy.limits,
            own_run=None if undoing else self._around.run_id,
            pause=pause,
            uncertain=undoing and self._uncertain,
            note=self._note,
            warn=self._warn,
            connect_to=self._around.connect_to,
        )

    def _pause(self, seconds: float) -> bool:
        self._around.cancel.pause(seconds)
        return True

    def _look(self, *, wait: bool) -> tuple[VmInfo, tuple[DiskInfo, ...]]:
        """The VM and its drives once nothing speaks against a backup.

        Raises:
            NotEligible: something does that does not pass.
            Gated: something that passes did not in time.
        """
        until = self._clock() + (self._policy.limits.gate_seconds if wait else 0)
        patient_until = self._clock() + (self._policy.limits.held_merge_seconds if wait else 0)
        told = False
        while True:
            vm = self._host.vms(self._vm.vm_id)[0]
            disks = self._host.disks(vm.vm_id)
            checkpoints = self._host.checkpoints(vm.vm_id)
            gates = self._refuse_unfit(vm, disks, checkpoints, patient=self._clock() < patient_until)
            if not gates:
                return vm, disks
            lasting = [finding for finding in gates if not finding.may_pass]
            if lasting and self._clock() >= until:
                raise Gated(vm.name, lasting[0].text)
            if not told:
                self._note(f"waiting: {gates[0].text}")
                told = True
            self._around.cancel.pause(self._policy.limits.poll_seconds)

    def _refuse_unfit(
        self,
        vm: VmInfo,
        disks: tuple[DiskInfo, ...],
        checkpoints: tuple[CheckpointInfo, ...] | None,
        *,
        patient: bool = False,
    ) -> tuple[Finding, ...]:
        """What has to be waited for; anything graver is raised, but for what may pass while ``patient``."""
        self._findings = examine(
            vm, disks, checkpoints, self._repository.repository_id, self._policy.exclude_disks
        )
        refused = refusals(self._findings)
        passing = tuple(finding for finding in refused if patient and finding.may_pass)
        if len(refused) > len(passing):
            raise NotEligible(vm.name, str(next(one for one in refused if one not in passing)))
        return passing + waits(self._findings)

    def _decide(self, vm: VmInfo, disks: tuple[DiskInfo, ...], info: HostInfo, lineage: Lineage) -> VmPlan:
        """The plan, told to the observer.

        Raises:
            HostNoSpace: a volume has no room for what the checkpoint may take.
        """
        exclude = self._policy.exclude_disks
        drives, out = takes_part(disks, exclude), left_out(disks, exclude)
        self._ignore_disks = any(no_checkpoint_holds(disk) for disk, _ in out)
        excluded = [disk for disk, _ in out]
        decided = plan_disks(
            vm,
            map(DiskFacts.of_drive, drives),
            lineage,
            os_build=info.os_build,
            reference_points=[point.instance_id for point in self._host.reference_points(vm.vm_id)],
            force_compare=self._policy.force_compare,
            excluded=excluded,
        )
        self._volumes = volumes = self._host.volumes(vm.vm_id)
        paths = {slot_of(drive): drive.path or "" for drive in drives}
        growth = child_growth(decided, paths, volumes, lineage, excluded)
        self._vm = vm
        self._plan = VmPlan(
            vm,
            decided,
            growth,
            tuple(
                ExcludedDisk(slot_of(disk), disk.disk_id, disk.path, disk.size_bytes, pattern)
                for disk, pattern in out
            ),
        )
        self._around.observer.planned(self._ref, self._plan)
        short = short_of_space(vm.name, volumes, self._policy.limits.free_space_floor_bytes, growth)
        if short is not None:
            raise short
        return self._plan

    def _stop_at_unexpected(self, disks: tuple[DiskPlan, ...]) -> None:
        if self._policy.on_unexpected_full is not OnUnexpectedFull.STOP:
            return
        for disk in disks:
            if not disk.reason.expected:
                raise StoppedByPolicy(self._vm.name, f"disk {disk.slot}: {disk.why}")

    # -- 4: the checkpoint ------------------------------------------------------------------------------

    def _freeze(
        self, plan: VmPlan, journal: Journal, lease: Lease
    ) -> tuple[CheckpointInfo, dict[str, FrozenDisk], tuple[str, ...]]:
        """The checkpoint, its disks by slot, and the files that run on top of them."""
        vm_id = plan.vm.vm_id
        until = datetime.now(UTC) + timedelta(seconds=self._policy.limits.checkpoint_age_seconds)
        mark = Mark(self._repository.repository_id, self._around.run_id, until)
        self._mark = str(mark)
        with self._step(Step.INTEND_CHECKPOINT):
            lease.check()
            journal.checkpoint_intended(
                str(mark), self._host.checkpoints(vm_id), self._host.reference_points(vm_id)
            )
            self._armed = True
        with self._step(Step.MAKE_CHECKPOINT):
            checkpoint = self._checkpoint(plan.vm, str(mark))
            self._guard.checkpoint_made()
        with self._step(Step.RECORD_CHECKPOINT):
            journal.checkpoint_made(checkpoint.checkpoint_id)
        with self._step(Step.CHECK_FROZEN):
            frozen = {
                slot_of(disk): disk for disk in self._host.frozen_disks(vm_id, checkpoint.checkpoint_id)
            }
            planned = {disk.slot for disk in plan.disks}
            # What is left out is frozen all the same, where a checkpoint can hold it.
            held = frozen.keys() - {disk.slot for disk in plan.excluded}
            if held != planned:
                odd = ", ".join(sorted(held ^ planned))
                raise NotEligible(plan.vm.name, f"the checkpoint does not hold the planned disks: {odd}")
            tops = {disk.path.casefold() for disk in frozen.values()}
            children = tuple(
                above
                for disk in self._host.disks(vm_id)
                for above, below in zip(disk.chain, disk.chain[1:], strict=False)
                if below.casefold() in tops
            )
        return checkpoint, frozen, children

    def _checkpoint(self, vm: VmInfo, mark: str) -> CheckpointInfo:
        """A checkpoint of the consistency wished for; falls back when that is allowed."""
        wish = self._policy.consistency
        level = Consistency.CRASH if wish is Wish.CRASH else Consistency.APPLICATION
        if vm.state is VmState.SAVED and wish is Wish.APPLICATION:
            raise NotEligible(vm.name, "it is saved, and a saved VM's applications cannot be asked")
        if vm.state in (VmState.OFF, VmState.SAVED):
            # Nobody is there to flush; what is on the disks of an off VM is what its shutdown left.
            level = Consistency.CRASH
        try:
            made = self._create(vm, mark, level)
        except ConsistencyNotReached as err:
            if wish is not Wish.APPLICATION_OR_CRASH:
                raise
            self._note(f"falling back to crash consistency: {err.describe()}")
            level = Consistency.CRASH
            made = self._create(vm, mark, level)
        self._consistency = level
        return made

    def _create(self, vm: VmInfo, mark: str, level: Consistency) -> CheckpointInfo:
        """Create, and look for what a lost reply may have created."""
        try:
            return self._host.create_checkpoint(
                vm.vm_id,
                mark,
                level,
                ignore_disks=self._ignore_disks,
                job_seconds=self._policy.limits.job_seconds,
            )
        except (SessionLost, OperationTimedOut):
            self._uncertain = True
            for checkpoint in self._host.checkpoints(vm.vm_id):
                if checkpoint.name == mark:
                    self._note("the reply was lost, the checkpoint is there")
                    return checkpoint
            raise

    # -- 5 to 8: the data -------------------------------------------------------------------------------

    def _read(self, plan: VmPlan, frozen: dict[str, FrozenDisk], journal: Journal, writer: Writer) -> None:
        tools = Tools(
            self._repository,
            writer,
            self._around.budget,
            self._guard,
            self._policy,
            plan.vm.name,
            self._host.name,
            lambda progress: self._around.observer.progress(self._ref, progress),
            self._around.sharing,
            self._gate,
        )
        for disk in plan.disks:
            reader = DiskReader(
                partial(open_shell, self._host, self._policy.patience, self._guard.pause),
                frozen[disk.slot].path,
                journal,
                self._host.name,
                self._around.sharing.shells,
                self._guard.check,
            )
            self._readers.append(reader)
            backup = DiskBackup(disk, frozen[disk.slot], reader, tools)
            self._backups.append(backup)
            self._stop_at_unexpected((backup.plan,))
        side_by_side([backup.pull for backup in self._backups], self._guard.halt)

    def _gate(self, path: str) -> ReaderGate:
        """A permit to read the frozen disk of that path."""
        volume = volume_of(path, self._volumes) or path[:3]
        claim = Claim(self._host.name, volume, self._vm.vm_id, path)
        return self._around.sharing.permits.gate(claim)

    def _files(self, checkpoint: CheckpointInfo, writer: Writer) -> tuple[FileRef, ...]:
        pieces = self._host.configuration(self._vm.vm_id, checkpoint.checkpoint_id)
        return tuple(
            writer.file(name, (piece.data or b"" for piece in group))
            for (_, name), group in itertools.groupby(pieces, key=lambda piece: (piece.path, piece.name))
        )

    def _prove(self, turn: int) -> None:
        side_by_side([partial(self._prove_disk, backup, turn) for backup in self._backups], self._guard.halt)

    def _prove_disk(self, backup: DiskBackup, turn: int) -> None:
        match self._policy.proof:
            case ProofPolicy.NEVER:
                return
            case ProofPolicy.ALWAYS:
                backup.prove_whole(believe_allocation=False)
            case ProofPolicy.AUTO:
                if backup.plan.mode is not Mode.INCREMENTAL:
                    return
                if backup.plan.proved < PROOFS_WANTED:
                    backup.prove_whole()
                else:
                    backup.audit(turn)

    def _commit(
        self,
        checkpoint: CheckpointInfo,
        taken: datetime,
        info: HostInfo,
        files: tuple[FileRef, ...],
        definition: str,
        writer: Writer,
        lease: Lease,
    ) -> Point:
        assert self._consistency is not None
        lease.check()
        disks = tuple(backup.finish(self._around.run_id) for backup in self._backups)
        manifest = Manifest(
            point_id=uuid4(),
            vm_id=self._vm.vm_id,
            vm_name=self._vm.name,
            host=self._host.name,
            run_id=self._around.run_id,
            created=taken,
            hvps_version=__version__,
            contract=CONTRACT,
            consistency_asked=self._policy.consistency.value,
            consistency=self._consistency.value,
            checkpoint_id=checkpoint.checkpoint_id,
            disks=disks,
            files=files,
            definition=definition,
            os_build=info.os_build,
            excluded=() if self._plan is None else self._plan.excluded,
        )
        point = writer.commit(manifest)
        self._point = point
        self._stored_bytes = writer.stats.stored_bytes
        for backup in self._backups:
            if backup.lied_chunks:
                self._conditions.append(TrackingLied(self._vm.name, backup.plan.slot, backup.lied_chunks))
        writer.check()
        return point

    # -- 9 and 10: the host is left clean ---------------------------------------------------------------

    def _convert(self, point: Point, checkpoint: CheckpointInfo, journal: Journal, lease: Lease) -> None:
        with self._step(Step.CLOSE_READERS):
            while self._readers:
                self._readers[-1].close()
                self._readers.pop()
        with self._step(Step.INTEND_CONVERSION):
            lease.check()
            journal.conversion_intended(checkpoint.checkpoint_id, point.point_id)
        with self._step(Step.CONVERT):
            made = self._host.convert(
                self._vm.vm_id, checkpoint.checkpoint_id, job_seconds=self._policy.limits.job_seconds
            )
        with self._step(Step.RECORD_REFERENCE_POINT):
            journal.reference_point_made(made.instance_id, point.point_id)
        with self._step(Step.PUBLISH_IDS):
            self._publish(point, made)

    def _publish(self, point: Point, made: ReferencePointInfo) -> None:
        if not any(disk.rct_id for disk in point.disks):
            return
        ids = ids_of(point.manifest, made, self._host.disks(self._vm.vm_id))
        if ids is None:
            self._warnings.append(
                "the reference point's ids are not those of the frozen disks: the next backup compares"
            )
            return
        self._repository.publish_ids(point, ids)

    def _leave(self, journal: Journal, lineage: Lineage, children: tuple[str, ...], lease: Lease) -> None:
        settler = self._settler(self._host, journal)
        left: list[str] = []
        with self._step(Step.RETIRE):
            lease.check()
            left.extend(settler.retire())
        with self._step(Step.MERGE):
            left.extend(
                wait_for_merge(
                    self._host,
                    self._vm.vm_id,
                    children,
                    self._leaving_limits(),
                    self._around.cancel.pause_undo,
                )
            )
        with self._step(Step.CHECK_CLEAN):
            left.extend(settler.unclean())
            self._armed = False
            self._close(journal, tuple(left))
            self._warn_unexpected(lineage)

    def _leaving_limits(self) -> Limits:
        """The limits; somebody who asked to stop waits for a merge no longer than for an undo."""
        limits = self._policy.limits
        if not self._around.cancel.requested:
            return limits
        return replace(limits, merge_seconds=min(limits.merge_seconds, limits.undo_seconds))

    def _close(self, journal: Journal, left: tuple[str, ...]) -> None:
        """Close the run's ledger when nothing is left; else say what is."""
        if left:
            self._leftovers = left
            self._conditions.append(HostNotClean(self._host.name, self._vm.name, left))
        else:
            journal.settled()

    def _warn_unexpected(self, lineage: Lineage) -> None:
        if self._policy.on_unexpected_full is OnUnexpectedFull.ACCEPT:
            return
        for backup in self._backups:
            plan = backup.plan
            if plan.reason.expected or backup.lied_chunks:
                continue
            before = lineage.unexpected_in_a_row(plan.slot, plan.facts.disk_id, _EXPECTED)
            again = f", {before + 1} times in a row now" if before else ""
            self._warnings.append(f"disk {plan.slot}: {plan.mode.value}{again}: {plan.why}")

    # -- the undo ---------------------------------------------------------------------------------------

    def _undo(self, error: HvpsError) -> HvpsError | None:
        """Settle our own run on a fresh connection; what the backup's error is afterwards.

        With the point committed, an error of the host only costs its ids: it becomes a warning.
        """
        _LOG.info("VM %s: undoing after: %s", self._vm.name, error)
        if isinstance(error, (LeaseLost, CommitForkFailed)):
            # Whoever took the lease settles; acting now would be acting without one. And where a fork of
            # the chain failed, removing anything may lose the VM's data (reference 6.3).
            self._leftovers = self.left
        else:
            self._leftovers = self._settle_own_run()
        self._armed = False
        if self._leftovers:
            self._conditions.append(HostNotClean(self._host.name, self._vm.name, self._leftovers))
        if self._point is None or isinstance(error, (Interrupted, LeaseLost, InternalError)):
            return error
        self._warnings.append(f"the point is safe, but after it: {error.describe()}")
        return None

    def _settle_own_run(self) -> tuple[str, ...]:
        journal = self._journal
        assert journal is not None
        until = self._clock() + self._policy.limits.undo_seconds
        while True:
            try:
                with self._around.connect() as host:
                    return self._settler(host, journal, undo_until=until).run()
            except (SessionLost, HostUnreachable, OperationTimedOut, VmNotFound, VmBusy) as err:
                # The VM may be between two hosts, or held by what it is just doing there.
                failure: HvpsError = err
            except HvpsError as err:
                return (*self.left, left_unknown(err))
            _LOG.warning("VM %s: undo: %s", self._vm.name, failure)
            if self._clock() > until or not self._around.cancel.pause_undo(self._policy.limits.poll_seconds):
                return (*self.left, left_unknown(failure))

    def _drop_readers(self) -> None:
        while self._readers:
            self._readers.pop().abandon()

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    def _note(self, text: str) -> None:
        _LOG.info("VM %s: %s", self._vm.name, text)
        self._around.observer.noted(self._ref, text)
