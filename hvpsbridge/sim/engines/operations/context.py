"""The context of an operation of the builtin engine: the model, the host process and the input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, Queue
from threading import Event
from typing import Any
from uuid import UUID

from hvpsbridge.sim.engines.failure import failure, of_job, of_refusal
from hvpsbridge.sim.engines.readers import Readers
from hvpsbridge.sim.model import HyperVError, Model
from hvpsbridge.sim.model.state import Job, Vm

# How often a waiting operation checks.
POLL_SECONDS = 0.02


class Stopped(Exception):
    """The client stopped the pipeline."""


@dataclass(slots=True)
class HostProcess:
    """The process that a shell pretends to be, with its readers."""

    process_id: int
    started: datetime
    readers: Readers


@dataclass(slots=True)
class Context:
    """One run of an operation.

    Attributes:
        model: the simulated world.
        node: name of the host; None for the first.
        process: the shell's process.
        stopping: set when the client stops the pipeline.
        inbox: input objects, then None at the end of input.
    """

    model: Model
    node: str | None
    process: HostProcess
    stopping: Event = field(default_factory=Event)
    inbox: Queue[Any] = field(default_factory=Queue)

    def check(self) -> None:
        """Check whether the client has stopped the pipeline.

        Raises:
            Stopped: it has.
        """
        if self.stopping.is_set():
            raise Stopped

    def pause(self) -> None:
        """Wait for ``POLL_SECONDS``.

        Raises:
            Stopped: the client stopped the pipeline.
        """
        if self.stopping.wait(POLL_SECONDS):
            raise Stopped

    def inputs(self) -> Iterator[Any]:
        """Input objects, until the client ends its input."""
        while True:
            self.check()
            try:
                item = self.inbox.get(timeout=POLL_SECONDS * 5)
            except Empty:
                continue
            if item is None:
                return
            yield item

    def vm(self, vm_id: UUID) -> Vm:
        """The VM with this id.

        Raises:
            Failure: ``Hvps.VmNotFound``.
        """
        try:
            return self.model.vms.get(vm_id, self.node)
        except HyperVError as err:
            raise failure("Hvps.VmNotFound", f"VM {vm_id} does not exist") from err

    def run_job(self, what: str, start: Callable[[], Job], seconds: int) -> Job:
        """Start a WMI job and wait until it has succeeded.

        Raises:
            Failure: it was refused, failed, or is not done after ``seconds``.
        """
        try:
            job = start()
        except HyperVError as err:
            raise of_refusal(what, err) from err
        end = time.monotonic() + seconds
        while not self._done(job):
            if time.monotonic() > end:
                raise failure("Hvps.JobTimedOut", f"{what} did not end within {seconds} s: {job.job_id}")
            self.pause()
        if job.error_code:
            raise of_job(what, job.error_code, job.error_text)
        return job

    def _done(self, job: Job) -> bool:
        # Any call lets the model do what is due. The record remains valid after the job has disappeared.
        self.model.jobs.all(job.vm_id)
        return bool(job.done)


Operation = Callable[[Context, Mapping[str, Any]], Iterator[object]]


def utc(seconds: float) -> datetime:
    """A time of the model's clock."""
    return datetime.fromtimestamp(seconds, UTC)
