"""Operations on frozen disks: listing, changes, allocation, digests, closing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from hvpsbridge.contract import readings, results
from hvpsbridge.contract.errors import ERRORS, LOST_HANDLE_CODES
from hvpsbridge.formats.extents import Extent, normalise, pack_extents
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.sim.engines.failure import failure, of_disk
from hvpsbridge.sim.engines.operations.checkpoints import find
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.engines.operations.inventory import CONTROLLERS
from hvpsbridge.sim.model import DiskError, DiskHandle, VhdFormat
from hvpsbridge.sim.model.tracking import Answer
from hvpsbridge.units import MIB

CHUNKS_PER_PAGE = 1024
EXTENTS_PER_PAGE = 4096
MIN_CHUNK_BYTES = 4096
MAX_CHUNK_BYTES = 1 * MIB


def get_frozen_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsFrozenDisk``."""
    vm = context.vm(given["VmId"])
    context.cmdlet("Get-VMSnapshot", vm.vm_id)
    point = find(context, given)
    if point is None:
        raise failure("Hvps.CheckpointNotFound", f"checkpoint {given['CheckpointId']} does not exist")
    model = context.model
    context.cmdlet("Get-VMHardDiskDrive", point.checkpoint_id)
    for drive in model.disks.drives(point.vm_id, point.checkpoint_id):
        if drive.layer is None:
            continue
        slot = drive.slot
        chain = tuple(member.path for member in context.chain(drive.layer))
        try:
            layer = model.disks.layer(drive.layer)
        except DiskError as err:
            raise of_disk(err) from err
        enabled, newer, recent, code = _info_only_state(context, layer.path)
        yield results.FrozenDisk(
            vm_id=point.vm_id,
            checkpoint_id=point.checkpoint_id,
            controller_type=CONTROLLERS[slot.controller_type],
            controller_number=slot.controller_number,
            controller_location=slot.controller_location,
            path=layer.path,
            chain=chain,
            size_bytes=layer.size_bytes,
            logical_sector_bytes=layer.logical_sector_bytes,
            disk_id=layer.disk_id,
            tracking_enabled=enabled,
            newer_changes=newer,
            rct_id=recent or None,
            tracking_code=code,
        )


def _info_only_state(context: Context, path: str) -> tuple[bool, bool, str | None, int]:
    """Tracking as a handle for information reports it, and the code if it does not."""
    try:
        with context.process.readers.info_only(path) as handle:
            return *_state(context, handle), 0
    except DiskError as err:
        return False, False, None, err.code


def get_tracking(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDiskTracking``."""
    enabled, newer, recent, code = False, False, None, 0
    with context.process.readers.use(given["Path"]) as disk:
        try:
            enabled, newer, recent = _state(context, disk.handle)
        except DiskError as err:
            code = _unless_lost(err)
        yield results.DiskTracking(
            size_bytes=disk.size_bytes,
            logical_sector_bytes=disk.sector_bytes,
            tracking_enabled=enabled,
            newer_changes=newer,
            rct_id=recent or None,
            tracking_code=code,
        )


def get_change(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDiskChange``: pages until the length is covered or a page makes no progress."""
    offset, end = given["OffsetBytes"], given["OffsetBytes"] + given["LengthBytes"]
    while True:
        context.check()
        answer = _changes(context, given["Path"], given["RctId"], offset, end - offset)
        yield readings.ExtentPage(offset, answer.processed_bytes, pack_extents(answer.extents) or None)
        offset += answer.processed_bytes
        if not answer.processed_bytes or offset >= end:
            return


def _state(context: Context, handle: DiskHandle) -> tuple[bool, bool, str | None]:
    context.function("GetVirtualDiskInformation:15", handle.path)
    return context.model.driver.asked_state(handle)


def _changes(context: Context, path: str, rct_id: str, offset: int, length: int) -> Answer:
    """One step of a query: on the attached handle, else on a handle for information, as the C# asks."""
    readers = context.process.readers

    def ask(handle: DiskHandle) -> Answer:
        context.function("QueryChangesVirtualDisk", path)
        return context.model.driver.asked_changes(handle, rct_id, offset, length)

    try:
        with readers.use(path) as disk:
            return ask(disk.handle)
    except DiskError as err:
        code = _unless_lost(err)
    if code not in ERRORS["Hvps.TrackingUnusable"].disk_codes:
        with contextlib.suppress(DiskError), readers.info_only(path) as handle:
            return ask(handle)
    raise failure("Hvps.TrackingUnusable", f"cannot query changes of {path}", code)


def _unless_lost(error: DiskError) -> int:
    """The code of a refusal about tracking.

    Raises:
        Failure: the handle is gone.
    """
    if error.code in LOST_HANDLE_CODES:
        raise failure("Hvps.DiskUnreadable", f"the handle of {error.path} was lost", error.code) from error
    return int(error.code)


def get_allocation(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsAllocation``: the blocks that the files of a chain hold."""
    model = context.model
    extents: list[Extent] = []
    size = 0
    for path in given["Chain"]:
        try:
            context.function("CreateFile", path)
            layer = model.disks.at(path)
            model.driver.check_sharing(path)
            if layer.format is not VhdFormat.VHDX:
                raise failure("Hvps.FormatUnsupported", f"{path} is not a VHDX")
            if model.knobs.frozen_log:
                raise failure("Hvps.FormatUnsupported", f"{path} has a log to replay")
            extents += model.driver.allocated(path)
        except DiskError as err:
            raise of_disk(err) from err
        size = size or layer.size_bytes
    held = normalise(extents, size)
    start = 0
    for first in range(0, max(1, len(held)), EXTENTS_PER_PAGE):
        page = held[first : first + EXTENTS_PER_PAGE]
        end = size if first + EXTENTS_PER_PAGE >= len(held) else page[-1].end
        yield readings.ExtentPage(start, end - start, pack_extents(page) or None)
        start = end


def get_digest(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsDiskDigest``: SHA-256 of chunks; the last one ends with the disk."""
    chunk, offset, length = given["ChunkBytes"], given["OffsetBytes"], given["LengthBytes"]
    with context.process.readers.use(given["Path"]) as disk:
        size = disk.size_bytes
    if (
        not MIN_CHUNK_BYTES <= chunk <= MAX_CHUNK_BYTES
        or chunk & (chunk - 1)
        or offset % chunk
        or offset > size
        or length > size - offset
    ):
        what = f"no chunks of {chunk} bytes at {offset} for {length} bytes of {size}"
        raise failure("Hvps.BadRequest", what)
    first, last = offset // chunk, -(-(offset + length) // chunk)
    zeros = hashlib.sha256(bytes(chunk)).digest()
    for start in range(first, last, CHUNKS_PER_PAGE):
        page = bytearray()
        for number in range(start, min(start + CHUNKS_PER_PAGE, last)):
            context.check()
            with context.process.readers.use(given["Path"]) as disk:
                data = disk.read(number * chunk, min(chunk, size - number * chunk))
            empty = len(data) == chunk and not any(data[:64]) and data.count(0) == chunk
            page += zeros if empty else hashlib.sha256(data).digest()
        assert len(page) % DIGEST_BYTES == 0
        yield readings.DigestPage(start, bytes(page))


def close_reader(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Close-HvpsReader``."""
    yield readings.ReaderState(context.process.readers.close(given.get("Path") or None))
