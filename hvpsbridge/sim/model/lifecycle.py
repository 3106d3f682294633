"""What jobs do: making, converting, removing and applying checkpoints; and the end of a migration."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.configuration import settings_of
from hvpsbridge.sim.model.core import WORKER_LOG, Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.state import (
    Checkpoint,
    Consistency,
    ControllerType,
    Drive,
    Job,
    JobKind,
    ReferencePoint,
    Slot,
    SnapshotType,
    VhdFormat,
    Vm,
    VMState,
)
from hvpsbridge.sim.model.stored import Layer


class Lifecycle:
    """Changes to the world that take time. Hold the core's lock."""

    def __init__(self, core: Core, merges: Merges) -> None:
        self._core = core
        self._merges = merges

    def perform(self, job: Job, vm: Vm) -> None:
        """Do a job's work.

        Raises:
            HyperVError: the job fails.
        """
        if "fails" in job.arguments:
            raise HyperVError(int(job.arguments["fails"]), job.arguments["text"])
        match job.kind:
            case JobKind.CreateCheckpoint:
                checkpoint = self._create(job, vm)
                job.results["checkpoint"] = str(checkpoint.checkpoint_id)
            case JobKind.ConvertCheckpoint:
                point = self._convert(self._checkpoint(job), vm)
                job.results["reference_point"] = point.instance_id
            case JobKind.RemoveCheckpoint:
                self._fail_if("remove_fails")
                self._remove(self._checkpoint(job), vm)
            case JobKind.ApplyCheckpoint:
                self._apply(self._checkpoint(job), vm)
            case JobKind.RemoveReferencePoint:
                self._fail_if("destroy_reference_point_fails")
                points = self._core.world.reference_points
                if points.pop(job.arguments["reference_point"], None) is None:
                    raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
            case _:
                raise AssertionError("not started as jobs, except to fail")

    def _checkpoint(self, job: Job) -> Checkpoint:
        return self._core.checkpoint(UUID(job.arguments["checkpoint"]))

    def _fail_if(self, fault: str) -> None:
        if self._core.faults.fires(fault):
            raise HyperVError(Wmi.FAILED, self._core.text("failed"))

    def _create(self, job: Job, vm: Vm) -> Checkpoint:
        core, world = self._core, self._core.world
        consistency = Consistency(int(job.arguments["consistency"]))
        kind = SnapshotType(int(job.arguments["type"]))
        drives = self._checkpointable_drives(vm, ignore=job.arguments["ignore_disks"] == "1")
        self._creation_faults(vm, consistency, kind)
        if core.faults.fires("checkpoint_leaves_out_disk"):
            drives = drives[:-1]
        now = core.time
        checkpoint = Checkpoint(
            checkpoint_id=core.fresh_id(),
            vm_id=vm.vm_id,
            name=job.arguments["name"] or f"{vm.name} - ({world.next()})",
            kind=kind,
            consistency=consistency,
            created=now,
            visible=now + core.knobs.visibility_seconds,
            parent=vm.parent_checkpoint,
            order=world.next(),
            disks={},
            sealed={},
            state=VMState.Saved if vm.state is VMState.Saved else VMState.Off,
            automatic=job.arguments.get("automatic") == "1",
            revision=vm.revision,
            configuration=settings_of(vm, world.layers),
        )
        for drive in drives:
            slot = str(drive.slot)
            frozen = core.layer(drive)
            checkpoint.sealed[slot] = core.tracking.freeze(frozen)
            checkpoint.disks[slot] = frozen.number
            drive.layer = self.new_child(frozen).number
            if kind is not SnapshotType.Recovery and core.knobs.ids_die_on_user_checkpoint:
                for layer in core.files.chain(frozen):
                    core.tracking.forget(layer)
            core.golden.freeze(checkpoint.checkpoint_id, vm.vm_id, drive.slot)
        world.checkpoints[checkpoint.checkpoint_id] = checkpoint
        vm.parent_checkpoint = checkpoint.checkpoint_id
        return checkpoint

    def _creation_faults(self, vm: Vm, consistency: Consistency, kind: SnapshotType) -> None:
        core = self._core
        if consistency is Consistency.Application and vm.state is not VMState.Off:
            works = vm.state is VMState.Running and vm.guest_backup
            if not works or core.faults.fires("guest_backup_fails"):
                raise HyperVError(Wmi.FAILED, core.text("guest", vm=vm.name), 0x800423F4)
        self._fail_if("checkpoint_fails")
        if core.faults.fires("checkpoint_file_locked"):
            files = [core.layer(drive).path for drive in vm.drives.values() if drive.layer is not None]
            path = files[0] if files else vm.folder
            raise HyperVError(Wmi.IN_USE, core.text("locked", vm=vm.name, path=path), 0x80070020)
        if core.faults.fires("checkpoint_no_space"):
            raise HyperVError(Wmi.FAILED, core.text("no_space", vm=vm.name), 0x80070070)
        if core.faults.fires("commit_forks"):
            vm.commit_fork_events += 1
            core.log(WORKER_LOG, 3216, vm, core.text("commit_forks", vm=vm.name))
            raise HyperVError(Wmi.FAILED, core.text("commit_forks", vm=vm.name), 0x80048102)

    def _checkpointable_drives(self, vm: Vm, *, ignore: bool) -> list[Drive]:
        drives = []
        for drive in sorted(vm.drives.values(), key=lambda drive: drive.slot):
            unsupported = drive.pass_through_number is not None or drive.shared
            if not unsupported and drive.layer is not None:
                unsupported = self._core.layer(drive).format is VhdFormat.VHDSet
            if unsupported and not ignore:
                raise HyperVError(Wmi.NOT_SUPPORTED, self._core.text("unsupported_disk", vm=vm.name))
            if not unsupported and drive.layer is not None:
                drives.append(drive)
        return drives

    def new_child(self, frozen: Layer) -> Layer:
        """Freeze a layer: a new empty child of it, in the same folder, named as Hyper-V names it."""
        core = self._core
        base = core.files.chain(frozen)[-1]
        folder, _, _ = frozen.path.rpartition("\\")
        stem = base.path.rpartition("\\")[2].rpartition(".")[0]
        suffix = "avhd" if frozen.format is VhdFormat.VHD else "avhdx"
        child = core.files.new_child(frozen, f"{folder}\\{stem}_{str(core.fresh_id()).upper()}.{suffix}")
        core.tracking.begin(child, frozen)
        return child

    def _convert(self, checkpoint: Checkpoint, vm: Vm) -> ReferencePoint:
        core = self._core
        if checkpoint.kind is not SnapshotType.Recovery:
            raise HyperVError(Wmi.INVALID_PARAMETER, core.text("not_recovery"))
        self._fail_if("convert_fails")
        if core.faults.fires("convert_logon_right"):
            raise HyperVError(Wmi.FAILED, core.text("logon_right"), 0x8007052F)
        other = core.knobs.new_id_at_conversion or core.faults.fires("convert_other_ids")
        point = ReferencePoint(
            instance_id=f"Microsoft:{str(vm.vm_id).upper()}\\{str(core.fresh_id()).upper()}",
            vm_id=vm.vm_id,
            consistency=checkpoint.consistency,
            created=core.time,
            disks=[],
            rct_ids=[],
        )
        for slot in checkpoint.disks:
            rct_id, drive = checkpoint.sealed[slot], vm.drives.get(slot)
            if drive is None or drive.layer is None:
                continue
            frozen = core.world.layers.get(checkpoint.disks[slot])
            rct_id = core.tracking.convert(frozen, core.layer(drive), rct_id, late=other)
            if rct_id is None:
                continue
            point.disks.append(vm.instance_id(drive.slot))
            point.rct_ids.append(rct_id)
        if core.knobs.conversion_drops_disk and point.disks:
            del point.disks[-1], point.rct_ids[-1]
        if core.knobs.reference_point_arrays_differ:
            point.disks.insert(0, vm.instance_id(Slot(ControllerType.SCSI, 0, 63)))
        core.world.reference_points[point.instance_id] = point
        self._remove(checkpoint, vm)
        return point

    def _remove(self, checkpoint: Checkpoint, vm: Vm) -> None:
        del self._core.world.checkpoints[checkpoint.checkpoint_id]
        for other in self._core.world.checkpoints.values():
            if other.parent == checkpoint.checkpoint_id:
                other.parent = checkpoint.parent
        if vm.parent_checkpoint == checkpoint.checkpoint_id:
            vm.parent_checkpoint = checkpoint.parent
        self._merges.plan(vm)

    def _apply(self, checkpoint: Checkpoint, vm: Vm) -> None:
        core = self._core
        for slot in [slot for slot in vm.drives if slot not in checkpoint.disks]:
            if vm.drives[slot].layer is not None:
                core.golden.remove(vm.vm_id, vm.drives[slot].slot)
                del vm.drives[slot]
        for slot, number in checkpoint.disks.items():
            frozen = core.world.layers[number]
            drive = vm.drives.setdefault(slot, Drive(Slot.parse(slot), None))
            drive.layer = self.new_child(frozen).number
            core.golden.apply(checkpoint.checkpoint_id, vm.vm_id, drive.slot)
        vm.parent_checkpoint = checkpoint.checkpoint_id
        vm.state, vm.started = checkpoint.state, None
        self._merges.plan(vm)

    def arrive(self, vm: Vm, node: str) -> None:
        """Finish a migration: handles on the old host are dead, change tracking has moved along."""
        core = self._core
        vm.node, vm.migrating_to, vm.migrating_until = node, None, None
        for drive in vm.drives.values():
            if drive.layer is None:
                continue
            for layer in core.files.chain(core.layer(drive)):
                core.handles.close_layer(layer.number)
                core.tracking.flush(layer)
                if core.knobs.ids_die_on_migration:
                    core.tracking.forget(layer)
