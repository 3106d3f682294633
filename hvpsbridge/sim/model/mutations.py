"""Being VMMS, told: checkpoints, conversion and reference points, each as a WMI job."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.base import Base
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.state import (
    Consistency,
    Job,
    JobKind,
    SnapshotType,
)


class Changing(Base):
    """What a host is told to do."""

    def create_checkpoint(
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
        """Start making a checkpoint; ``results["checkpoint"]`` of the job is its id.

        Raises:
            HyperVError: the VM is not there, is busy, or may have no checkpoints.
        """
        with self._now():
            vm = self._vm(vm_id, node)
            self._life.check_checkpointable(vm)
            return self._life.start(
                JobKind.CreateCheckpoint,
                vm,
                name=name,
                type=str(int(kind)),
                consistency=str(int(consistency)),
                ignore_disks=str(int(ignore_disks)),
                automatic=str(int(automatic)),
            )

    def rename_checkpoint(self, checkpoint_id: UUID, name: str) -> None:
        """Give a checkpoint another name.

        Raises:
            HyperVError: it is gone.
        """
        with self._now():
            self._checkpoint(checkpoint_id).name = name

    def convert(self, checkpoint_id: UUID) -> Job:
        """Start converting a recovery checkpoint; ``results["reference_point"]`` is the new InstanceID.

        Raises:
            HyperVError: the checkpoint is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.ConvertCheckpoint, checkpoint_id)

    def remove_checkpoint(self, checkpoint_id: UUID) -> Job:
        """Start removing a checkpoint.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.RemoveCheckpoint, checkpoint_id)

    def apply_checkpoint(self, checkpoint_id: UUID) -> Job:
        """Start putting the VM back to a checkpoint; the VM is off (or saved) afterwards.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.ApplyCheckpoint, checkpoint_id)

    def remove_reference_point(self, instance_id: str) -> Job:
        """Start destroying a reference point.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        with self._now():
            point = self._world.reference_points.get(instance_id)
            if point is None:
                raise HyperVError(Wmi.NOT_FOUND, self._life.text("not_found"))
            vm = self._vm(point.vm_id)
            self._life.check_ready(vm)
            return self._life.start(JobKind.RemoveReferencePoint, vm, reference_point=instance_id)

    # -- inside -----------------------------------------------------------------------------------------

    def _on_checkpoint(self, kind: JobKind, checkpoint_id: UUID) -> Job:
        with self._now():
            point = self._checkpoint(checkpoint_id)
            vm = self._vm(point.vm_id)
            self._life.check_ready(vm)
            return self._life.start(kind, vm, checkpoint=str(checkpoint_id))
