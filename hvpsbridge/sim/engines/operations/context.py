"""The context of an operation of the builtin engine: the model, the host process and the input."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, Queue
from threading import Event
from typing import Any
from uuid import UUID

from hvpsbridge.sim.engines.failure import (
    Failure,
    failure,
    is_missing,
    is_not_found,
    of_disk,
    of_disk_call,
    of_job,
    of_refusal,
)
from hvpsbridge.sim.engines.readers import Readers
from hvpsbridge.sim.model import DiskError, DiskHandle, HyperVError, Model
from hvpsbridge.sim.model.call_faults import METHODS
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.errors import Win32
from hvpsbridge.sim.model.host_files import FileHandle
from hvpsbridge.sim.model.state import Drive, Job, JobKind, Vm
from hvpsbridge.sim.model.stored import Layer

# How often a waiting operation checks.
POLL_SECONDS = 0.02
# How long a query about a job is repeated.
PATIENCE_SECONDS = 3.0
# How often drives are listed before a file counts as missing (``Get-HvpsDriveChain``).
ROUNDS = 5
# How long drives are listed again while a file is busy.
BUSY_SECONDS = 5.0


class Stopped(Exception):
    """The client stopped the pipeline."""


@dataclass(slots=True)
class HostProcess:
    """The process that a shell pretends to be, with its readers."""

    process_id: int
    started: datetime
    readers: Readers
    # The Hyper-V module is imported once.
    imported: bool = False
    # Files that are open to write, by path in lower case.
    files: dict[str, FileHandle] = field(default_factory=dict)
    # Disks that are attached to be written, by path in lower case.
    disks: dict[str, DiskHandle] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriveChain:
    """A drive with its files, top first, or why they cannot be queried."""

    drive: Drive
    chain: tuple[Layer, ...] = ()
    problem: Failure | None = None


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

    @property
    def owner(self) -> str:
        """The process, as the model names it."""
        return f"pid:{self.process.process_id}"

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

    def wait(self, seconds: float) -> None:
        """Wait as a slow call does.

        Raises:
            Stopped: the client stopped the pipeline.
        """
        if self.stopping.wait(seconds):
            raise Stopped

    # -- calls of the script --------------------------------------------------------------------------

    def cmdlet(self, name: str, about: object = "") -> None:
        """The script calls a cmdlet.

        Raises:
            CallRefused: it fails.
        """
        self.model.calls.cmdlet(name, str(about), self.wait)

    def query(self, class_name: str, about: object = "", *, cmdlet: str = "Get-CimInstance") -> None:
        """The script asks for a WMI class.

        Raises:
            CallRefused: it fails.
        """
        self.model.calls.query(f"{cmdlet}:{class_name}", str(about), self.wait)

    def associated(self, class_name: str, about: object = "") -> None:
        """The script asks for associated instances of a class.

        Raises:
            CallRefused: it fails.
        """
        self.query(class_name, about, cmdlet="Get-CimAssociatedInstance")

    def method(self, name: str) -> None:
        """The script calls a static method.

        Raises:
            HyperVError: it is refused or cannot be called.
        """
        self.model.calls.method(name, pause=self.wait)

    def function(self, name: str, path: str) -> None:
        """The reader calls a function of virtdisk.dll or kernel32.dll.

        Raises:
            DiskError: it fails.
        """
        self.model.calls.function(name, path, self.wait)

    def import_module(self) -> None:
        """The script imports the Hyper-V module (``lib/HyperV.ps1``).

        Raises:
            CallRefused: it fails.
        """
        if not self.process.imported:
            self.cmdlet("Import-Module")
            self.process.imported = True

    def patiently(self, query: Callable[[], None]) -> None:
        """Repeat a query that fails (``Invoke-HvpsPatiently``).

        Raises:
            CallRefused: what it asks for is gone or denied, or it fails for too long.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return query()
            except CallRefused as err:
                denied = err.category == "PermissionDenied"
                if is_not_found(err) or denied or time.monotonic() > end:
                    raise
            self.pause()

    def vm(self, vm_id: UUID) -> Vm:
        """The VM with this id, from ``Get-VM`` (``Get-HvpsVmObject``).

        Raises:
            Failure: ``Hvps.VmNotFound``.
            CallRefused: the call fails.
        """
        self.import_module()
        try:
            self.cmdlet("Get-VM", vm_id)
        except CallRefused as err:
            if is_missing(err):
                raise failure("Hvps.VmNotFound", f"VM {vm_id} does not exist") from err
            raise
        return self._existing(vm_id)

    def wmi_vm(self, vm_id: UUID) -> Vm:
        """The VM with this id, from WMI (``Get-HvpsWmiVm``).

        Raises:
            Failure: ``Hvps.VmNotFound``.
            CallRefused: the call fails.
        """
        self.query("Msvm_ComputerSystem", vm_id)
        return self._existing(vm_id)

    def _existing(self, vm_id: UUID) -> Vm:
        try:
            return self.model.vms.get(vm_id, self.node)
        except HyperVError as err:
            raise failure("Hvps.VmNotFound", f"VM {vm_id} does not exist") from err

    def chain(self, number: int) -> tuple[Layer, ...]:
        """A file and its parents, top first, with ``Get-VHD`` for each (``Get-HvpsChain``).

        Raises:
            Failure: a file is missing, or a call fails.
        """
        try:
            members = self.model.disks.chain(number)
        except DiskError as err:
            raise of_disk(err) from err
        for member in members:
            try:
                self.cmdlet("Get-VHD", member.drive_path)
                if member.vm_path is not None:
                    raise of_disk(DiskError(Win32.FILE_NOT_FOUND, member.vm_path))
                self.model.disks.check_busy(member.number)
            except HyperVError as err:
                raise of_disk_call(err, member.path) from err
        return members

    def drive_chains(self, vm: Vm, busy_seconds: float | None = None) -> list[DriveChain]:
        """Drives with their files (``Get-HvpsDriveChain``): listed again while a file is missing or busy.

        Raises:
            CallRefused: the drives cannot be listed.
        """
        end = time.monotonic() + (BUSY_SECONDS if busy_seconds is None else busy_seconds)
        for turn in itertools.count(1):
            self.cmdlet("Get-VMHardDiskDrive", vm.vm_id)
            rows = [self._drive_chain(drive) for drive in self.model.disks.drives(vm.vm_id)]
            problems = [row.problem for row in rows if row.problem is not None]
            missing = any(problem.is_a("Hvps.FileNotFound") for problem in problems)
            busy = any(problem.is_a("Hvps.DiskBusy") for problem in problems)
            if not (missing and turn < ROUNDS) and not (busy and time.monotonic() < end):
                break
            self.pause()
        return rows

    def _drive_chain(self, drive: Drive) -> DriveChain:
        if drive.layer is None:
            return DriveChain(drive)
        try:
            return DriveChain(drive, self.chain(drive.layer))
        except Failure as err:
            return DriveChain(drive, problem=err)

    def run_job(
        self, what: str, method: str, about: object, start: Callable[[], Job], seconds: int
    ) -> Job | None:
        """Call a method of a WMI service that starts a job, and wait until it has succeeded.

        Returns the job; None if it was gone when it was looked at.

        Raises:
            Failure: it was refused, failed, or is not done after ``seconds``.
            CallRefused: the service, its method or the job cannot be asked.
        """
        job = self.call_method(what, method, about, start)
        at_once = job.done
        end = time.monotonic() + seconds
        while not at_once:
            try:
                self.patiently(lambda: self.query("Msvm_ConcreteJob", about))
            except CallRefused as err:
                if is_not_found(err):
                    return None
                raise
            if self._done(job):
                break
            if time.monotonic() > end:
                raise failure("Hvps.JobTimedOut", f"{what} did not end within {seconds} s: {job.job_id}")
            self.pause()
        if job.error_code:
            raise of_job(what, job.error_code, job.error_text)
        return job

    def run_method(
        self, what: str, method: str, about: object, act: Callable[[], None], seconds: int
    ) -> None:
        """Call a method of a WMI service that starts no job, unless a fault says otherwise.

        Raises:
            Failure: it was refused, or failed.
            CallRefused: the service or its method cannot be called.
        """
        nobody = UUID(int=0)
        kind = METHODS[method] or JobKind.ModifySettings
        done = Job(job_id=nobody, kind=kind, vm_id=nobody, started=0, ends=0, arguments={}, done=True)

        def start() -> Job:
            act()
            return done

        self.run_job(what, method, about, start, seconds)

    def call_method(self, what: str, method: str, about: object, start: Callable[[], Job]) -> Job:
        """Call a method of a WMI service that starts a job.

        Raises:
            Failure: it was refused.
            CallRefused: the service or its method cannot be called.
        """
        self.query(method.partition(".")[0])
        try:
            return self.model.calls.method(method, str(about), self.wait) or start()
        except CallRefused:
            raise
        except HyperVError as err:
            raise of_refusal(what, err) from err

    def _done(self, job: Job) -> bool:
        # Any call lets the model do what is due. The record remains valid after the job has disappeared.
        self.model.jobs.all(job.vm_id)
        return bool(job.done)


def answers(call: Callable[[], None]) -> bool:
    """Whether a call succeeds whose errors the script catches."""
    try:
        call()
    except HyperVError:
        return False
    return True


Operation = Callable[[Context, Mapping[str, Any]], Iterator[object]]


def utc(seconds: float) -> datetime:
    """A time of the model's clock."""
    return datetime.fromtimestamp(seconds, UTC)
