"""Operations on reference points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.failure import Failure, failure
from hvpsbridge.sim.engines.operations.checkpoints import SNAPSHOTS, found, result_of, vm_may_be_gone
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import Consistency
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import ReferencePoint

_CONSISTENCY = {
    Consistency.Application: results.Consistency.APPLICATION,
    Consistency.Crash: results.Consistency.CRASH,
}
_DESTROY_REFERENCE_POINT = "Msvm_VirtualSystemReferencePointService.DestroyReferencePoint"


def get_reference_point(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsReferencePoint``."""
    context.import_module()
    vm = context.wmi_vm(given["VmId"])
    context.associated("Msvm_VirtualSystemReferencePoint", vm.vm_id)
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
    context.import_module()
    point = found(context, given)
    job = context.run_job(
        "converting the checkpoint",
        SNAPSHOTS + "ConvertToReferencePoint",
        point.checkpoint_id,
        lambda: context.model.checkpoints.convert(point.checkpoint_id),
        given["JobSeconds"],
    )
    wanted = result_of(context, job, "reference_point", "Msvm_VirtualSystemReferencePoint")
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
    with suppress(Failure, CallRefused):
        context.run_job(
            "removing the reference point",
            _DESTROY_REFERENCE_POINT,
            point.instance_id,
            lambda: context.model.reference_points.remove(point.instance_id),
            seconds,
        )


def remove_reference_point(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsReferencePoint``. A reference point that does not exist counts as removed."""
    instance_id = given["InstanceId"]
    known: dict[str, ReferencePoint] = {}
    with vm_may_be_gone():
        vm = context.wmi_vm(given["VmId"])
        context.associated("Msvm_VirtualSystemReferencePoint", vm.vm_id)
        known = {point.instance_id: point for point in context.model.reference_points.all(vm.vm_id)}
    removed = instance_id in known
    if removed:
        if not _has_ids(known[instance_id], given):
            raise failure(
                "Hvps.BadRequest",
                f"reference point {instance_id} does not have the expected RCT ids; it is left alone",
            )
        try:
            context.run_job(
                "removing the reference point",
                _DESTROY_REFERENCE_POINT,
                instance_id,
                lambda: context.model.reference_points.remove(instance_id),
                given["JobSeconds"],
            )
        except Failure as err:
            # Something else removed it meanwhile.
            if err.native not in (32779, 32789):
                raise
            removed = False
    yield results.Removal(removed=removed)
