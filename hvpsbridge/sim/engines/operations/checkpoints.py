"""Operations on checkpoints and merges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.binder import VALIDATION
from hvpsbridge.sim.engines.failure import Failure, failure, of_call
from hvpsbridge.sim.engines.operations.context import Context, utc
from hvpsbridge.sim.model import Consistency, HyperVError, SnapshotType, VMState
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import Checkpoint, Job, Operational

T = TypeVar("T")

_KINDS = {
    SnapshotType.Standard: results.CheckpointKind.STANDARD,
    SnapshotType.Recovery: results.CheckpointKind.RECOVERY,
    SnapshotType.Planned: results.CheckpointKind.PLANNED,
    SnapshotType.Replica: results.CheckpointKind.REPLICA,
    SnapshotType.AppConsistentReplica: results.CheckpointKind.REPLICA,
    SnapshotType.SyncedReplica: results.CheckpointKind.REPLICA,
}
_LEVELS = {"application": Consistency.Application, "crash": Consistency.Crash}
_MERGING = {
    Operational.CreatingSnapshot,
    Operational.ApplyingSnapshot,
    Operational.ApplyingSnapshotOfModule,
    Operational.DeletingSnapshot,
    Operational.MergingDisks,
    Operational.BackingUpVirtualMachine,
}
SNAPSHOTS = "Msvm_VirtualSystemSnapshotService."
# How long to wait until cmdlets show a new checkpoint (docs/hyperv-facts.md#checkpoint-listed-late).
VISIBLE_SECONDS = 60.0
# How long a call is tried again while the checkpoint is busy, and how long the renaming may take.
BUSY_SECONDS = 10.0
RENAME_SECONDS = 60


def get_checkpoint(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsCheckpoint``."""
    vm = context.vm(given["VmId"])
    context.cmdlet("Get-VMSnapshot", vm.vm_id)
    for point in context.model.checkpoints.all(vm.vm_id):
        yield _checkpoint_info(context, point)


def _checkpoint_info(
    context: Context, point: Checkpoint, name_error: str | None = None
) -> results.CheckpointInfo:
    context.cmdlet("Get-VMHardDiskDrive", point.checkpoint_id)
    return results.CheckpointInfo(
        vm_id=point.vm_id,
        checkpoint_id=point.checkpoint_id,
        name=point.name,
        kind=_KINDS.get(point.kind, results.CheckpointKind.OTHER),
        created=utc(point.created),
        parent_id=point.parent,
        disk_paths=tuple(
            context.model.disks.layer(drive.layer).path
            for drive in context.model.disks.drives(point.vm_id, point.checkpoint_id)
            if drive.layer is not None
        ),
        name_error=name_error,
    )


