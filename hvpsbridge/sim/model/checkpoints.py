"""Checkpoints. Whatever changes one is a WMI job."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.state import (
    Checkpoint,
    CheckpointType,
    Consistency,
    Job,
    JobKind,
    SnapshotType,
    Vm,
    VMState,
)
from hvpsbridge.sim.model.timeline import Timeline

# States in which VMMS takes a checkpoint at all (docs/hyperv-facts.md#checkpointable-states).
_CHECKPOINTABLE = {
    VMState.Running,
    VMState.Off,
    VMState.Saved,
    VMState.Paused,
    VMState.FastSaved,
    VMState.Hibernated,
}
# Characters in the name of a checkpoint, at most (docs/hyperv-facts.md#checkpoint-name).
NAME_LENGTH = 100


class Checkpoints:
    """The checkpoints of a world."""

    def __init__(self, core: Core, timeline: Timeline, merges: Merges) -> None:
        self._core = core
        self._timeline = timeline
        self._merges = merges

    def all(self, vm_id: UUID, *, hidden: bool = False) -> tuple[Checkpoint, ...]:
        """Checkpoints of a VM, oldest first; with ``hidden`` also those that cmdlets do not show yet."""
        with self._timeline.now():
            now = self._core.clock.now()
            found = [
                point
                for point in self._core.world.checkpoints.values()
                if point.vm_id == vm_id and (hidden or point.visible <= now)
            ]
            return tuple(sorted(found, key=lambda point: point.order))

    def get(self, checkpoint_id: UUID) -> Checkpoint:
        """One checkpoint, whether cmdlets show it yet or not.

        Raises:
            HyperVError: it does not exist.
        """
        with self._timeline.now():
            return self._core.checkpoint(checkpoint_id)

    def create(
        self,
        vm_id: UUID,
        *,
        name: str = "",
        kind: SnapshotType = SnapshotType.Recovery,
        consistency: Consistency = Consistency.Crash,
        ignore_disks: bool = False,
        automatic: bool = False,
        node: str | None = None,
    ) -> Job:
        """Start creating a checkpoint; ``results["checkpoint"]`` of the finished job is its id.

        Raises:
            HyperVError: the VM does not exist, is busy, or cannot have checkpoints; or the name is too long.
        """
        with self._timeline.now():
            vm = self._core.vm(vm_id, node)
            self._check_name(name)
            self._check_allowed(vm, kind)
            return self._timeline.start(
                JobKind.CreateCheckpoint,
                vm,
                name=name,
                type=str(int(kind)),
                consistency=str(int(consistency)),
                ignore_disks=str(int(ignore_disks)),
                automatic=str(int(automatic)),
            )

    def rename(self, checkpoint_id: UUID, name: str) -> None:
        """Rename a checkpoint.

        Raises:
            HyperVError: it does not exist, the name is too long, or names are refused (``Knobs``).
        """
        with self._timeline.now():
            point = self._core.checkpoint(checkpoint_id)
            if self._core.knobs.names_refused:
                raise HyperVError(Wmi.NOT_SUPPORTED, self._core.text("failed"))
            self._check_name(name)
            point.name = name

    def convert(self, checkpoint_id: UUID) -> Job:
        """Start converting a recovery checkpoint to a reference point.

        ``results["reference_point"]`` of the finished job is the InstanceID.

        Raises:
            HyperVError: the checkpoint does not exist, or its VM is busy.
        """
        return self._start(JobKind.ConvertCheckpoint, checkpoint_id)

    def remove(self, checkpoint_id: UUID) -> Job:
        """Start removing a checkpoint.

        Raises:
            HyperVError: it does not exist, or its VM is busy.
        """
        return self._start(JobKind.RemoveCheckpoint, checkpoint_id)

    def apply(self, checkpoint_id: UUID) -> Job:
        """Start reverting the VM to a checkpoint; the VM is off or saved afterwards.

        Raises:
            HyperVError: it does not exist, or its VM is busy.
        """
        return self._start(JobKind.ApplyCheckpoint, checkpoint_id)

    def _start(self, kind: JobKind, checkpoint_id: UUID) -> Job:
        with self._timeline.now():
            vm = self._core.vm(self._core.checkpoint(checkpoint_id).vm_id)
            self._timeline.check_ready(vm)
            return self._timeline.start(kind, vm, checkpoint=str(checkpoint_id))

    def _check_name(self, name: str) -> None:
        if len(name) > NAME_LENGTH:
            raise HyperVError(Wmi.INVALID_PARAMETER, self._core.text("name_too_long"), 0x80070057)

    def _check_allowed(self, vm: Vm, kind: SnapshotType) -> None:
        """Refuse what VMMS refuses before it starts a job.

        Raises:
            HyperVError: 32775 in a state without checkpoints, 32774 while disks merge.
        """
        text = self._core.text
        self._timeline.check_ready(vm)
        if vm.state not in _CHECKPOINTABLE or self._core.faults.fires("checkpoint_busy"):
            raise HyperVError(Wmi.INVALID_STATE, text("busy"))
        users = kind is not SnapshotType.Recovery or self._core.knobs.disabled_refuses_backups
        if users and vm.checkpoint_type is CheckpointType.Disabled:
            raise HyperVError(Wmi.INVALID_STATE, text("disabled", vm=vm.name))
        if self._merges.merging(vm):
            raise HyperVError(Wmi.IN_USE, text("busy"))
        if self._core.knobs.one_recovery_checkpoint and kind is SnapshotType.Recovery:
            self._check_only(vm)

    def _check_only(self, vm: Vm) -> None:
        """Refuse if the VM has a recovery checkpoint."""
        for point in self._core.world.checkpoints.values():
            if point.vm_id == vm.vm_id and point.kind is SnapshotType.Recovery:
                raise HyperVError(Wmi.IN_USE, self._core.text("busy"))
