"""Checkpoints, conversion and jobs: the rules by which the world changes on its own.

Rule: nothing here runs in a thread. Work is due at a time; :meth:`Lifecycle.advance` does what is due by
the clock, and the model calls it before it answers anything. So a merge ends exactly when somebody could
first see that it has.
"""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.merges import ADMIN_LOG, WORKER_LOG, Merges
from hvpsbridge.sim.model.state import (
    Checkpoint,
    CheckpointType,
    Consistency,
    Drive,
    Job,
    JobKind,
    Layer,
    ReferencePoint,
    Slot,
    SnapshotType,
    VhdFormat,
    Vm,
    VMState,
)

# States in which VMMS takes a checkpoint at all (docs/hyperv-facts.md#checkpointable-states).
_CHECKPOINTABLE = {VMState.Running, VMState.Off, VMState.Saved, VMState.Paused}


class Lifecycle(Merges):
    """Jobs and what they do. Callers hold the model's lock."""

    # -- time -----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do everything that is due by now, in the order it became due."""
        now = self._clock.now()
        while True:
            jobs = [job for job in self._world.jobs.values() if not job.done and job.ends <= now]
            merges = [m for m in self._world.merges.values() if m.ends is not None and m.ends <= now]
            job = min(jobs, key=lambda job: job.ends, default=None)
            merge = min(merges, key=lambda merge: (merge.ends or 0.0, merge.child), default=None)
            if job is not None and (merge is None or job.ends <= (merge.ends or 0.0)):
                self._time = job.ends
                self._finish(job)
            elif merge is not None:
                self._time = merge.ends or now
                self._finish_merge(merge)
            else:
                break
        self._time = now
        for vm in self._world.vms.values():
            if vm.migrating_to is not None and (vm.migrating_until or 0.0) <= now:
                self._arrive(vm, vm.migrating_to)
        for job in [job for job in self._world.jobs.values() if (job.vanishes or now + 1) <= now]:
            del self._world.jobs[job.job_id]

    # -- jobs -----------------------------------------------------------------------------------------

    def start(self, kind: JobKind, vm: Vm, **arguments: str) -> Job:
        """Start a job whose work is done when its time is up; done already with knob ``jobs_at_once``."""
        now = self._time
        job = Job(self.fresh_id(), kind, vm.vm_id, now, now + self._knobs.job_seconds, arguments)
        self._world.jobs[job.job_id] = job
        if self._knobs.jobs_at_once:
            job.ends = now
            self._finish(job)
        return job

    def finish_work(self, vm: Vm) -> None:
        """Let the VM's unfinished jobs and its merges, failed ones included, be due now."""
        for job in self._world.jobs.values():
            if job.vm_id == vm.vm_id and not job.done:
                job.ends = min(job.ends, self._time)
        for merge in self._world.merges.values():
            if merge.vm_id == vm.vm_id:
                merge.ends = self._time

    def busy(self, vm: Vm) -> Job | None:
        """The job that holds the VM now, if any."""
        return next(
            (job for job in self._world.jobs.values() if job.vm_id == vm.vm_id and not job.done), None
        )

    def check_ready(self, vm: Vm) -> None:
        """Refuse when another job holds the VM.

        Raises:
            HyperVError: 32775.
        """
        if self.busy(vm) is not None or vm.migrating_until is not None:
            raise HyperVError(Wmi.INVALID_STATE, self.text("busy"))

    def check_checkpointable(self, vm: Vm) -> None:
        """Refuse when VMMS would not even start a checkpoint.

        Raises:
            HyperVError: 32775 in a state that allows none, 32774 while disks merge.
        """
        self.check_ready(vm)
        if vm.state not in _CHECKPOINTABLE or self._faults.strikes("checkpoint_busy"):
            raise HyperVError(Wmi.INVALID_STATE, self.text("busy"))
        if vm.checkpoint_type is CheckpointType.Disabled:
            raise HyperVError(Wmi.INVALID_STATE, self.text("disabled", vm=vm.name))
        if self.merging(vm):
            raise HyperVError(Wmi.IN_USE, self.text("busy"))

    def _finish(self, job: Job) -> None:
        vm = self._world.vms.get(job.vm_id)
        try:
            if vm is None:
                raise HyperVError(Wmi.NOT_FOUND, self.text("not_found"))
            self._work(job, vm)
        except HyperVError as err:
            job.error_code, job.error_text = err.code, err.message
        job.done = True
        job.vanishes = self._time + (0.0 if self._knobs.job_vanishes else self._knobs.job_lifetime_seconds)

    def _work(self, job: Job, vm: Vm) -> None:
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
                if self._world.reference_points.pop(job.arguments["reference_point"], None) is None:
                    raise HyperVError(Wmi.NOT_FOUND, self.text("not_found"))
            case JobKind.MergeDisks:
                raise AssertionError("merges are no jobs of this table")

    def _checkpoint(self, job: Job) -> Checkpoint:
        found = self._world.checkpoints.get(UUID(job.arguments["checkpoint"]))
        if found is None:
            raise HyperVError(Wmi.NOT_FOUND, self.text("not_found"))
        return found

    def _fail_if(self, fault: str) -> None:
        if self._faults.strikes(fault):
            raise HyperVError(Wmi.FAILED, self.text("failed"))

    # -- checkpoints ------------------------------------------------------------------------------------

    def _create(self, job: Job, vm: Vm) -> Checkpoint:
        consistency = Consistency(int(job.arguments["consistency"]))
        kind = SnapshotType(int(job.arguments["type"]))
        drives = self._checkpointable_drives(vm, ignore=job.arguments["ignore_disks"] == "1")
        self._creation_faults(vm, consistency, kind)
        if self._faults.strikes("checkpoint_leaves_out_disk"):
            drives = drives[:-1]
        now = self._time
        checkpoint = Checkpoint(
            checkpoint_id=self.fresh_id(),
            vm_id=vm.vm_id,
            name=job.arguments["name"] or f"{vm.name} - ({self._world.next()})",
            kind=kind,
            consistency=consistency,
            created=now,
            visible=now + self._knobs.visibility_seconds,
            parent=vm.parent_checkpoint,
            order=self._world.next(),
            disks={},
            sealed={},
            state=VMState.Saved if vm.state is VMState.Saved else VMState.Off,
            automatic=job.arguments.get("automatic") == "1",
            revision=vm.revision,
        )
        for drive in drives:
            slot = str(drive.slot)
            frozen = self._layer(drive)
            checkpoint.sealed[slot] = self._tracking.seal(frozen)
            checkpoint.disks[slot] = frozen.number
            drive.layer = self.new_child(frozen).number
            if kind is not SnapshotType.Recovery and self._knobs.ids_die_on_user_checkpoint:
                for layer in self._shelf.chain(frozen):
                    self._tracking.forget(layer)
            self._kept.freeze(checkpoint.checkpoint_id, vm.vm_id, drive.slot)
        self._world.checkpoints[checkpoint.checkpoint_id] = checkpoint
        vm.parent_checkpoint = checkpoint.checkpoint_id
        return checkpoint

    def _creation_faults(self, vm: Vm, consistency: Consistency, kind: SnapshotType) -> None:
        if consistency is Consistency.Application and vm.state is not VMState.Off:
            works = vm.state is VMState.Running and vm.guest_backup
            if not works or self._faults.strikes("guest_backup_fails"):
                raise HyperVError(Wmi.FAILED, self.text("guest", vm=vm.name), 0x800423F4)
        self._fail_if("checkpoint_fails")
        if self._faults.strikes("checkpoint_file_locked"):
            raise HyperVError(Wmi.IN_USE, self.text("locked", vm=vm.name), 0x80070020)
        if self._faults.strikes("checkpoint_no_space"):
            raise HyperVError(Wmi.FAILED, self.text("no_space", vm=vm.name), 0x80070070)
        if self._faults.strikes("commit_forks"):
            vm.commit_fork_events += 1
            self.log(WORKER_LOG, 3216, vm, self.text("commit_forks", vm=vm.name))
            raise HyperVError(Wmi.FAILED, self.text("commit_forks", vm=vm.name), 0x80048102)

    def _checkpointable_drives(self, vm: Vm, *, ignore: bool) -> list[Drive]:
        drives = []
        for drive in sorted(vm.drives.values(), key=lambda drive: drive.slot):
            unsupported = drive.pass_through_number is not None or drive.shared
            if not unsupported and drive.layer is not None:
                unsupported = self._layer(drive).format is VhdFormat.VHDSet
            if unsupported and not ignore:
                raise HyperVError(Wmi.NOT_SUPPORTED, self.text("unsupported_disk", vm=vm.name))
            if not unsupported and drive.layer is not None:
                drives.append(drive)
        return drives

    def _layer(self, drive: Drive) -> Layer:
        assert drive.layer is not None
        return self._world.layers[drive.layer]

    def new_child(self, frozen: Layer) -> Layer:
        """A child of a layer that is frozen from now on, beside it and named as Hyper-V names it."""
        base = self._shelf.chain(frozen)[-1]
        folder, _, _ = frozen.path.rpartition("\\")
        stem = base.path.rpartition("\\")[2].rpartition(".")[0]
        suffix = "avhd" if frozen.format is VhdFormat.VHD else "avhdx"
        child = self._shelf.new_child(frozen, f"{folder}\\{stem}_{str(self.fresh_id()).upper()}.{suffix}")
        self._tracking.begin(child, frozen)
        return child

    def _convert(self, checkpoint: Checkpoint, vm: Vm) -> ReferencePoint:
        if checkpoint.kind is not SnapshotType.Recovery:
            raise HyperVError(Wmi.INVALID_PARAMETER, self.text("not_recovery"))
        self._fail_if("convert_fails")
        if self._faults.strikes("convert_logon_right"):
            raise HyperVError(Wmi.FAILED, self.text("logon_right"), 0x8007052F)
        other = self._knobs.new_id_at_conversion or self._faults.strikes("convert_other_ids")
        point = ReferencePoint(
            instance_id=f"Microsoft:{str(vm.vm_id).upper()}\\{str(self.fresh_id()).upper()}",
            vm_id=vm.vm_id,
            consistency=checkpoint.consistency,
            created=self._time,
            disks=[],
            rct_ids=[],
        )
        for slot in checkpoint.disks:
            rct_id, drive = checkpoint.sealed[slot], vm.drives.get(slot)
            if rct_id is None or drive is None or drive.layer is None:
                continue
            if other:
                rct_id = self._tracking.seal(self._layer(drive)) or rct_id
            point.disks.append(vm.instance_id(drive.slot))
            point.rct_ids.append(rct_id)
        if self._knobs.conversion_drops_disk and point.disks:
            del point.disks[-1], point.rct_ids[-1]
        self._world.reference_points[point.instance_id] = point
        self._remove(checkpoint, vm)
        return point

    def _remove(self, checkpoint: Checkpoint, vm: Vm) -> None:
        del self._world.checkpoints[checkpoint.checkpoint_id]
        for other in self._world.checkpoints.values():
            if other.parent == checkpoint.checkpoint_id:
                other.parent = checkpoint.parent
        if vm.parent_checkpoint == checkpoint.checkpoint_id:
            vm.parent_checkpoint = checkpoint.parent
        self.plan_merges(vm)

    def _apply(self, checkpoint: Checkpoint, vm: Vm) -> None:
        for slot in [slot for slot in vm.drives if slot not in checkpoint.disks]:
            if vm.drives[slot].layer is not None:
                self._kept.remove(vm.vm_id, vm.drives[slot].slot)
                del vm.drives[slot]
        for slot, number in checkpoint.disks.items():
            frozen = self._world.layers[number]
            drive = vm.drives.setdefault(slot, Drive(Slot.parse(slot), None))
            drive.layer = self.new_child(frozen).number
            self._kept.apply(checkpoint.checkpoint_id, vm.vm_id, drive.slot)
        vm.parent_checkpoint = checkpoint.checkpoint_id
        vm.state = checkpoint.state
        self.plan_merges(vm)

    # -- migration --------------------------------------------------------------------------------------

    def _arrive(self, vm: Vm, node: str) -> None:
        """A migrated VM runs on its new host; handles on the old one are dead, tracking travelled along."""
        vm.node, vm.migrating_to, vm.migrating_until = node, None, None
        for drive in vm.drives.values():
            if drive.layer is None:
                continue
            for layer in self._shelf.chain(self._layer(drive)):
                self._handles.close_layer(layer.number)
                self._tracking.flush(layer)
                if self._knobs.ids_die_on_migration:
                    self._tracking.forget(layer)


__all__ = ["ADMIN_LOG", "WORKER_LOG", "Lifecycle"]
