"""Runs the tasks of plays for the VMs of hosts, several VMs at a time; a failure concerns its VM only.

One worker thread runs all tasks of a VM, in order; tasks that are done once follow after those of VMs. The
thread that calls :meth:`Runner.run` only waits, so that it receives signals: after the first one the workers
stop and undo; after the second one it returns at once with what may be left. Worker threads are daemons and
end with the process.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hvpsbridge import stopping
from hvpsbridge.errors import HvpsError, InternalError, NothingToBackUp, as_error
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import EVERY_VM, VmRef
from hvpsbridge.tasks.finder import ChosenVm, VmFinder, known_vms
from hvpsbridge.tasks.hosts import Hosts
from hvpsbridge.tasks.jobs import JobQueue
from hvpsbridge.tasks.observer import Observer, ShieldedObserver
from hvpsbridge.tasks.places import Places, Writer
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.results import HostProblem, Outcome, RunResult, TaskResult
from hvpsbridge.tasks.task import Leftovers, PlayTask, Scope, Task, TaskContext, no_places
from hvpsbridge.tasks.transfer.limits import SharedLimits

logger = logging.getLogger(__name__)

# Of a job that is done once.
_NO_VM = ChosenVm(EVERY_VM, frozenset(), frozenset(), named=False)
# How often the waiting thread checks for signals.
LOOK_SECONDS = 0.2


@dataclass(slots=True)
class _Job:
    """Tasks of a play for one VM, or one that is done once, and the one that runs."""

    number: int
    play: PlayRun
    chosen: ChosenVm
    tasks: tuple[PlayTask[Any], ...]
    vms: tuple[VmRef, ...] = ()
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    task: Task[Any] | None = None
    leftovers: Leftovers = field(default_factory=Leftovers)
    finished: bool = False


class Runner:
    """One run.

    Args:
        run_id: appears in shells, marks, ledgers and logs.
        observer: receives events.
        cancel: stops the run.
        forks: maximum VMs at a time.
        check: only plan; change nothing, and skip tasks that cannot plan.
        budget: byte budget of all reads.
        shared: what all reads share.
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
        shared: SharedLimits | None = None,
    ) -> None:
        self._run_id = run_id
        self._observer = ShieldedObserver(observer)
        self._cancel = cancel
        self._forks = forks
        self._check = check
        self._budget = budget or ByteBudget()
        # By host, where there are several.
        self._shares: dict[str, ByteBudget] = {}
        self._shared = shared or SharedLimits()
        self._lock = threading.Lock()
        self._results: list[TaskResult] = []
        self._problems: list[HostProblem] = []
        self._places = Places()
        self._finder = VmFinder(cancel, self._problems.append)

    def run(self, plays: Sequence[PlayRun]) -> RunResult:
        """Run the plays one after the other. Errors are in the result, so that what was done is reported."""
        started = datetime.now(UTC)
        self._look_ahead(plays)
        for number, play in enumerate(plays):
            if self._cancel.requested:
                break
            try:
                self._run_play(number, play)
            except Exception as err:
                logger.exception("play %s", play.name)
                self._problems.append(HostProblem("", as_error(err)))
        if self._cancel.requested and not self._results:
            # No task ran that could have reported it.
            self._problems.append(HostProblem("", self._cancel.error))
        return RunResult(
            self._run_id,
            started,
            (datetime.now(UTC) - started).total_seconds(),
            tuple(self._results),
            tuple(self._problems),
        )

    # -- plays ------------------------------------------------------------------------------------------

    def _look_ahead(self, plays: Sequence[PlayRun]) -> None:
        """Note what the plays will write, as far as the repository knows their VMs.

        Otherwise a play would only see that another one wrote the same place when it was too late.
        """
        writing = [
            (number, play)
            for number, play in enumerate(plays)
            if any(item.task.places is not no_places for item in play.tasks)
        ]
        if self._check or len(writing) < 2:
            return
        for number, play in writing:
            try:
                known = known_vms(play)
            except Exception as err:  # noqa: BLE001 - the play itself reports it
                logger.info("play %s: %s", play.name, err)
                continue
            for vm in known:
                self._note_places(number, play, vm)

    def _note_places(self, number: int, play: PlayRun, vm: VmRef) -> None:
        for index, item in enumerate(play.tasks):
            try:
                places = item.task.places(vm, item.options, self._run_id)
            except Exception as err:  # noqa: BLE001 - the task itself reports it
                logger.info("VM %s, %s: %s", vm.name, item.task.name, err)
                continue
            self._places.note(Writer(number, index, vm.vm_id), vm, places)

    def _run_play(self, number: int, play: PlayRun) -> None:
        self._places.forget(number)
        if play.vm_tasks:
            found = self._finder.find(play)
            if not self._check:
                for chosen in found:
                    self._note_places(number, play, chosen.vm)
            self._run_jobs([_Job(number, play, chosen, play.vm_tasks) for chosen in found])
        vms: tuple[VmRef, ...] | None = None
        for item in play.once_tasks:
            if self._cancel.requested:
                return
            if item.task.scope is Scope.SELECTED:
                if vms is None:
                    vms = self._in_repository(play)
                if not vms:
                    continue
            self._run_jobs([_Job(number, play, _NO_VM, (item,), vms or ())])

    def _in_repository(self, play: PlayRun) -> tuple[VmRef, ...]:
        """Selected VMs that the repository has; problems are reported if no task for VMs did."""
        if play.vm_tasks:
            return known_vms(play)
        return tuple(chosen.vm for chosen in self._finder.find(play))

    def _run_jobs(self, known: Sequence[_Job]) -> None:
        jobs = JobQueue(known, lambda job: job.chosen.vm.host)
        workers = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._work, jobs),
                name=f"vm-{index}",
                daemon=True,
            )
            for index in range(min(self._forks, len(known)))
        ]
        workers = _started(workers)
        while any(worker.is_alive() for worker in workers):
            if self._cancel.gave_up:
                self._give_up(known)
                return
            time.sleep(LOOK_SECONDS if len(known) > 1 else LOOK_SECONDS / 4)
        if not self._cancel.requested:
            self._report_lost(known)

    # -- workers ----------------------------------------------------------------------------------------

    def _work(self, jobs: JobQueue[_Job]) -> None:
        while not self._cancel.requested and (job := jobs.take()) is not None:
            jobs.ended(job, self._run_job(job))

    def _run_job(self, job: _Job) -> HvpsError | None:
        """Run the tasks of a VM; the error of the last one."""
        error: HvpsError | None = None
        for index, item in enumerate(job.tasks):
            if self._cancel.requested or (self._check and not item.task.plans):
                break
            job.task = item.task
            job.started = datetime.now(UTC)
            self._observer.started(job.chosen.vm, item.task.name)
            try:
                if refusal := self._places.refusal(Writer(job.number, index, job.chosen.vm.vm_id)):
                    raise refusal
                result = self._run_task(job, item.task, item.options)
            except HvpsError as err:
                result = self._failure(job, err)
            except Exception as err:
                logger.exception("VM %s, %s", job.chosen.vm.name, item.task.name)
                result = self._failure(job, as_error(err))
            self._take(result)
            error = result.error
            if result.outcome is Outcome.FAILED or isinstance(result.error, NothingToBackUp):
                break
        job.finished = True
        return error

    def _run_task(self, job: _Job, task: Task[Any], options: object) -> TaskResult:
        context = TaskContext(
            vm=job.chosen.vm,
            repository=job.play.repository,
            run_id=self._run_id,
            observer=self._observer,
            cancel=self._cancel,
            hosts=Hosts(job.play.hosts, job.chosen.rivals, job.chosen.without, job.play.named),
            check=self._check,
            budget=self._budget_of(job),
            shared=self._shared,
            leftovers=job.leftovers,
            named=job.chosen.named,
            vms=job.vms,
        )
        with stopping.checked_by(self._cancel.check):
            return task.run(context, options)

    def _budget_of(self, job: _Job) -> ByteBudget:
        """The budget for reads of a VM; with several hosts a share, so that one cannot use it up."""
        if len(job.play.hosts) == 1:
            return self._budget
        with self._lock:
            return self._shares.setdefault(job.chosen.vm.host, ByteBudget(share_of=self._budget))

    def _failure(self, job: _Job, err: HvpsError, leftovers: tuple[str, ...] = ()) -> TaskResult:
        assert job.task is not None
        return job.task.result(
            vm=job.chosen.vm,
            task=job.task.name,
            started=job.started,
            seconds=(datetime.now(UTC) - job.started).total_seconds(),
            error=err,
            leftovers=leftovers,
        )

    def _take(self, result: TaskResult) -> None:
        with self._lock:
            self._results.append(result)
        self._observer.finished(result.vm, result)

    def _report_lost(self, jobs: Sequence[_Job]) -> None:
        """Report the VMs of workers that ended for whatever reason."""
        for job in jobs:
            if not job.finished:
                job.task = job.task or job.tasks[0].task
                self._take(self._failure(job, InternalError("its worker ended"), job.leftovers.lines))

    def _give_up(self, jobs: Sequence[_Job]) -> None:
        """After a second signal: report for each unfinished VM what it may have left."""
        for job in jobs:
            if not job.finished and job.task is not None:
                self._take(self._failure(job, self._cancel.error, job.leftovers.lines))


def _started(workers: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Start the workers, or as many as this machine allows.

    Raises:
        RuntimeError: it allows none.
    """
    started: list[threading.Thread] = []
    for worker in workers:
        try:
            worker.start()
        except RuntimeError as err:
            if not started:
                raise
            logger.warning("only %d VMs at a time: %s", len(started), err)
            break
        started.append(worker)
    return started
