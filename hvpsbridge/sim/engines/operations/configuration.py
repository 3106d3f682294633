"""``Read-HvpsConfiguration``: the configuration files of a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from hvpsbridge.contract import readings
from hvpsbridge.sim.engines.failure import failure, of_disk
from hvpsbridge.sim.engines.operations.checkpoints import found
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import DiskError, HyperVError
from hvpsbridge.units import MIB

PIECE_BYTES = 1 * MIB


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
        try:
            context.function("CreateFile", file.path)
        except DiskError as err:
            problem = of_disk(err)
            if problem.is_a("Hvps.FileNotFound") and not file.path.endswith(".vmcx"):
                continue
            raise problem from err
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
