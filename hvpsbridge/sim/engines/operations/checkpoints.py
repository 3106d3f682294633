"""Operations on checkpoints, reference points, merges and configuration files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from hvpsbridge.contract import readings, results
from hvpsbridge.sim.engines.binder import VALIDATION
from hvpsbridge.sim.engines.failure import Failure, failure, of_refusal
from hvpsbridge.sim.engines.operations.context import Context, utc
from hvpsbridge.sim.model import Consistency, HyperVError, SnapshotType
from hvpsbridge.sim.model.state import Checkpoint, Job, Operational, ReferencePoint
from hvpsbridge.units import MIB

_KINDS = {
    SnapshotType.Standard: results.CheckpointKind.STANDARD,
    SnapshotType.Recovery: results.CheckpointKind.RECOVERY,
    SnapshotType.Planned: results.CheckpointKind.PLANNED,
    SnapshotType.Replica: results.CheckpointKind.REPLICA,
    SnapshotType.AppConsistentReplica: results.CheckpointKind.REPLICA,
    SnapshotType.SyncedReplica: results.CheckpointKind.REPLICA,
}
_CONSISTENCY = {
    Consistency.Application: results.Consistency.APPLICATION,
    Consistency.Crash: results.Consistency.CRASH,
}
_LEVELS = {"application": Consistency.Application, "crash": Consistency.Crash}
_MERGING = {
    Operational.CreatingSnapshot,
    Operational.DeletingSnapshot,
    Operational.MergingDisks,
    Operational.BackingUpVirtualMachine,
}
# How long to wait until cmdlets show a new checkpoint (docs/hyperv-facts.md#checkpoint-listed-late).
VISIBLE_SECONDS = 60.0
PIECE_BYTES = 1 * MIB


def get_checkpoint(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsCheckpoint``."""
    vm = context.vm(given["VmId"])
    for point in context.model.checkpoints.all(vm.vm_id):
        yield _checkpoint_info(context, point)


