"""Row 4: the recovery checkpoint, and that its frozen disks are the planned ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hvpsbridge.contract.results import CheckpointInfo, Consistency, FrozenDisk, VmInfo, VmState
from hvpsbridge.errors import ConsistencyNotReached, NotEligible, OperationTimedOut, SessionLost
from hvpsbridge.repository.lease import Lease
from hvpsbridge.tasks.backup.context import Work
from hvpsbridge.tasks.cleanup.merge_wait import children_of
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.plan import VmPlan, slot_of
from hvpsbridge.tasks.policy import ConsistencyPolicy
from hvpsbridge.tasks.steps import Step


class Freezing(Work):
    """Making the checkpoint."""

    def _freeze(
        self, plan: VmPlan, journal: Journal, lease: Lease
    ) -> tuple[CheckpointInfo, dict[str, FrozenDisk], tuple[str, ...]]:
        """The checkpoint, its disks by slot, and the files that run on top of them."""
        vm_id = plan.vm.vm_id
        until = datetime.now(UTC) + timedelta(seconds=self._policy.limits.checkpoint_age_seconds)
        mark = Mark(self._repository.repository_id, self._around.run_id, until)
        self._mark = str(mark)
        with self._step(Step.INTEND_CHECKPOINT):
            lease.check()
            journal.checkpoint_intended(
                str(mark), self._host.checkpoints(vm_id), self._host.reference_points(vm_id)
            )
            self._armed = True
        with self._step(Step.MAKE_CHECKPOINT):
            checkpoint = self._checkpoint(plan.vm, str(mark))
            self._guard.checkpoint_made()
        with self._step(Step.RECORD_CHECKPOINT):
            journal.checkpoint_made(checkpoint.checkpoint_id)
        with self._step(Step.CHECK_FROZEN):
            frozen = {
                slot_of(disk): disk for disk in self._host.frozen_disks(vm_id, checkpoint.checkpoint_id)
            }
            planned = {disk.slot for disk in plan.disks}
            # What is left out is frozen all the same, where a checkpoint can hold it.
            held = frozen.keys() - {disk.slot for disk in plan.excluded}
            if held != planned:
                odd = ", ".join(sorted(held ^ planned))
                raise NotEligible(plan.vm.name, f"the checkpoint does not hold the planned disks: {odd}")
            children = children_of((disk.path for disk in frozen.values()), self._host.disks(vm_id))
        return checkpoint, frozen, children

    def _checkpoint(self, vm: VmInfo, mark: str) -> CheckpointInfo:
        """A checkpoint of the consistency wished for; falls back when that is allowed."""
        wish = self._policy.consistency
        level = Consistency.CRASH if wish is ConsistencyPolicy.CRASH else Consistency.APPLICATION
        if vm.state is VmState.SAVED and wish is ConsistencyPolicy.APPLICATION:
            raise NotEligible(vm.name, "it is saved, and a saved VM's applications cannot be asked")
        if vm.state in (VmState.OFF, VmState.SAVED):
            # Nobody is there to flush; what is on the disks of an off VM is what its shutdown left.
            level = Consistency.CRASH
        try:
            made = self._create(vm, mark, level)
        except ConsistencyNotReached as err:
            if wish is not ConsistencyPolicy.APPLICATION_OR_CRASH:
                raise
            self._note(f"falling back to crash consistency: {err.describe()}")
            level = Consistency.CRASH
            made = self._create(vm, mark, level)
        self._consistency = level
        return made

    def _create(self, vm: VmInfo, mark: str, level: Consistency) -> CheckpointInfo:
        """Create, and look for what a lost reply may have created."""
        try:
            return self._host.create_checkpoint(
                vm.vm_id,
                mark,
                level,
                ignore_disks=self._ignore_disks,
                job_seconds=self._policy.limits.job_seconds,
            )
        except (SessionLost, OperationTimedOut):
            self._uncertain = True
            for checkpoint in self._host.checkpoints(vm.vm_id):
                if checkpoint.name == mark:
                    self._note("the reply was lost, the checkpoint is there")
                    return checkpoint
            raise
