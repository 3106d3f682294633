"""Runs the tasks of plays on the VMs of hosts, some at a time, each VM's failure kept to itself.

Every VM's tasks run in order in one worker thread. The thread that calls :meth:`Runner.run` only waits,
so that it hears signals: the first lets the workers stop and undo, the second makes it return at once with
what is left; worker threads are daemons and end with the process.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import HostError, HvpsError, InternalError
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.backup import BackupContext, BackupVm
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Observer, VmRef
from hvpsbridge.tasks.planning.select import Candidate, VmChoice, choose_vms
from hvpsbridge.tasks.policy import BackupPolicy, RestorePolicy, VerifyPolicy
from hvpsbridge.tasks.restore import restore_vm
from hvpsbridge.tasks.results import BackupResult, HostProblem, Outcome, RunResult, TaskResult
from hvpsbridge.tasks.transfer.limits import SharedLimits
from hvpsbridge.tasks.verify import verify_vm

logger = logging.getLogger(__name__)

# How often the waiting thread looks for signals.
LOOK_SECONDS = 0.2
# How often a backup is started anew because its VM went to another host in the midst of it.
MOST_MOVES = 3


@dataclass(frozen=True, slots=True)
class HostTarget:
    """A host of a run: its name, and how a session on it is had."""

    name: str
    connect: Callable[[], HyperVHost]


@dataclass(frozen=True, slots=True)
class PlayRun:
    """A play made live.

    Attributes:
        name: for logs.
        tasks: policies in the order of the play's tasks.
        limit: patterns of ``--limit``.
    """

    name: str
    hosts: tuple[HostTarget, ...]
    repository: Repository
    choice: VmChoice
    tasks: tuple[BackupPolicy | VerifyPolicy | RestorePolicy, ...]
    limit: tuple[str, ...] = ()

    @property
    def needs_hosts(self) -> bool:
        """Whether any task works on a host; else the repository knows the VMs."""
        return any(isinstance(task, BackupPolicy) for task in self.tasks)


class Hosts:
    """The hosts of a play, and where a VM is among them."""

    def __init__(self, targets: Sequence[HostTarget]) -> None:
        self._targets = {target.name: target for target in targets}

    def connect_to(self, name: str) -> HyperVHost | None:
        """A session on the host of that name; None when the play has no such host."""
        target = self._targets.get(name)
        return None if target is None else target.connect()

    def connect_owner(self, vm_id: UUID, first: str) -> HyperVHost:
        """A session on the host that has the VM now; ``first`` is asked before all others.

        Raises:
            HostError: what ``first`` said, when no host has it.
        """
        names = [first, *(name for name in self._targets if name != first)]
        refusal: HostError | None = None
        for name in names:
            host: HyperVHost | None = None
            try:
                host = self._targets[name].connect()
                host.vms(vm_id)
            except HostError as err:
                refusal = refusal or err
                if host is not None:
                    host.close()
            else:
                return host
        assert refusal is not None
        raise refusal


@dataclass(slots=True)
class _Job:
    """The tasks of one play for one VM, and where they are."""

    play: PlayRun
    target: HostTarget
    vm: VmRef
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    task: str = ""
    backup: BackupVm | None = None
    finished: bool = False


class Runner:
    """One run.

    Args:
        run_id: shows in shells, marks, ledgers and logs.
        observer: told what happens.
        cancel: asks it to stop.
        forks: VMs worked on at a time.
        check: plan only; nothing is changed anywhere, tasks other than backups are left out.
        budget: byte budget of all reads; the process's default without it.
        sharing: permits, the rate and what is known of hosts, for all reads.
    """

    def __init__(
        self,
        run_id: UUID,
        observer: Observer,
        cancel: Cancellation,
        *,
        forks: int = 2,
        check: bool = False,
        budget: ByteBudget | None = None,
        sharing: SharedLimits | None = None,
    ) -> None:
        self._run_id = run_id
        self._observer = observer
        self._cancel = cancel
        self._forks = forks
        self._check = check
        self._budget = budget or ByteBudget()
        self._sharing = sharing or SharedLimits()
        self._lock = threading.Lock()
        self._results: list[TaskResult] = []
        self._problems: list[HostProblem] = []

    def run(self, plays: Iterable[PlayRun]) -> RunResult:
        """Run the plays one after the other; what came of everything. Never raises an HvpsError."""
        started = datetime.now(UTC)
        for play in plays:
            if self._cancel.requested:
                break
            self._run_play(play)
        if self._cancel.requested and not self._results:
            # Nothing was under way that could have said so itself.
            self._problems.append(HostProblem("", self._cancel.error))
        return RunResult(
            self._run_id,
            started,
            (datetime.now(UTC) - started).total_seconds(),
            tuple(self._results),
            tuple(self._problems),
        )

    # -- plays ------------------------------------------------------------------------------------------

    def _run_play(self, play: PlayRun) -> None:
        jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        known: list[_Job] = []
        targets = {target.name: target for target in play.hosts}
        for vm in self._choose(play):
            job = _Job(play, targets[vm.host], vm)
            known.append(job)
            jobs.put(job)
        workers = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._work, jobs),
                name=f"vm-{index}",
                daemon=True,
            )
            for index in range(min(self._forks, len(known)))
        ]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            if self._cancel.gave_up:
                self._give_up(known)
                return
            time.sleep(LOOK_SECONDS if len(known) > 1 else LOOK_SECONDS / 4)

    def _choose(self, play: PlayRun) -> tuple[VmRef, ...]:
        """The play's VMs on all of its hosts; what is wrong goes to the run's problems."""
        there: list[Candidate] = []
        complete = True
        for target in play.hosts:
            try:
                there.extend(_candidates(play, target))
            except HvpsError as err:
                logger.info("host %s: %s", target.name, err)
                self._problems.append(HostProblem(target.name, err))
                complete = False
        names = ", ".join(target.name for target in play.hosts)
        chosen, problems = choose_vms(there, play.choice, names, play.limit, complete=complete)
        self._problems.extend(HostProblem(names, problem) for problem in problems)
        return tuple(VmRef(vm.host, vm.vm_id, vm.name) for vm in chosen)

    # -- workers ----------------------------------------------------------------------------------------

    def _work(self, jobs: queue.SimpleQueue[_Job]) -> None:
        while not self._cancel.requested:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                return
            self._run_job(job)

    def _run_job(self, job: _Job) -> None:
        for policy in job.play.tasks:
            if self._cancel.requested or (self._check and not isinstance(policy, BackupPolicy)):
                break
            job.task = _task_name(policy)
            job.started = datetime.now(UTC)
            self._observer.started(job.vm, job.task)
            try:
                result = self._run_task(job, policy)
            except HvpsError as err:
                result = self._failure(job, err)
            except Exception as err:
                logger.exception("VM %s, %s", job.vm.name, job.task)
                result = self._failure(job, InternalError(f"{type(err).__name__}: {err}"))
            self._take(result)
            if result.outcome is Outcome.FAILED:
                break
        job.finished = True

    def _run_task(self, job: _Job, policy: BackupPolicy | VerifyPolicy | RestorePolicy) -> TaskResult:
        repository = job.play.repository
        if isinstance(policy, VerifyPolicy):
            return verify_vm(repository, job.vm, policy, self._cancel, self._run_id)
        if isinstance(policy, RestorePolicy):
            return restore_vm(repository, job.vm, policy, self._observer, self._cancel)
        return self._back_up(job, policy)

    def _back_up(self, job: _Job, policy: BackupPolicy) -> TaskResult:
        """A backup on the host that has the VM; started again where the VM has moved in the midst of it."""
        vm_id = job.vm.vm_id
        assert vm_id is not None
        hosts = Hosts(job.play.hosts)
        warnings: tuple[str, ...] = ()
        for _ in range(MOST_MOVES):
            with hosts.connect_owner(vm_id, job.target.name) as host:
                around = BackupContext(
                    job.play.repository,
                    lambda: hosts.connect_owner(vm_id, job.target.name),
                    self._run_id,
                    self._observer,
                    self._cancel,
                    self._budget,
                    hosts.connect_to,
                    self._sharing,
                )
                job.backup = BackupVm(host, host.vms(vm_id)[0], policy, around)
                result = job.backup.check() if self._check else job.backup.run()
                # What the one before could not see to the end is worth knowing though this one ends well.
                warnings = tuple(dict.fromkeys((*warnings, *result.warnings)))
                result = replace(result, warnings=warnings)
                name = host.name
            if (
                self._check
                or result.point_id is not None
                or self._cancel.requested
                or not isinstance(result.error, HostError)
            ):
                break
            try:
                with hosts.connect_owner(vm_id, name) as owner:
                    if owner.name == name:
                        break
            except HvpsError:
                break
            self._observer.noted(job.vm, f"moved from {name} to {owner.name}: starting again there")
        return result

    def _failure(self, job: _Job, err: HvpsError) -> TaskResult:
        seconds = (datetime.now(UTC) - job.started).total_seconds()
        kind = BackupResult if job.task == "backup" else TaskResult
        return kind(vm=job.vm, task=job.task, started=job.started, seconds=seconds, error=err)

    def _take(self, result: TaskResult) -> None:
        with self._lock:
            self._results.append(result)
        self._observer.finished(result.vm, result)

    def _give_up(self, jobs: Sequence[_Job]) -> None:
        """A second signal: say for each VM under way what it may have left."""
        for job in jobs:
            if job.finished or not job.task:
                continue
            left = job.backup.left if job.backup is not None else ()
            self._take(
                BackupResult(
                    vm=job.vm,
                    task=job.task,
                    started=job.started,
                    seconds=(datetime.now(UTC) - job.started).total_seconds(),
                    error=self._cancel.error,
                    leftovers=left,
                )
            )


def _candidates(play: PlayRun, target: HostTarget) -> list[Candidate]:
    """VMs of a host; those whose newest point was made there when no task of the play needs the host."""
    if play.needs_hosts:
        with target.connect() as host:
            return [Candidate(vm.vm_id, vm.name, target.name, vm.state) for vm in host.vms()]
    newest = {point.vm_id: point for point in play.repository.catalog.points()}
    return [
        Candidate(point.vm_id, point.vm_name, target.name)
        for point in newest.values()
        if point.manifest.host.casefold() == target.name.casefold()
    ]


def _task_name(policy: BackupPolicy | VerifyPolicy | RestorePolicy) -> str:
    if isinstance(policy, BackupPolicy):
        return "backup"
    return "verify" if isinstance(policy, VerifyPolicy) else "restore"