def new_checkpoint(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``New-HvpsCheckpoint``."""
    wanted = str(given["Consistency"]).lower()
    if wanted not in _LEVELS:
        # The error of ValidateSet in the script.
        raise Failure(
            "ParameterArgumentValidationError",
            "InvalidData",
            f"Cannot validate argument on parameter 'Consistency': {wanted!r} is not in the set.",
            type_names=VALIDATION,
        )
    level = _LEVELS[wanted]
    vm = context.vm(given["VmId"])
    context.query("Msvm_VirtualSystemSnapshotSettingData", cmdlet="Get-CimClass")
    context.wmi_vm(vm.vm_id)
    try:
        job = context.run_job(
            "making a checkpoint",
            SNAPSHOTS + "CreateSnapshot",
            vm.vm_id,
            lambda: context.model.checkpoints.create(
                vm.vm_id,
                kind=SnapshotType.Recovery,
                consistency=level,
                ignore_disks=given["IgnoreDisks"],
                node=context.node,
            ),
            given["JobSeconds"],
        )
    except Failure as err:
        if level is Consistency.Application and err.error_id.startswith("Hvps.JobFailed"):
            raise failure("Hvps.ConsistencyFailed", err.message, err.native) from err
        raise
    checkpoint_id = UUID(result_of(context, job, "checkpoint", "Msvm_VirtualSystemSettingData"))
    name = given["Name"]
    problem = _set_name(context, checkpoint_id, name)
    again = None
    try:
        if problem is not None:
            _listed(context, vm.vm_id, checkpoint_id)
            again = _rename(context, checkpoint_id, name)
        point = _listed(context, vm.vm_id, checkpoint_id, name if again is None else None)
        name_error = "the host took the name, but does not show it"
        if problem is not None and again is not None:
            name_error = f"{problem.message}; {again.message}"
        yield _when_free(
            context, lambda: _checkpoint_info(context, point, None if point.name == name else name_error)
        )
    except (Failure, CallRefused):
        # Without its name nothing shows that it is ours, unless the caller gets its id.
        if problem is not None:
            with suppress(Failure, CallRefused):
                context.call_method(
                    "removing the checkpoint",
                    SNAPSHOTS + "DestroySnapshot",
                    checkpoint_id,
                    lambda: context.model.checkpoints.remove(checkpoint_id),
                )
        raise


def _when_free(context: Context, action: Callable[[], T]) -> T:
    """``Invoke-HvpsWhenFree``: run an action, again for some seconds while something is busy.

    Raises:
        Failure, CallRefused: as the action does.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return action()
        except (Failure, CallRefused) as err:
            if err.category != "ResourceBusy" or time.monotonic() > end:
                raise
        context.pause()


def _set_name(context: Context, checkpoint_id: UUID, name: str) -> Failure | None:
    """``Set-HvpsCheckpointName``."""

    def set_name() -> None:
        context.run_method(
            "the renaming",
            "Msvm_VirtualSystemManagementService.ModifySystemSettings",
            checkpoint_id,
            lambda: context.model.checkpoints.rename(checkpoint_id, name),
            RENAME_SECONDS,
        )

    try:
        _when_free(context, set_name)
    except Failure as err:
        return err
    except CallRefused as err:
        return of_call(err)
    return None


def _rename(context: Context, checkpoint_id: UUID, name: str) -> Failure | None:
    """``Rename-HvpsSnapshot``."""
    try:
        _when_free(context, lambda: context.cmdlet("Rename-VMSnapshot", checkpoint_id))
        context.model.checkpoints.rename(checkpoint_id, name)
    except CallRefused as err:
        return of_call(err)
    except HyperVError as err:
        return failure("Hvps.Unexpected", err.message, err.hresult)
    return None


def _listed(context: Context, vm_id: UUID, checkpoint_id: UUID, name: str | None = None) -> Checkpoint:
    """``Wait-HvpsSnapshot``: the checkpoint once it is listed, with its name if that shows in some seconds.

    Raises:
        Failure: cmdlets do not list it.
        CallRefused: they fail.
    """
    end = time.monotonic() + VISIBLE_SECONDS
    shown = time.monotonic() + BUSY_SECONDS
    while True:
        _when_free(context, lambda: context.cmdlet("Get-VMSnapshot", vm_id))
        for point in context.model.checkpoints.all(vm_id):
            if point.checkpoint_id == checkpoint_id and (
                name in (None, point.name) or time.monotonic() > shown
            ):
                return point
        if time.monotonic() > end:
            raise failure("Hvps.JobFailed", f"checkpoint {checkpoint_id} does not appear")
        context.pause()


def result_of(context: Context, job: Job | None, name: str, class_name: str) -> str:
    """The id of what a job made, which only the job itself tells.

    Raises:
        Failure: the job is gone.
        CallRefused: the result cannot be asked for.
    """
    knobs = context.model.knobs
    if job is None or (knobs.job_vanishes and not knobs.jobs_at_once):
        raise failure("Hvps.JobFailed", f"the {name} was created, but its job was gone before it named it")
    if knobs.jobs_at_once:
        context.patiently(lambda: context.query(class_name, job.job_id))
    else:
        context.patiently(lambda: context.associated(class_name, job.job_id))
    return job.results[name]


def remove_checkpoint(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsCheckpoint``. A checkpoint that does not exist counts as removed."""
    point = None
    with vm_may_be_gone():
        context.wmi_vm(given["VmId"])
        context.associated("Msvm_VirtualSystemSettingData", given["VmId"])
        point = find(context, given)
    if point is not None:
        checkpoint_id = point.checkpoint_id
        if point.kind is not SnapshotType.Recovery or point.name != given["Name"]:
            raise failure(
                "Hvps.BadRequest",
                f"checkpoint {checkpoint_id} is not the recovery checkpoint named {given['Name']}; "
                "it is left alone",
            )
        job = context.run_job(
            "removing the checkpoint",
            SNAPSHOTS + "DestroySnapshot",
            checkpoint_id,
            lambda: context.model.checkpoints.remove(checkpoint_id),
            given["JobSeconds"],
        )
        if job is None:
            context.associated("Msvm_VirtualSystemSettingData", given["VmId"])
            if find(context, given) is not None:
                raise failure("Hvps.JobFailed", "the removal ended, but the checkpoint still exists")
    yield results.Removal(removed=point is not None)


@contextmanager
def vm_may_be_gone() -> Iterator[None]:
    """Pass over ``Hvps.VmNotFound``."""
    try:
        yield
    except Failure as err:
        if not err.is_a("Hvps.VmNotFound"):
            raise


def find(context: Context, given: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint that ``VmId`` and ``CheckpointId`` name; None if it does not exist."""
    for point in context.model.checkpoints.all(given["VmId"], hidden=True):
        if point.checkpoint_id == given["CheckpointId"]:
            return point
    return None


def found(context: Context, given: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that ``VmId`` and ``CheckpointId`` name, from WMI.

    Raises:
        Failure: the VM or the checkpoint does not exist.
        CallRefused: a query fails.
    """
    context.wmi_vm(given["VmId"])
    context.associated("Msvm_VirtualSystemSettingData", given["VmId"])
    point = find(context, given)
    if point is None:
        raise failure("Hvps.CheckpointNotFound", f"checkpoint {given['CheckpointId']} does not exist")
    return point


def remove_snapshot(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsSnapshot``."""
    vm = context.vm(given["VmId"])
    context.cmdlet("Get-VMSnapshot", vm.vm_id)
    points = context.model.checkpoints.all(vm.vm_id)
    point = next((one for one in points if one.checkpoint_id == given["CheckpointId"]), None)
    if point is not None:
        if point.name != given["Name"] or vm.state is not VMState.Off:
            raise failure("Hvps.BadRequest", f"checkpoint {point.checkpoint_id} is left alone")
        context.cmdlet("Remove-VMSnapshot", point.checkpoint_id)
        job = context.model.jobs.wait(context.model.checkpoints.remove(point.checkpoint_id))
        if job.error_code:
            raise failure("Hvps.Unexpected", job.error_text, job.error_code)
    yield results.Removal(point is not None)


def get_merge(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsMerge``."""
    vm = context.vm(given["VmId"])
    model = context.model
    status = model.vms.status(vm.vm_id)
    rows = context.drive_chains(vm, busy_seconds=0)
    unread = [row.drive.layer for row in rows if row.problem is not None and row.drive.layer is not None]
    yield results.MergeState(
        vm.vm_id,
        not _MERGING.isdisjoint(status),
        status,
        tuple(layer.path for row in rows for layer in row.chain),
        tuple(model.disks.layer(number).drive_path for number in unread),
    )
