"""Holds what a host answers against what it was asked. Pure.

Ids in an answer decide what hvps later removes, converts and records. So an answer that belongs to another VM
or checkpoint, or that names one thing twice, is refused here, before anything uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hvpsbridge.contract.restoring import PlannedVm
from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    DiskInfo,
    FrozenDisk,
    HostInfo,
    JobInfo,
    ReferencePointInfo,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.host.binding import BindingError
from hvpsbridge.units import TIB

# Parameters that a result repeats, and the field that does.
_REPEATED = {"VmId": "vm_id", "CheckpointId": "checkpoint_id"}


# Of a VHDX (MS-VHDX 2.6.2.4); a VHD has 512.
SECTORS = (512, 4096)
MAX_DISK_BYTES = 64 * TIB
MAX_BUILD = 1 << 31


# What must be different in each result of one answer, and how to call it.
_DISTINCT: Mapping[type, tuple[tuple[str, Callable[[Any], object]], ...]] = {
    DiskInfo: (("disk slot", slot_of), ("disk", lambda disk: disk.instance_id)),
    CheckpointInfo: (("checkpoint", lambda checkpoint: checkpoint.checkpoint_id),),
    FrozenDisk: (("disk slot", slot_of), ("file", lambda disk: disk.path.casefold())),
    ReferencePointInfo: (("reference point", lambda point: point.instance_id),),
    PlannedVm: (("planned VM", lambda planned: planned.vm_id),),
    JobInfo: (("job", lambda job: job.instance_id),),
}


def check_result(operation: str, parameters: Mapping[str, object], result: object) -> None:
    """Check one result of an operation.

    Raises:
        BindingError: it is not about what was asked; says what was asked and what came.
    """
    for parameter, field in _REPEATED.items():
        asked, came = parameters.get(parameter), getattr(result, field, None)
        if asked is not None and came is not None and came != asked:
            raise BindingError(f"asked for {parameter} {asked}, got {came}")
    if isinstance(result, FrozenDisk):
        if result.logical_sector_bytes not in SECTORS:
            raise BindingError(f"disk {slot_of(result)} has sectors of {result.logical_sector_bytes} bytes")
        if not 0 < result.size_bytes <= MAX_DISK_BYTES:
            raise BindingError(f"disk {slot_of(result)} has {result.size_bytes} bytes")
    if isinstance(result, HostInfo) and max(result.os_build, result.os_revision or 0) > MAX_BUILD:
        raise BindingError(f"the build of Windows is {result.os_build}.{result.os_revision}")
    if operation == "New-HvpsCheckpoint" and isinstance(result, CheckpointInfo):
        name = parameters["Name"]
        named = result.name == name or result.name_error is not None
        if not named or result.kind is not CheckpointKind.RECOVERY:
            raise BindingError(
                f"asked for a recovery checkpoint named {name!r}, got one of kind {result.kind} "
                f"named {result.name!r}"
            )


def check_results(results: Iterable[object]) -> None:
    """Check all results of an operation together.

    Raises:
        BindingError: two of them have the same id or slot.
    """
    seen: set[tuple[str, object]] = set()
    for result in results:
        for what, key_of in _DISTINCT.get(type(result), ()):
            key = key_of(result)
            if key is None:
                continue
            if (what, key) in seen:
                raise BindingError(f"{what} {key} is listed twice")
            seen.add((what, key))
