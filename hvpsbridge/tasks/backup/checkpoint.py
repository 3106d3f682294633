"""Row 4: the recovery checkpoint is made, and holds the disks that were planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointPolicy,
    Consistency,
    FrozenDisk,
    VmInfo,
    VmState,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import (
    ConnectionLimit,
    ConsistencyNotReached,
    FileLocked,
    JobBusy,
    NotEligible,
    OperationFailed,
    OperationTimedOut,
    SessionLost,
    VmBusy,
)
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased, Planned
from hvpsbridge.tasks.backup.state import BackupState, step
from hvpsbridge.tasks.cleanup.merge_wait import children_of
from hvpsbridge.tasks.cleanup.ownership import is_ours
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.plan import VmPlan
from hvpsbridge.tasks.policy import ConsistencyPolicy
from hvpsbridge.tasks.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The VM's disks, frozen in a checkpoint.

    Attributes:
        checkpoint: the recovery checkpoint.
        consistency: reached by it.
        disks: the frozen disks by slot, those that are left out of the backup among them.
        children: files on top of the frozen ones, which the VM writes to until they are merged.
        taken: when the checkpoint was made, UTC.
    """

    checkpoint: CheckpointInfo
    consistency: Consistency
    disks: Mapping[str, FrozenDisk]
    children: tuple[str, ...]
    taken: datetime


def freeze(context: BackupContext, state: BackupState, leased: Leased, planned: Planned) -> Frozen:
    """Make the checkpoint.

    Raises:
        NotEligible: the checkpoint does not hold the planned disks, or the host refused one to a VM with
            checkpoints disabled.
        ConsistencyNotReached: the required consistency cannot be had.
    """
    host, vm_id = context.host, context.vm_id
    until = datetime.now(UTC) + timedelta(seconds=context.options.limits.checkpoint_age)
    mark = str(Mark(context.repository.repository_id, context.run_id, until))
    with step(context, state, Step.INTEND_CHECKPOINT):
        leased.lease.check()
        before = host.checkpoints(vm_id)
        leased.journal.checkpoint_intended(mark, before, host.reference_points(vm_id))
        state.expect_checkpoint(mark)
    with step(context, state, Step.MAKE_CHECKPOINT):
        try:
            checkpoint, consistency = _make_checkpoint(context, state, planned, mark, before)
        except OperationFailed as err:
            if refusal := _by_setting(planned.plan.vm, err):
                raise refusal from err
            raise
        state.guard.checkpoint_made()
        unmarked = checkpoint.name if checkpoint.name != mark else None
        if unmarked is not None:
            state.found_unmarked(checkpoint)
            state.warn(f"the checkpoint has no mark, only its id in the ledger: {checkpoint.name_error}")
    with step(context, state, Step.RECORD_CHECKPOINT):
        leased.journal.checkpoint_made(checkpoint.checkpoint_id, unmarked)
    with step(context, state, Step.CHECK_FROZEN):
        disks = {slot_of(disk): disk for disk in host.frozen_disks(vm_id, checkpoint.checkpoint_id)}
        _refuse_other_disks(planned.plan, disks)
        children = children_of((disk.path for disk in disks.values()), host.disks(vm_id))
    return Frozen(
        checkpoint=checkpoint,
        consistency=consistency,
        disks=disks,
        children=children,
        taken=datetime.now(UTC),
    )


def _by_setting(vm: VmInfo, err: OperationFailed) -> NotEligible | None:
    """The refusal of a checkpoint as one that the VM's CheckpointType may explain; None if it cannot.

    Whether Windows refuses recovery checkpoints then is not known
    (docs/hyperv-facts.md#checkpoint-type-disabled).
    """
    settings = {CheckpointPolicy.DISABLED: "disabled", CheckpointPolicy.UNKNOWN: "unknown to hvps"}
    refused = isinstance(err, VmBusy | ConsistencyNotReached) or err.error_id == "Hvps.JobFailed"
    refused = refused and not isinstance(err, FileLocked)
    if vm.checkpoint_policy not in settings or not refused:
        return None
    return NotEligible(
        vm.name,
        f"the host refused a checkpoint, and its CheckpointType is {settings[vm.checkpoint_policy]} "
        f"({err.error_id}: {err.message}); run Set-VM -CheckpointType Production on the host",
    )


def _refuse_other_disks(plan: VmPlan, frozen: Mapping[str, FrozenDisk]) -> None:
    planned = {disk.slot for disk in plan.disks}
    # A disk that is left out is frozen all the same, where a checkpoint can hold it.
    held = frozen.keys() - {disk.slot for disk in plan.excluded}
    if held != planned:
        odd = ", ".join(sorted(held ^ planned))
        raise NotEligible(plan.vm.name, f"the checkpoint does not hold the planned disks: {odd}")


def _make_checkpoint(
    context: BackupContext,
    state: BackupState,
    planned: Planned,
    mark: str,
    before: Sequence[CheckpointInfo],
) -> tuple[CheckpointInfo, Consistency]:
    """A checkpoint of the required consistency; crash consistent when the options allow that instead."""
    vm = planned.plan.vm
    required = context.options.consistency
    level = Consistency.CRASH if required is ConsistencyPolicy.CRASH else Consistency.APPLICATION
    if vm.state is VmState.SAVED and required is ConsistencyPolicy.APPLICATION:
        raise NotEligible(vm.name, "it is saved, and a saved VM's applications cannot be asked")
    if vm.state in (VmState.OFF, VmState.SAVED):
        # Nothing in the VM can flush; the disks of a VM that is off are as its shutdown left them.
        level = Consistency.CRASH
    try:
        made = _create(context, state, planned, mark, before, level)
    except (ConsistencyNotReached, JobBusy) as err:
        # A job that the host began may have failed in the guest, with any code.
        if required is not ConsistencyPolicy.APPLICATION_OR_CRASH or level is Consistency.CRASH:
            raise
        context.note(f"falling back to crash consistency: {err.describe()}")
        level = Consistency.CRASH
        made = _create(context, state, planned, mark, before, level)
    state.consistency = level
    return made, level


def _create(
    context: BackupContext,
    state: BackupState,
    planned: Planned,
    mark: str,
    before: Sequence[CheckpointInfo],
    level: Consistency,
) -> CheckpointInfo:
    """Create the checkpoint; when the reply is lost, look for it."""
    existing = {checkpoint.checkpoint_id for checkpoint in before}
    try:
        return context.host.create_checkpoint(
            context.vm_id,
            mark,
            level,
            existing=existing,
            ignore_disks=planned.ignore_disks,
            job_seconds=context.options.limits.job_seconds,
        )
    except (SessionLost, OperationTimedOut, ConnectionLimit):
        state.uncertain = True
        for checkpoint in context.host.checkpoints(context.vm_id):
            if (
                checkpoint.name == mark
                and is_ours(context.repository.repository_id, checkpoint)
                and checkpoint.checkpoint_id not in existing
            ):
                context.note("the reply was lost, but the checkpoint was created")
                return checkpoint
        raise
