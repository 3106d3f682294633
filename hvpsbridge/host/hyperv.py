"""A Hyper-V host as typed operations, one short method each.

This is what other packages use of ``host``. Each method runs a script, retried as its effect allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType
from uuid import UUID

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.readings import DigestPage, FilePiece, ReaderCheck, ReaderState
from hvpsbridge.contract.results import (
    CheckpointInfo,
    Consistency,
    DiskInfo,
    DiskTracking,
    FrozenDisk,
    HostInfo,
    JobInfo,
    MergeState,
    ReferencePointInfo,
    Removal,
    VmDefinition,
    VmInfo,
    VolumeInfo,
)
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import HostError
from hvpsbridge.formats.extents import Extent
from hvpsbridge.host import paged
from hvpsbridge.host.checks import HostChecks
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.opening import open_session
from hvpsbridge.host.psrp.shells import HostShell
from hvpsbridge.host.restoring import HostRestore
from hvpsbridge.host.retry import while_busy
from hvpsbridge.host.runner import OperationRunner

JOB_SECONDS = 1800


class HyperVHost:
    """A host through one shell. Thread-safe; a lost shell is replaced by a new one.

    Attributes:
        name: name of the host.
        checks: what it is asked to find out whether backups work, and why one failed.
        restoring: what makes files and VMs on it.
    """

    def __init__(self, runner: OperationRunner) -> None:
        self._runner = runner
        self.name = runner.connection.name
        self.checks = HostChecks(runner)
        self.restoring = HostRestore(runner)

    @classmethod
    def connect(cls, connection: HostConnection, *, run_id: UUID | None = None) -> HyperVHost:
        """Open a shell on a host.

        Args:
            connection: how to reach it.
            run_id: shows in the name of the shell on the host.

        Raises:
            HostUnreachable: the host does not answer, or (HostBusy) opens no shell in several tries.
            HostRefused: the login failed, or (EndpointDiffers) the JEA endpoint has other commands.
            CertificateRejected: TLS verification failed.
        """
        session = while_busy(lambda: open_session(connection, run_id))
        return cls(OperationRunner(connection, session, run_id))

    def new_shell(self) -> HyperVHost:
        """Open another shell, which is another process, on the same host.

        Tried once: callers that read a disk retry by their own limits, and can be cancelled.

        Raises:
            HostError: as :meth:`connect`.
        """
        connection, run_id = self._runner.connection, self._runner.run_id
        return HyperVHost(OperationRunner(connection, open_session(connection, run_id), run_id))

    def __enter__(self) -> HyperVHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the shell. Never raises."""
        self._runner.session.close()

    # -- shells -----------------------------------------------------------------------------

    @property
    def shell_id(self) -> str:
        """WinRM's id of the current shell; it changes when a lost shell is replaced."""
        return self._runner.session.shell_id

    def shells(self) -> tuple[HostShell, ...]:
        """Every shell of the host that this account can see, including this one."""
        return self._runner.session.shells()

    def end_shell(self, shell_id: str | UUID) -> bool:
        """End another shell of this account, and its process; false if it does not exist."""
        return self._runner.session.end_shell(str(shell_id).upper())

    # -- host and VMs -------------------------------------------------------------------------

    def host_info(self) -> HostInfo:
        """The host, and the process of the shell."""
        return self._runner.one(HostInfo, "Get-HvpsHost")

    def check_reader(self) -> ReaderCheck:
        """Compile the reader on the host and call its native library."""
        return self._runner.one(ReaderCheck, "Test-HvpsReader")

    def list_vms(self, *, read_events: bool = False) -> tuple[tuple[VmInfo, ...], tuple[HostError, ...]]:
        """All VMs that can be read, and an error for what cannot: a VM, or the rest of the list.

        Args:
            read_events: read the event log, too.
        """
        operation = OPERATIONS["Get-HvpsVm"]
        listed = self._runner.each(operation.name, ReadEvents=read_events)
        vms = [vm for vm in listed if isinstance(vm, VmInfo)]
        problems = [err for err in listed if isinstance(err, HostError)]
        count = Counter(vm.vm_id for vm in vms)
        again = [vm_id for vm_id, times in count.items() if times > 1]
        problems += [self._runner.violation(operation, f"VM {vm_id} is listed twice") for vm_id in again]
        return tuple(vm for vm in vms if vm.vm_id not in again), tuple(problems)

    def vm(self, vm_id: UUID, *, read_events: bool = False) -> VmInfo:
        """The VM with that id.

        Args:
            vm_id: the id.
            read_events: read the event log, too.

        Raises:
            VmNotFound: the host does not list it.
            ProtocolViolation: the answer is not this VM.
        """
        return self._runner.one(VmInfo, "Get-HvpsVm", VmId=vm_id, ReadEvents=read_events)

    def disks(self, vm_id: UUID) -> tuple[DiskInfo, ...]:
        """The VM's disk drives.

        Raises:
            ProtocolViolation: two drives are in one slot.
        """
        return self._runner.many("Get-HvpsDisk", VmId=vm_id)

    def volumes(self, vm_id: UUID) -> tuple[VolumeInfo, ...]:
        """Space on every volume that has files of the VM."""
        return self._runner.many("Get-HvpsVolume", VmId=vm_id)

    def definition(self, vm_id: UUID) -> VmDefinition:
        """Everything needed to create the VM again, as JSON text."""
        return self._runner.one(VmDefinition, "Get-HvpsVmDefinition", VmId=vm_id)

    def checkpoints(self, vm_id: UUID) -> tuple[CheckpointInfo, ...]:
        """All checkpoints of the VM, those of other products included."""
        return self._runner.many("Get-HvpsCheckpoint", VmId=vm_id)

    def reference_points(self, vm_id: UUID) -> tuple[ReferencePointInfo, ...]:
        """All reference points of the VM, those of other products included."""
        return self._runner.many("Get-HvpsReferencePoint", VmId=vm_id)

    def jobs(self, vm_id: UUID) -> tuple[JobInfo, ...]:
        """Unfinished WMI jobs that affect the VM."""
        return self._runner.many("Get-HvpsJob", VmId=vm_id)

    def merge_state(self, vm_id: UUID) -> MergeState:
        """Whether disks of the VM are merging, and every file on its chains."""
        return self._runner.one(MergeState, "Get-HvpsMerge", VmId=vm_id)

    # -- checkpoints and reference points --------------------------------------------------

    def create_checkpoint(
        self,
        vm_id: UUID,
        name: str,
        consistency: Consistency,
        *,
        existing: Iterable[UUID] = (),
        ignore_disks: bool = False,
        job_seconds: int = JOB_SECONDS,
    ) -> CheckpointInfo:
        """Create a recovery checkpoint named ``name``. Never retried: look with :meth:`checkpoints` first.

        A host may refuse the name. Then the result has another one, and ``name_error`` says why.

        Args:
            vm_id: the VM.
            name: the checkpoint's name.
            consistency: application or crash.
            existing: ids of checkpoints that are there already; none of them is taken for the new one.
            ignore_disks: leave out disks that cannot be checkpointed.
            job_seconds: how long to wait for the host's job.

        Raises:
            ConsistencyNotReached: the guest could not be made application consistent.
            VmBusy: another snapshot operation, migration or backup holds the VM.
            SessionLost: the checkpoint may or may not exist.
            ProtocolViolation: the answer is about another checkpoint than the new one.
        """
        created: CheckpointInfo = self._runner.new(
            "New-HvpsCheckpoint",
            lambda made: made.checkpoint_id,
            existing,
            VmId=vm_id,
            Name=name,
            Consistency=str(consistency),
            IgnoreDisks=ignore_disks,
            JobSeconds=job_seconds,
        )
        return created

    def convert(
        self,
        vm_id: UUID,
        checkpoint_id: UUID,
        *,
        rct_ids: Iterable[str] = (),
        existing: Iterable[str] = (),
        job_seconds: int = JOB_SECONDS,
    ) -> ReferencePointInfo:
        """Convert a checkpoint to a reference point; the checkpoint is gone afterwards. Never retried.

        Args:
            vm_id: the VM.
            checkpoint_id: the checkpoint.
            rct_ids: ids that the reference point must have. If it lacks one, the host destroys it at once.
            existing: ``InstanceID`` of reference points that are there already.
            job_seconds: how long to wait for the host's job.

        Raises:
            ProtocolViolation: the answer is about a reference point that was there already.
        """
        created: ReferencePointInfo = self._runner.new(
            "ConvertTo-HvpsReferencePoint",
            lambda made: made.instance_id,
            existing,
            VmId=vm_id,
            CheckpointId=checkpoint_id,
            RctIds=tuple(rct_ids) or None,
            JobSeconds=job_seconds,
        )
        return created

    def remove_checkpoint(
        self, vm_id: UUID, checkpoint_id: UUID, name: str, *, job_seconds: int = JOB_SECONDS
    ) -> Removal:
        """Remove a recovery checkpoint; its merge continues in the background.

        Args:
            vm_id: the VM.
            checkpoint_id: the checkpoint.
            name: its name. The host removes no checkpoint of another name or kind.
            job_seconds: how long to wait for the host's job.
        """
        return self._runner.one(
            Removal,
            "Remove-HvpsCheckpoint",
            VmId=vm_id,
            CheckpointId=checkpoint_id,
            Name=name,
            JobSeconds=job_seconds,
        )

    def remove_reference_point(
        self, vm_id: UUID, instance_id: str, rct_ids: Iterable[str], *, job_seconds: int = JOB_SECONDS
    ) -> Removal:
        """Destroy a reference point.

        Args:
            vm_id: the VM.
            instance_id: its ``InstanceID``.
            rct_ids: its RCT ids. The host destroys no reference point that lacks one of them.
            job_seconds: how long to wait for the host's job.
        """
        return self._runner.one(
            Removal,
            "Remove-HvpsReferencePoint",
            VmId=vm_id,
            InstanceId=instance_id,
            RctIds=tuple(rct_ids) or None,
            JobSeconds=job_seconds,
        )

    # -- frozen disks ---------------------------------------------------------------------

    def frozen_disks(self, vm_id: UUID, checkpoint_id: UUID) -> tuple[FrozenDisk, ...]:
        """The checkpoint's disks.

        Raises:
            ProtocolViolation: two disks are in one slot.
        """
        return self._runner.many("Get-HvpsFrozenDisk", VmId=vm_id, CheckpointId=checkpoint_id)

    def tracking(self, path: str) -> DiskTracking:
        """Size and change tracking of a frozen disk; attaches the disk in this shell's process.

        Raises:
            DiskBusy: another process has attached it.
            DiskUnreadable: it cannot be opened.
        """
        return self._runner.one(DiskTracking, "Get-HvpsDiskTracking", Path=path)

    def changes(self, path: str, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
        """What changed on a frozen disk since ``rct_id``: a sorted set of extents within the disk.

        Raises:
            TrackingUnusable: change tracking cannot answer for this id.
            ProtocolViolation: the answer is incomplete, or has bytes beyond the disk.
        """
        return paged.changes(self._runner, path, rct_id, size_bytes)

    def allocation(self, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
        """What the files of a frozen disk hold data for; the rest reads as zeros. A sorted set of extents.

        Args:
            chain: the frozen file and its parents, top first.
            size_bytes: size of the disk.

        Raises:
            OperationFailed: with the id ``Hvps.FormatUnsupported`` if a file cannot be parsed.
        """
        return paged.allocation(self._runner, chain, size_bytes)

    def digests(
        self, path: str, chunk_bytes: int, offset_bytes: int, length_bytes: int
    ) -> Iterator[DigestPage]:
        """SHA-256 of each chunk of a part of a frozen disk, in order and without gaps, as they are computed.

        After a lost session it continues with the next chunk.

        Args:
            path: the frozen file.
            chunk_bytes: chunk size of the grid.
            offset_bytes: a multiple of ``chunk_bytes``.
            length_bytes: up to a multiple of ``chunk_bytes``, or to the end of the disk.
        """
        return paged.digests(self._runner, path, chunk_bytes, offset_bytes, length_bytes)

    def open_reader(self, path: str) -> BlockSource:
        """A reader pipeline of a frozen disk in this shell; see ``contract.stream``.

        Raises:
            SessionLost: the shell is gone and a new one could not be opened.
        """
        return self._runner.open_reader(path)

    def close_readers(self, path: str | None = None) -> ReaderState:
        """Close the process's handle of a disk, or of all disks; returns which are still attached."""
        return self._runner.one(ReaderState, "Close-HvpsReader", Path=path)

    def configuration(self, vm_id: UUID, checkpoint_id: UUID) -> Iterator[FilePiece]:
        """Pieces of the checkpoint's configuration files, those of each file in order, digests verified."""
        return paged.configuration(self._runner, vm_id, checkpoint_id)
