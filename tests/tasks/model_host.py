"""``HyperVHost`` on the simulator's model without any wire between: the same methods, called directly.

For tests that need thousands of backups. What travels over PSRP is tested elsewhere; here every block is
still made and taken in wire form, so that nothing of the receiver is left out.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID
from weakref import WeakKeyDictionary

from hvpsbridge import errors
from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    CheckpointPolicy,
    Consistency,
    ControllerType,
    DigestPage,
    DiskFormat,
    DiskInfo,
    DiskKind,
    FilePiece,
    FrozenDisk,
    HostInfo,
    JobInfo,
    MergeState,
    ReaderCheck,
    ReaderState,
    ReferencePointInfo,
    ReferencePointKind,
    Removal,
    ReplicationMode,
    VmDefinition,
    VmInfo,
    VmState,
    VolumeInfo,
)
from hvpsbridge.formats.extents import Extent, normalise, split
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import ChunkDigest, Request, encode_block
from hvpsbridge.host.psrp.shells import HostShell
from hvpsbridge.sim.model import DiskError, HyperVError, Model
from hvpsbridge.sim.model import state as sim
from hvpsbridge.sim.model.errors import Win32, Wmi

PIECE_BYTES = 64 * 1024
OUT_OF_TRACKING = {Win32.VHD_INVALID_TRACKING_ID, Win32.VHD_TRACKING_DISABLED, Win32.VHD_TRACKING_MISSING}
STATES = {
    sim.VMState.Running: VmState.RUNNING,
    sim.VMState.Off: VmState.OFF,
    sim.VMState.Saved: VmState.SAVED,
    sim.VMState.Paused: VmState.PAUSED,
    sim.VMState.Starting: VmState.STARTING,
    sim.VMState.Stopping: VmState.STOPPING,
    sim.VMState.Saving: VmState.SAVING,
}
KINDS = {
    sim.SnapshotType.Standard: CheckpointKind.STANDARD,
    sim.SnapshotType.Recovery: CheckpointKind.RECOVERY,
}


# Shells live on at the host when whoever opened them dies; those of all nodes of a world are one list here.
_SHELLS: WeakKeyDictionary[Model, list[HostShell]] = WeakKeyDictionary()


def shells_of(model: Model) -> list[HostShell]:
    return _SHELLS.setdefault(model, [])


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class ModelHost:
    """One node of a model, through one pretended shell.

    ``before`` is called with each operation's name and may raise; that is how tests cut the wire.
    ``shows_late`` lists a checkpoint only when the model's knob ``visibility_seconds`` lets it be seen.
    """

    shows_late = False

    def __init__(
        self, model: Model, node: str | None = None, before: Callable[[str], None] | None = None
    ) -> None:
        self.model = model
        self.node = model.nodes.get(node).name
        self._booted = model.nodes.get(node).booted
        self.name = self.node
        self.shell_id = str(uuid.uuid4()).upper()
        self._before = before or (lambda name: None)
        self._handles: dict[str, object] = {}
        self._closed = False
        shells_of(model).append(HostShell(self.shell_id, "hvps", "backup", 0))

    def new_shell(self) -> ModelHost:
        self._ask("open shell")
        return ModelHost(self.model, self.node, self._before)

    def __enter__(self) -> ModelHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._end(self.shell_id)

    def _end(self, shell_id: str) -> bool:
        self.model.driver.close_owner(shell_id)
        shells = shells_of(self.model)
        found = [shell for shell in shells if shell.shell_id == shell_id]
        for shell in found:
            shells.remove(shell)
        return bool(found)

    def shells(self) -> tuple[HostShell, ...]:
        self._ask("list shells")
        return tuple(shells_of(self.model))

    def end_shell(self, shell_id: str | UUID) -> bool:
        self._ask("end shell")
        return self._end(str(shell_id))

    def _ask(self, name: str) -> None:
        if self._closed:
            raise errors.SessionLost(self.name, name, "the shell is closed")
        if not self.model.nodes.get(self.node).alive:
            raise errors.HostUnreachable(self.name, "the node is down")
        if self.model.nodes.get(self.node).booted != self._booted:
            raise errors.SessionLost(self.name, name, "the shell went with the power")
        self._before(name)

    def _failed(self, operation: str, err: HyperVError | DiskError) -> errors.HvpsError:
        kind: type[errors.OperationFailed] = errors.OperationFailed
        error_id = "Hvps.Unexpected"
        if isinstance(err, DiskError):
            kind, error_id = errors.DiskUnreadable, "Hvps.DiskUnreadable"
            if err.code in OUT_OF_TRACKING:
                kind, error_id = errors.TrackingUnusable, "Hvps.TrackingUnusable"
            elif err.code in (Win32.VHD_ALREADY_OWNED, Win32.SHARING_VIOLATION):
                kind, error_id = errors.DiskBusy, "Hvps.DiskBusy"
        elif err.code in (Wmi.IN_USE, Wmi.INVALID_STATE):
            kind, error_id = errors.VmBusy, "Hvps.VmBusy"
        elif "find a virtual machine" in err.message:
            kind, error_id = errors.VmNotFound, "Hvps.VmNotFound"
        return kind(self.name, operation, error_id, "NotSpecified", err.code, str(err))

    def _vm(self, vm_id: UUID, operation: str) -> sim.Vm:
        self._ask(operation)
        try:
            return self.model.vms.get(vm_id, self.node)
        except HyperVError as err:
            raise errors.VmNotFound(
                self.name, operation, "Hvps.VmNotFound", "InvalidArgument", err.code, str(err)
            ) from err

    # -- looking ----------------------------------------------------------------------------------------

    def host_info(self) -> HostInfo:
        self._ask("Get-HvpsHost")
        node = self.model.nodes.get(self.node)
        now = utc(self.model.clock.now())
        return HostInfo(
            node.name,
            node.fqdn,
            node.os_version,
            node.os_build,
            "5.1.20348.1",
            "FullLanguage",
            True,
            True,
            "en-US",
            "2.0.0.0",
            node.supported_vm_versions,
            node.logical_processors,
            node.memory_bytes,
            node.cluster,
            now,
            utc(node.booted),
            4711,
            now,
        )

    def check_reader(self) -> ReaderCheck:
        self._ask("Test-HvpsReader")
        return ReaderCheck(True, 0.0)

    def vms(self, vm_id: UUID | None = None) -> tuple[VmInfo, ...]:
        if vm_id is not None:
            return (self._info(self._vm(vm_id, "Get-HvpsVm")),)
        self._ask("Get-HvpsVm")
        return tuple(self._info(vm) for vm in self.model.vms.all(self.node))

    def _info(self, vm: sim.Vm) -> VmInfo:
        return VmInfo(
            vm.vm_id,
            vm.name,
            STATES.get(vm.state, VmState.OTHER),
            self.model.vms.status(vm.vm_id),
            vm.generation,
            vm.version,
            CheckpointPolicy.DISABLED
            if vm.checkpoint_type is sim.CheckpointType.Disabled
            else CheckpointPolicy.PRODUCTION,
            vm.automatic_checkpoints,
            vm.parent_checkpoint,
            ReplicationMode(
                vm.replication_mode.name.lower().rstrip("_").replace("testreplica", "test_replica")
            ),
            vm.clustered,
            vm.shielded,
            vm.tpm_enabled,
            vm.merge_enabled,
            vm.commit_fork_events,
            vm.folder,
            vm.folder,
            0 if vm.started is None else int(self.model.clock.now() - vm.started) + 1,
            vm.processor_count,
            vm.memory_bytes,
        )

    def disks(self, vm_id: UUID) -> tuple[DiskInfo, ...]:
        vm = self._vm(vm_id, "Get-HvpsDisk")
        return tuple(self._disk(vm, drive) for drive in self.model.disks.drives(vm_id))

    def _disk(self, vm: sim.Vm, drive: sim.Drive) -> DiskInfo:
        where = (
            ControllerType(drive.slot.controller_type.name.lower()),
            drive.slot.controller_number,
            drive.slot.controller_location,
        )
        if drive.layer is None:
            return DiskInfo(
                vm.vm_id, None, *where, None, (), drive.pass_through_number is not None, False,
                DiskFormat.UNKNOWN, DiskKind.UNKNOWN, 0, 0, 0, 0, 0, None, None,
            )  # fmt: skip
        chain = self.model.disks.chain(drive.layer)
        top = chain[0]
        return DiskInfo(
            vm.vm_id,
            vm.instance_id(drive.slot),
            *where,
            top.path,
            tuple(layer.path for layer in chain),
            False,
            drive.shared,
            DiskFormat(top.format.name.lower()),
            DiskKind(top.kind.name.lower()),
            top.size_bytes,
            self.model.disks.file_bytes(top.number),
            top.logical_sector_bytes,
            top.physical_sector_bytes,
            top.block_bytes,
            top.disk_id,
            None,
        )

    def volumes(self, vm_id: UUID) -> tuple[VolumeInfo, ...]:
        self._vm(vm_id, "Get-HvpsVolume")
        return tuple(
            VolumeInfo(volume.root, self.model.volumes.free_bytes(volume.root), volume.total_bytes)
            for volume in self.model.volumes.all(vm_id)
        )

    def definition(self, vm_id: UUID) -> VmDefinition:
        vm = self._vm(vm_id, "Get-HvpsVmDefinition")
        return VmDefinition(vm_id, json.dumps({"name": vm.name}))

    def checkpoints(self, vm_id: UUID) -> tuple[CheckpointInfo, ...]:
        self._vm(vm_id, "Get-HvpsCheckpoint")
        late = self.shows_late
        return tuple(self._checkpoint(point) for point in self.model.checkpoints.all(vm_id, hidden=not late))

    def _checkpoint(self, point: sim.Checkpoint) -> CheckpointInfo:
        return CheckpointInfo(
            point.vm_id,
            point.checkpoint_id,
            point.name,
            KINDS.get(point.kind, CheckpointKind.OTHER),
            utc(point.created),
            point.parent,
            tuple(self.model.disks.layer(number).path for number in point.disks.values()),
        )

    def reference_points(self, vm_id: UUID) -> tuple[ReferencePointInfo, ...]:
        self._vm(vm_id, "Get-HvpsReferencePoint")
        return tuple(map(self._reference, self.model.reference_points.all(vm_id)))

    def _reference(self, point: sim.ReferencePoint) -> ReferencePointInfo:
        return ReferencePointInfo(
            point.vm_id,
            point.instance_id,
            ReferencePointKind.RCT,
            Consistency(point.consistency.name.lower()),
            tuple(point.disks),
            tuple(point.rct_ids),
        )

    def jobs(self, vm_id: UUID) -> tuple[JobInfo, ...]:
        self._vm(vm_id, "Get-HvpsJob")
        return tuple(
            JobInfo(job.vm_id, str(job.job_id), int(job.kind), 4, 50, job.kind.name)
            for job in self.model.jobs.all(vm_id, unfinished=True)
            if job.kind is not sim.JobKind.MergeDisks
        )

    def merge_state(self, vm_id: UUID) -> MergeState:
        self._vm(vm_id, "Get-HvpsMerge")
        status = self.model.vms.status(vm_id)
        paths = tuple(
            layer.path
            for drive in self.model.disks.drives(vm_id)
            if drive.layer is not None
            for layer in self.model.disks.chain(drive.layer)
        )
        return MergeState(vm_id, bool(set(status) & {32768, 32770, 32772, 32776}), status, paths)

    # -- changing ---------------------------------------------------------------------------------------

    def _job(self, operation: str, start: Callable[[], sim.Job]) -> sim.Job:
        try:
            job = self.model.jobs.wait(start())
        except HyperVError as err:
            raise self._failed(operation, err) from err
        if job.error_code:
            kind = errors.CommitForkFailed if "80048102" in job.error_text.upper() else errors.OperationFailed
            raise kind(self.name, operation, "Hvps.JobFailed", "NotSpecified", job.error_code, job.error_text)
        return job

    def create_checkpoint(
        self,
        vm_id: UUID,
        name: str,
        consistency: Consistency,
        *,
        ignore_disks: bool = False,
        job_seconds: int = 0,
    ) -> CheckpointInfo:
        self._vm(vm_id, "New-HvpsCheckpoint")
        level = (
            sim.Consistency.Application if consistency is Consistency.APPLICATION else sim.Consistency.Crash
        )
        try:
            job = self._job(
                "New-HvpsCheckpoint",
                lambda: self.model.checkpoints.create(
                    vm_id, consistency=level, ignore_disks=ignore_disks, node=self.node
                ),
            )
        except errors.OperationFailed as err:
            if level is sim.Consistency.Application and type(err) is errors.OperationFailed:
                raise errors.ConsistencyNotReached(
                    self.name, err.operation, "Hvps.ConsistencyFailed", err.category, err.native, err.message
                ) from err
            raise
        checkpoint_id = UUID(job.results["checkpoint"])
        self._before("New-HvpsCheckpoint: rename")
        self.model.checkpoints.rename(checkpoint_id, name)
        self._before("New-HvpsCheckpoint: reply")
        return self._checkpoint(self.model.checkpoints.get(checkpoint_id))

    def convert(self, vm_id: UUID, checkpoint_id: UUID, *, job_seconds: int = 0) -> ReferencePointInfo:
        self._vm(vm_id, "ConvertTo-HvpsReferencePoint")
        job = self._job("ConvertTo-HvpsReferencePoint", lambda: self.model.checkpoints.convert(checkpoint_id))
        self._before("ConvertTo-HvpsReferencePoint: reply")
        wanted = job.results["reference_point"]
        return next(point for point in self.reference_points(vm_id) if point.instance_id == wanted)

    def remove_checkpoint(self, vm_id: UUID, checkpoint_id: UUID, *, job_seconds: int = 0) -> Removal:
        self._vm(vm_id, "Remove-HvpsCheckpoint")
        if all(
            point.checkpoint_id != checkpoint_id for point in self.model.checkpoints.all(vm_id, hidden=True)
        ):
            return Removal(False)
        self._job("Remove-HvpsCheckpoint", lambda: self.model.checkpoints.remove(checkpoint_id))
        return Removal(True)

    def remove_reference_point(self, vm_id: UUID, instance_id: str, *, job_seconds: int = 0) -> Removal:
        self._vm(vm_id, "Remove-HvpsReferencePoint")
        if all(point.instance_id != instance_id for point in self.model.reference_points.all(vm_id)):
            return Removal(False)
        self._job("Remove-HvpsReferencePoint", lambda: self.model.reference_points.remove(instance_id))
        return Removal(True)

    # -- frozen disks -----------------------------------------------------------------------------------

    def frozen_disks(self, vm_id: UUID, checkpoint_id: UUID) -> tuple[FrozenDisk, ...]:
        self._vm(vm_id, "Get-HvpsFrozenDisk")
        found = []
        for drive in self.model.disks.drives(vm_id, checkpoint_id):
            assert drive.layer is not None
            chain = self.model.disks.chain(drive.layer)
            enabled, newer, rct_id = self.model.driver.tracking_state(chain[0].path)
            found.append(
                FrozenDisk(
                    vm_id,
                    checkpoint_id,
                    ControllerType(drive.slot.controller_type.name.lower()),
                    drive.slot.controller_number,
                    drive.slot.controller_location,
                    chain[0].path,
                    tuple(layer.path for layer in chain),
                    chain[0].size_bytes,
                    chain[0].logical_sector_bytes,
                    chain[0].disk_id,
                    enabled,
                    newer,
                    rct_id,
                )
            )
        return tuple(found)

    def changes(self, path: str, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
        self._ask("Get-HvpsDiskChange")
        found: list[Extent] = []
        position = 0
        while position < size_bytes:
            try:
                page = self.model.driver.query_changes(path, rct_id, position, size_bytes - position)
            except DiskError as err:
                raise self._failed("Get-HvpsDiskChange", err) from err
            if not page.processed_bytes:
                raise errors.ProtocolViolation(self.name, "Get-HvpsDiskChange", "no progress")
            found.extend(page.extents)
            position += page.processed_bytes
        return normalise(found, size_bytes)

    def allocation(self, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
        self._ask("Get-HvpsAllocation")
        if not chain[0].lower().endswith("vhdx"):
            raise errors.OperationFailed(
                self.name, "Get-HvpsAllocation", "Hvps.FormatUnsupported", "NotImplemented", None, "VHD"
            )
        return normalise(
            (extent for path in chain for extent in self.model.driver.allocated(path)), size_bytes
        )

    def _attached(self, path: str, operation: str) -> sim.Layer:
        handle = self._handles.get(path)
        try:
            if handle is None or not self.model.driver.is_attached(handle):  # type: ignore[arg-type]
                handle = self.model.driver.open(path, self.shell_id, self.node)
                self._handles[path] = handle
                self.model.driver.attach(handle)
        except DiskError as err:
            self._handles.pop(path, None)
            raise self._failed(operation, err) from err
        return handle  # type: ignore[return-value]

    def read(self, path: str, extent: Extent, operation: str) -> bytes:
        handle = self._attached(path, operation)
        try:
            data = self.model.driver.read(handle, extent.offset, extent.length)  # type: ignore[arg-type]
            if len(data) != extent.length:  # the C# reads the rest; so do we
                rest = Extent(extent.offset + len(data), extent.length - len(data))
                data += self.read(path, rest, operation)
        except DiskError as err:
            raise self._failed(operation, err) from err
        return data

    def digests(
        self, path: str, chunk_bytes: int, offset_bytes: int, length_bytes: int
    ) -> Iterator[DigestPage]:
        self._ask("Get-HvpsDiskDigest")
        for start in range(offset_bytes, offset_bytes + length_bytes, 64 * chunk_bytes):
            end = min(start + 64 * chunk_bytes, offset_bytes + length_bytes)
            self._ask("Get-HvpsDiskDigest: page")
            yield DigestPage(
                start // chunk_bytes,
                b"".join(
                    hashlib.sha256(self.read(path, part, "Get-HvpsDiskDigest")).digest()
                    for part in split([Extent(start, end - start)], chunk_bytes)
                ),
            )

    def open_reader(self, path: str) -> ModelSource:
        self._ask("Read-HvpsExtent")
        return ModelSource(self, path)

    def close_readers(self, path: str | None = None) -> ReaderState:
        self._ask("Close-HvpsReader")
        for held in [held for held in self._handles if path is None or held == path]:
            self.model.driver.close(self._handles.pop(held))  # type: ignore[arg-type]
        return ReaderState(tuple(self._handles))

    def configuration(self, vm_id: UUID, checkpoint_id: UUID) -> Iterator[FilePiece]:
        self._vm(vm_id, "Read-HvpsConfiguration")
        for file in self.model.vms.configuration(vm_id, checkpoint_id):
            yield FilePiece(
                file.path,
                file.path.rpartition("\\")[2],
                len(file.content),
                0,
                hashlib.sha256(file.content).hexdigest(),
                file.content or None,
            )


class ModelSource:
    """A reader pipeline of a :class:`ModelHost`."""

    def __init__(self, host: ModelHost, path: str) -> None:
        self._host = host
        self._path = path
        self._waiting: list[bytes] = []
        self._made = 0
        self.wire_bytes = 0
        self._closed = False

    def send(self, request: bytes) -> None:
        self._host._ask("Read-HvpsExtent: send")
        asked = Request.unpack(request)
        grid = ChunkGrid(asked.chunk_bytes)
        blocks: list[list[tuple[Extent, bytes | None]]] = [[]]
        held = 0
        for extent in asked.extents:
            for part in split([extent], PIECE_BYTES):
                data = self._host.read(self._path, part, "Read-HvpsExtent")
                if blocks[-1] and held + part.length > asked.block_bytes:
                    blocks.append([])
                    held = 0
                blocks[-1].append((part, None if data.count(0) == len(data) else data))
                held += part.length
        digests: dict[int, list[ChunkDigest]] = {index: [] for index in range(len(blocks))}
        if asked.want_chunk_digests:
            size = self._host.model.disks.at(self._path).size_bytes
            ends = {}
            for index, block in enumerate(blocks):
                for part, _ in block:
                    for number in grid.touched([part]):
                        ends[number] = index
            for number, index in sorted(ends.items()):
                data = self._host.read(self._path, grid.extent(number, size), "Read-HvpsExtent")
                digests[index].append(ChunkDigest(number, hashlib.sha256(data).digest()))
        for index, block in enumerate(blocks):
            self._waiting.append(
                encode_block(
                    asked.number,
                    self._made,
                    block,
                    last=index == len(blocks) - 1,
                    chunk_digests=digests[index],
                )
            )
            self._made += 1

    def receive(self, timeout_seconds: float) -> Sequence[bytes]:
        self._host._ask("Read-HvpsExtent: receive")
        if not self._waiting:
            time.sleep(min(timeout_seconds, 0.01))
        taken, self._waiting = self._waiting, []
        self.wire_bytes += sum(map(len, taken))
        return taken

    def close(self) -> None:
        self._closed = True
