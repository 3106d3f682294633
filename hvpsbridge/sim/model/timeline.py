"""Access to the world at the current time: jobs, merges and migrations end when they are due.

Nothing here runs in a thread. Whatever takes time is due at some time, and :meth:`Timeline.now` does what
is due before it lets a caller see the world. So a merge ends exactly when a caller could first notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from hvpsbridge.sim.model.core import ADMIN_LOG, Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.lifecycle import Lifecycle
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.planning import PLANNED_JOBS, Planning
from hvpsbridge.sim.model.roles import Roles
from hvpsbridge.sim.model.saving import Saver
from hvpsbridge.sim.model.state import Job, JobKind, Vm


class Timeline:
    """Lets one thread at a time at the world, as of now. Methods other than the two context managers need
    one of them to be entered."""

    def __init__(self, core: Core, merges: Merges, lifecycle: Lifecycle, roles: Roles, saver: Saver) -> None:
        self._core = core
        self._planning = Planning(core)
        self._merges = merges
        self._lifecycle = lifecycle
        self._roles = roles
        self._saver = saver
        self._holds = 0

    @contextmanager
    def now(self) -> Iterator[None]:
        """Take the lock and do what is due; save afterwards if that is on."""
        with self._core.lock:
            if not self._holds:
                self.advance()
            yield
            self._saver.changed()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the world as it is, so that several questions are answered as of one moment.

        Nothing that is due happens meanwhile: do not wait for a job inside.
        """
        with self.now():
            self._holds += 1
            try:
                yield
            finally:
                self._holds -= 1

    @property
    def held(self) -> bool:
        """Whether :meth:`hold` is in effect."""
        return self._holds > 0

    def advance(self) -> None:
        """Do everything that is due by now, in the order in which it became due."""
        core, world = self._core, self._core.world
        now = core.clock.now()
        while True:
            jobs = [job for job in world.jobs.values() if not job.done and job.ends <= now]
            merges = [m for m in world.merges.values() if m.ends is not None and m.ends <= now]
            job = min(jobs, key=lambda job: job.ends, default=None)
            merge = min(merges, key=lambda merge: (merge.ends or 0.0, merge.child), default=None)
            if job is not None and (merge is None or job.ends <= (merge.ends or 0.0)):
                core.time = job.ends
                self._finish(job)
            elif merge is not None:
                core.time = merge.ends or now
                self._merges.finish(merge)
            else:
                break
        core.time = now
        for vm in world.vms.values():
            if vm.migrating_to is not None and (vm.migrating_until or 0.0) <= now:
                self._lifecycle.arrive(vm, vm.migrating_to)
        self._roles.advance(now)
        for job in [job for job in world.jobs.values() if (job.vanishes or now + 1) <= now]:
            del world.jobs[job.job_id]

    def start(self, kind: JobKind, vm: Vm, **arguments: str) -> Job:
        """Start a job; it does its work when its time is up, or at once with knob ``jobs_at_once``."""
        return self.start_about(kind, vm.vm_id, **arguments)

    def start_about(self, kind: JobKind, vm_id: UUID, **arguments: str) -> Job:
        """As :meth:`start`, about a VM, a planned one, or one that is still to be made."""
        core = self._core
        now = core.time
        job = Job(
            job_id=core.fresh_id(),
            kind=kind,
            vm_id=vm_id,
            started=now,
            ends=now + core.knobs.job_seconds,
            arguments=arguments,
        )
        core.world.jobs[job.job_id] = job
        if core.knobs.jobs_at_once:
            job.ends = now
            self._finish(job)
        return job

    def running_job(self, vm: Vm) -> Job | None:
        """The VM's unfinished job, if there is one."""
        jobs = self._core.world.jobs.values()
        return next((job for job in jobs if job.vm_id == vm.vm_id and not job.done), None)

    def check_ready(self, vm: Vm) -> None:
        """Refuse if the VM has an unfinished job or is being migrated.

        Raises:
            HyperVError: 32775.
        """
        if self.running_job(vm) is not None or vm.migrating_until is not None:
            raise HyperVError(Wmi.INVALID_STATE, self._core.text("busy"))

    def _finish(self, job: Job) -> None:
        core = self._core
        vm = core.world.vms.get(job.vm_id)
        try:
            if job.kind in PLANNED_JOBS:
                self._planning.perform(job)
            elif vm is None:
                raise HyperVError(Wmi.NOT_FOUND, core.text("not_found"))
            else:
                self._lifecycle.perform(job, vm)
        except HyperVError as err:
            job.error_code, job.error_text = err.code, err.message
            if vm is not None:
                core.log(ADMIN_LOG, 18012, vm, err.message)
        job.done = True
        job.vanishes = core.time + (0.0 if core.knobs.job_vanishes else core.knobs.job_lifetime_seconds)