def _checkpoint_info(context: Context, point: Checkpoint) -> results.CheckpointInfo:
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
    try:
        job = context.run_job(
            "making a checkpoint",
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
    checkpoint_id = UUID(_result(context, job, "checkpoint"))
    try:
        context.model.checkpoints.rename(checkpoint_id, given["Name"])
    except HyperVError as err:
        # Without its name nothing would show that it is ours.
        context.model.checkpoints.remove(checkpoint_id)
        raise of_refusal("the renaming", err) from err
    end = time.monotonic() + VISIBLE_SECONDS
    while time.monotonic() < end:
        for point in context.model.checkpoints.all(vm.vm_id):
            if point.checkpoint_id == checkpoint_id:
                yield _checkpoint_info(context, point)
                return
        context.pause()
    raise failure("Hvps.JobFailed", f"checkpoint {checkpoint_id} does not appear")


def _result(context: Context, job: Job, name: str) -> str:
    """The id of what a job made, which only the job itself tells.

    Raises:
        Failure: the job is gone.
    """
    knobs = context.model.knobs
    if knobs.job_vanishes and not knobs.jobs_at_once:
        raise failure("Hvps.JobFailed", f"the {name} was created, but its job was gone before it named it")
    return job.results[name]


def remove_checkpoint(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsCheckpoint``. A checkpoint that does not exist counts as removed."""
    point = _find(context, given)
    if point is not None:
        checkpoint_id = point.checkpoint_id
        if point.kind is not SnapshotType.Recovery or point.name != given["Name"]:
            raise failure(
                "Hvps.BadRequest",
                f"checkpoint {checkpoint_id} is not the recovery checkpoint named {given['Name']}; "
                "it is left alone",
            )
        context.run_job(
            "removing the checkpoint",
            lambda: context.model.checkpoints.remove(checkpoint_id),
            given["JobSeconds"],
        )
    yield results.Removal(removed=point is not None)


def _find(context: Context, given: Mapping[str, Any]) -> Checkpoint | None:
    for point in context.model.checkpoints.all(given["VmId"], hidden=True):
        if point.checkpoint_id == given["CheckpointId"]:
            return point
    return None


def found(context: Context, given: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that ``VmId`` and ``CheckpointId`` name.

    Raises:
        Failure: the VM or the checkpoint does not exist.
    """
    context.vm(given["VmId"])
    point = _find(context, given)
    if point is None:
        raise failure("Hvps.CheckpointNotFound", f"checkpoint {given['CheckpointId']} does not exist")
    return point


def get_reference_point(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsReferencePoint``."""
    vm = context.vm(given["VmId"])
    for point in context.model.reference_points.all(vm.vm_id):
        yield _reference_point_info(point)


def _reference_point_info(point: ReferencePoint) -> results.ReferencePointInfo:
    return results.ReferencePointInfo(
        vm_id=point.vm_id,
        instance_id=point.instance_id,
        kind=results.ReferencePointKind.LOG if point.kind == 1 else results.ReferencePointKind.RCT,
        consistency=_CONSISTENCY.get(point.consistency, results.Consistency.UNKNOWN),
        disk_instance_ids=tuple(point.disks),
        rct_ids=tuple(point.rct_ids),
    )


def convert(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``ConvertTo-HvpsReferencePoint``."""
    point = found(context, given)
    job = context.run_job(
        "converting the checkpoint",
        lambda: context.model.checkpoints.convert(point.checkpoint_id),
        given["JobSeconds"],
    )
    wanted = _result(context, job, "reference_point")
    for made in context.model.reference_points.all(point.vm_id):
        if made.instance_id == wanted:
            yield _reference_point_info(made)
            if not _has_ids(made, given):
                _discard(context, made, given["JobSeconds"])
            return
    raise failure("Hvps.JobFailed", f"reference point {wanted} does not appear")


def _has_ids(point: ReferencePoint, given: Mapping[str, Any]) -> bool:
    return set(given.get("RctIds") or ()).issubset(point.rct_ids)


def _discard(context: Context, point: ReferencePoint, seconds: int) -> None:
    """Destroy what the conversion made; if that fails, it stays."""
    with suppress(Failure):
        context.run_job(
            "removing the reference point",
            lambda: context.model.reference_points.remove(point.instance_id),
            seconds,
        )


def remove_reference_point(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsReferencePoint``. A reference point that does not exist counts as removed."""
    instance_id = given["InstanceId"]
    known = {point.instance_id: point for point in context.model.reference_points.all(given["VmId"])}
    if instance_id in known:
        if not _has_ids(known[instance_id], given):
            raise failure(
                "Hvps.BadRequest",
                f"reference point {instance_id} does not have the expected RCT ids; it is left alone",
            )
        context.run_job(
            "removing the reference point",
            lambda: context.model.reference_points.remove(instance_id),
            given["JobSeconds"],
        )
    yield results.Removal(removed=instance_id in known)


def get_merge(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsMerge``."""
    vm = context.vm(given["VmId"])
    model = context.model
    status = model.vms.status(vm.vm_id)
    paths = [
        layer.path
        for drive in model.disks.drives(vm.vm_id)
        if drive.layer is not None
        for layer in model.disks.chain(drive.layer)
    ]
    yield results.MergeState(vm.vm_id, not _MERGING.isdisjoint(status), status, tuple(paths))


def read_configuration(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Read-HvpsConfiguration``."""
    point = found(context, given)
    try:
        files = context.model.vms.configuration(point.vm_id, point.checkpoint_id)
    except HyperVError as err:
        raise failure(
            "Hvps.CheckpointNotFound", f"checkpoint {given['CheckpointId']} does not exist"
        ) from err
    for file in files:
        for offset in range(0, max(1, len(file.content)), PIECE_BYTES):
            context.check()
            data = file.content[offset : offset + PIECE_BYTES]
            yield readings.FilePiece(
                path=file.path,
                name=file.path.rpartition("\\")[2],
                size_bytes=len(file.content),
                offset_bytes=offset,
                sha256=hashlib.sha256(data).hexdigest(),
                data=data or None,
            )
