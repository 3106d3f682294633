"""A Hyper-V host as typed operations, one short method each.

Rule: this is the only face of ``host`` that other packages use. Every method runs one script of the
contract, retried by its effect, and gives back values of ``contract.results``; answers that come in
pages are checked to cover what was asked before anybody sees them.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from uuid import UUID

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract import OPERATIONS, Effect, Operation
from hvpsbridge.contract.results import (
    CheckpointInfo,
    Consistency,
    DigestPage,
    DiskInfo,
    ExtentPage,
    FilePiece,
    FrozenDisk,
    HostInfo,
    JobInfo,
    MergeState,
    ReaderCheck,
    ReaderState,
    ReferencePointInfo,
    Removal,
    VmDefinition,
    VmInfo,
    VolumeInfo,
)
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import ProtocolViolation, SessionLost
from hvpsbridge.formats.extents import Extent, normalise, unpack_extents
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.binding import BindingError, bind_parameters, bind_result
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.session import IDLE_TIMEOUT_SECONDS, Session
from hvpsbridge.host.psrp.shells import HostShell
from hvpsbridge.host.reader import PipelineSource
from hvpsbridge.host.retry import by_effect, while_busy
from hvpsbridge.host.scripts import script_text

logger = logging.getLogger(__name__)

JOB_SECONDS = 1800
# Tries of one page of digests, each in a new shell.
DIGEST_ATTEMPTS = 3
# A shell that was idle for this long is asked something harmless before it is told to make something.
WAKE_SECONDS = IDLE_TIMEOUT_SECONDS / 4


class HyperVHost:
    """One host through one shell. Threads may share it; a lost shell is replaced by a new one.

    Attributes:
        name: what the host is called.
    """

    def __init__(self, connection: HostConnection, session: Session, run_id: UUID | None) -> None:
        self._connection = connection
        self._session = session
        self._run_id = run_id
        self._renewing = threading.Lock()
        self.name = connection.name

    @classmethod
    def connect(cls, connection: HostConnection, *, run_id: UUID | None = None) -> HyperVHost:
        """A session on the host.

        Args:
            connection: how to reach it.
            run_id: shows in the name of the shell on the host.

        Raises:
            HostUnreachable: nobody answers, or (HostBusy) no shell is opened in several tries.
            HostRefused: the account is refused.
            CertificateRejected: TLS verification failed.
        """
        return cls(connection, while_busy(lambda: Session.open(connection, run_id)), run_id)

    def new_shell(self) -> HyperVHost:
        """A further shell, which is a further process there, on the same host.

        Tried once: whoever reads a disk has a retry_limits of its own, which a cancel can end.

        Raises:
            HostError: as :meth:`connect`.
        """
        return HyperVHost(self._connection, Session.open(self._connection, self._run_id), self._run_id)

    def __enter__(self) -> HyperVHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the shell. Never raises."""
        self._session.close()

    @property
    def shell_id(self) -> str:
        """WinRM's id of the shell now in use; another one after a lost shell was replaced."""
        return self._session.shell_id

    def shells(self) -> tuple[HostShell, ...]:
        """Every shell that the host shows to this account, this one among them."""
        return self._session.shells()

    def end_shell(self, shell_id: str | UUID) -> bool:
        """End another shell of this account, and its process; false when it is gone already."""
        return self._session.end_shell(str(shell_id).upper())

    # -- what is there --------------------------------------------------------------------

    def host_info(self) -> HostInfo:
        """The host and the session's process on it."""
        info: HostInfo = self._one("Get-HvpsHost")
        return info

    def check_reader(self) -> ReaderCheck:
        """That the reader's C# compiles there and its native library answers."""
        check: ReaderCheck = self._one("Test-HvpsReader")
        return check

    def vms(self, vm_id: UUID | None = None) -> tuple[VmInfo, ...]:
        """All VMs, or the one of that id."""
        return self._many("Get-HvpsVm", VmId=vm_id)

    def disks(self, vm_id: UUID) -> tuple[DiskInfo, ...]:
        """The VM's disk drives."""
        return self._many("Get-HvpsDisk", VmId=vm_id)

    def volumes(self, vm_id: UUID) -> tuple[VolumeInfo, ...]:
        """Space on every volume that holds files of the VM."""
        return self._many("Get-HvpsVolume", VmId=vm_id)

    def definition(self, vm_id: UUID) -> VmDefinition:
        """Everything needed to build the VM anew, as JSON text."""
        definition: VmDefinition = self._one("Get-HvpsVmDefinition", VmId=vm_id)
        return definition

    def checkpoints(self, vm_id: UUID) -> tuple[CheckpointInfo, ...]:
        """All checkpoints of the VM, whoever made them."""
        return self._many("Get-HvpsCheckpoint", VmId=vm_id)

    def reference_points(self, vm_id: UUID) -> tuple[ReferencePointInfo, ...]:
        """All reference points of the VM, whoever made them."""
        return self._many("Get-HvpsReferencePoint", VmId=vm_id)

    def jobs(self, vm_id: UUID) -> tuple[JobInfo, ...]:
        """Unfinished WMI jobs that affect the VM."""
        return self._many("Get-HvpsJob", VmId=vm_id)

    def merge_state(self, vm_id: UUID) -> MergeState:
        """Whether disks of the VM are merging, and every file on its chains."""
        state: MergeState = self._one("Get-HvpsMerge", VmId=vm_id)
        return state

    # -- checkpoints and reference points --------------------------------------------------

    def create_checkpoint(
        self,
        vm_id: UUID,
        name: str,
        consistency: Consistency,
        *,
        ignore_disks: bool = False,
        job_seconds: int = JOB_SECONDS,
    ) -> CheckpointInfo:
        """A new recovery checkpoint named ``name``. Never retried: look with :meth:`checkpoints` first.

        Raises:
            ConsistencyNotReached: the guest could not be made application consistent.
            VmBusy: another snapshot operation, migration or backup holds the VM.
            SessionLost: it may or may not exist.
        """
        made: CheckpointInfo = self._one(
            "New-HvpsCheckpoint",
            VmId=vm_id,
            Name=name,
            Consistency=str(consistency),
            IgnoreDisks=ignore_disks,
            JobSeconds=job_seconds,
        )
        return made

    def convert(
        self, vm_id: UUID, checkpoint_id: UUID, *, job_seconds: int = JOB_SECONDS
    ) -> ReferencePointInfo:
        """The reference point that a checkpoint became; the checkpoint is gone. Never retried."""
        made: ReferencePointInfo = self._one(
            "ConvertTo-HvpsReferencePoint", VmId=vm_id, CheckpointId=checkpoint_id, JobSeconds=job_seconds
        )
        return made

    def remove_checkpoint(
        self, vm_id: UUID, checkpoint_id: UUID, *, job_seconds: int = JOB_SECONDS
    ) -> Removal:
        """Remove a checkpoint by id; its merge goes on in the background."""
        removal: Removal = self._one(
            "Remove-HvpsCheckpoint", VmId=vm_id, CheckpointId=checkpoint_id, JobSeconds=job_seconds
        )
        return removal

    def remove_reference_point(
        self, vm_id: UUID, instance_id: str, *, job_seconds: int = JOB_SECONDS
    ) -> Removal:
        """Destroy a reference point by its InstanceID."""
        removal: Removal = self._one(
            "Remove-HvpsReferencePoint", VmId=vm_id, InstanceId=instance_id, JobSeconds=job_seconds
        )
        return removal

    # -- frozen disks ---------------------------------------------------------------------

    def frozen_disks(self, vm_id: UUID, checkpoint_id: UUID) -> tuple[FrozenDisk, ...]:
        """The checkpoint's disks as read from their frozen handles."""
        return self._many("Get-HvpsFrozenDisk", VmId=vm_id, CheckpointId=checkpoint_id)

    def changes(self, path: str, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
        """What changed on a frozen disk since ``rct_id``: a sorted set of extents within the disk.

        Raises:
            TrackingUnusable: change tracking cannot answer for this id.
            ProtocolViolation: the answer stops half-way, or speaks of bytes that the disk has not.
        """
        found: list[Extent] = []
        position = 0
        while position < size_bytes:
            operation = OPERATIONS["Get-HvpsDiskChange"]
            start = position
            for page in self._many(
                operation.name,
                Path=path,
                RctId=rct_id,
                OffsetBytes=position,
                LengthBytes=size_bytes - position,
            ):
                position = self._page(operation, page, position, size_bytes, found)
            if position == start:
                raise self._violation(operation, f"no progress at byte {position} of {size_bytes}")
        return normalise(found, size_bytes)

    def allocation(self, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
        """What a frozen disk's files hold data for; the rest reads as zeros. A sorted set of extents.

        Args:
            chain: the frozen file and its parents, top first.
            size_bytes: of the disk.

        Raises:
            FormatUnsupported: an :class:`OperationFailed` with the id ``Hvps.FormatUnsupported``.
        """
        operation = OPERATIONS["Get-HvpsAllocation"]
        found: list[Extent] = []
        position = 0
        for page in self._many(operation.name, Chain=list(chain)):
            position = self._page(operation, page, position, size_bytes, found)
        if position != size_bytes:
            raise self._violation(operation, f"covers {position} of {size_bytes} bytes")
        return normalise(found, size_bytes)

    def digests(
        self, path: str, chunk_bytes: int, offset_bytes: int, length_bytes: int
    ) -> Iterator[DigestPage]:
        """SHA-256 of each chunk of a part of a frozen disk, in order, without gaps, as they are taken.

        A lost session is picked up at the chunk that is owed next.

        Args:
            path: the frozen file.
            chunk_bytes: chunk size of the grid.
            offset_bytes: a multiple of ``chunk_bytes``.
            length_bytes: up to a multiple of ``chunk_bytes`` or the disk's end.
        """
        operation = OPERATIONS["Get-HvpsDiskDigest"]
        following = offset_bytes // chunk_bytes
        stop = -(-(offset_bytes + length_bytes) // chunk_bytes)
        backoff = Backoff(0, 0, max_failures=DIGEST_ATTEMPTS)
        while following < stop:
            start = following * chunk_bytes
            pages = self._run(
                operation,
                Path=path,
                ChunkBytes=chunk_bytes,
                OffsetBytes=start,
                LengthBytes=offset_bytes + length_bytes - start,
            )
            try:
                for page in pages:
                    count, rest = divmod(len(page.digests), DIGEST_BYTES)
                    if page.first_chunk != following or rest or following + count > stop:
                        raise self._violation(
                            operation, f"{len(page.digests)} bytes of digests from chunk {page.first_chunk}"
                        )
                    following += count
                    backoff.reset()
                    yield page
            except SessionLost as err:
                backoff.failed(err)
                self._renew()
                continue
            if following < stop:
                raise self._violation(operation, f"digests end at chunk {following} of {stop}")

    def open_reader(self, path: str) -> BlockSource:
        """A reader pipeline of a frozen disk in this shell; see ``contract.stream``.

        Raises:
            SessionLost: the shell is gone and no new one could be had.
        """
        operation = OPERATIONS["Read-HvpsExtent"]
        return by_effect(
            operation.effect,
            lambda: PipelineSource(self._session, path, script_text(operation)),
            self._renew,
        )

    def close_readers(self, path: str | None = None) -> ReaderState:
        """Close the process's handle of a disk, or all of them, and say what is still attached."""
        state: ReaderState = self._one("Close-HvpsReader", Path=path)
        return state

    def configuration(self, vm_id: UUID, checkpoint_id: UUID) -> Iterator[FilePiece]:
        """The checkpoint's configuration files in pieces, each file's in order, digests checked."""
        operation = OPERATIONS["Read-HvpsConfiguration"]
        path, position, size = "", 0, 0
        for piece in self._run(operation, VmId=vm_id, CheckpointId=checkpoint_id):
            if position == size:
                path, position, size = piece.path, 0, piece.size_bytes
            data = piece.data or b""
            if (piece.path, piece.size_bytes, piece.offset_bytes) != (path, size, position):
                raise self._violation(operation, f"a piece of {piece.name} at {piece.offset_bytes}")
            if hashlib.sha256(data).hexdigest() != piece.sha256:
                raise self._violation(operation, f"digest of {piece.name} at {position} differs")
            position += len(data)
            if position > size:
                raise self._violation(operation, f"{piece.name} is longer than its {size} bytes")
            yield piece
        if position != size:
            raise self._violation(operation, f"{path} ends at byte {position} of {size}")

    # -- beneath --------------------------------------------------------------------------

    def _run(self, operation: Operation, **parameters: object) -> Iterator[Any]:
        values = bind_parameters(operation, parameters)
        logger.debug("%s on %s", operation.name, self.name)
        for item in self._session.run(
            operation.name, script_text(operation), values, operation.deadline_seconds
        ):
            try:
                yield bind_result(operation.result, item.type_names, item.properties)
            except BindingError as err:
                raise self._violation(operation, str(err)) from err

    def _many(self, name: str, **parameters: object) -> tuple[Any, ...]:
        operation = OPERATIONS[name]
        if operation.effect is Effect.CREATES and self._session.idle_seconds > WAKE_SECONDS:
            # The host may have given the idle shell up. Found out by a question, which can be repeated.
            self._many("Get-HvpsJob", VmId=parameters["VmId"])
        return by_effect(operation.effect, lambda: tuple(self._run(operation, **parameters)), self._renew)

    def _one(self, name: str, **parameters: object) -> Any:
        answer = self._many(name, **parameters)
        if len(answer) != 1:
            raise self._violation(OPERATIONS[name], f"{len(answer)} objects instead of one")
        return answer[0]

    def _page(
        self, operation: Operation, page: ExtentPage, position: int, size_bytes: int, found: list[Extent]
    ) -> int:
        """Take one page of extents; gives the byte from which the next one must speak."""
        end = position + page.processed_bytes
        if page.offset_bytes != position or end > size_bytes:
            raise self._violation(
                operation, f"a page from {page.offset_bytes} to {end}, due at {position} of {size_bytes}"
            )
        try:
            extents = unpack_extents(page.extents or b"")
        except ValueError as err:
            raise self._violation(operation, str(err)) from err
        for extent in extents:
            if extent.offset >= size_bytes:
                raise self._violation(operation, f"an extent at {extent.offset}, past {size_bytes}")
        found.extend(extents)
        return end

    def _renew(self) -> None:
        """A new shell in place of a lost one; whoever comes second finds it done."""
        with self._renewing:
            if not self._session.lost:
                return
            old = self._session
            logger.warning("%s: session lost, opening a new shell", self.name)
            self._session = Session.open(self._connection, self._run_id)
            old.close()
            # The old process may live on and hold a disk; it is told to go, and is never waited for.
            try:
                self._session.end_shell(old.shell_id)
            except SessionLost:
                logger.warning("%s: shell %s may still live", self.name, old.shell_id)

    def _violation(self, operation: Operation, what: str) -> ProtocolViolation:
        return ProtocolViolation(self.name, operation.name, what)
