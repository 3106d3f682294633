"""WMI jobs."""

from __future__ import annotations

import time
from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.state import Job, JobState
from hvpsbridge.sim.model.timeline import Timeline


class Jobs:
    """The jobs of a world. A done job disappears after a time; its record remains valid for its holder."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def all(self, vm_id: UUID | None = None, *, unfinished: bool = False) -> tuple[Job, ...]:
        """Jobs that have not disappeared yet, of a VM or of all VMs."""
        with self._timeline.now():
            return tuple(
                job
                for job in self._core.world.jobs.values()
                if (vm_id is None or job.vm_id == vm_id) and not (unfinished and job.done)
            )

    def get(self, job_id: UUID) -> Job:
        """One job.

        Raises:
            HyperVError: it has disappeared.
        """
        with self._timeline.now():
            found = self._core.world.jobs.get(job_id)
            if found is None:
                raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
            return found

    def progress(self, job: Job) -> tuple[JobState, int]:
        """``JobState`` and ``PercentComplete``: New, Starting, Running, then Completed or Exception."""
        with self._timeline.now():
            if job.done:
                good = JobState.CompletedWithWarnings if job.warned else JobState.Completed
                return (JobState.Exception if job.error_code else good), 100
            share = (self._core.clock.now() - job.started) / max(job.ends - job.started, 1e-9)
            state = JobState.New if share < 0.1 else JobState.Starting if share < 0.3 else JobState.Running
            return state, int(share * 100)

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """Block until the job is done, well or not, and give it back.

        Raises:
            TimeoutError: it is not done within ``seconds``.
        """
        end = time.monotonic() + seconds
        while True:
            with self._timeline.now():
                if job.done:
                    return job
            if time.monotonic() > end:
                raise TimeoutError(f"job {job.job_id} is not done after {seconds} s")
            time.sleep(min(0.02, self._core.knobs.job_seconds))

    def finish_all(self, vm_id: UUID) -> None:
        """Finish the VM's jobs and its merges, failed ones included, now, whatever the knobs say."""
        with self._timeline.now():
            core = self._core
            for job in core.world.jobs.values():
                if job.vm_id == vm_id and not job.done:
                    job.ends = min(job.ends, core.time)
            for merge in core.world.merges.values():
                if merge.vm_id == vm_id:
                    merge.ends = core.time
            self._timeline.advance()
