"""Operations that check a host and gather evidence."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hvpsbridge.contract import checks, readings
from hvpsbridge.sim.engines.operations.context import Context, utc
from hvpsbridge.sim.model import DiskError
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.core import ADMIN_LOG, DISK_LOG, WORKER_LOG
from hvpsbridge.sim.standin.events import level
from hvpsbridge.units import MIB

_LOGS = (ADMIN_LOG, WORKER_LOG, DISK_LOG)
_MAX_LETTERS = 1000
_KINDS = {
    "NTFS": checks.StorageKind.NTFS,
    "ReFS": checks.StorageKind.REFS,
    "CSVFS": checks.StorageKind.CSV,
}
_SHARE = re.compile(r"\\\\(?:\?\\UNC\\)?([^\\?.][^\\]*\\[^\\]+)", re.IGNORECASE)


def get_access(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsAccess``."""
    knobs = context.model.knobs
    protected = _protection(context)
    states = {"administrator": checks.GroupState.ENABLED, "filtered": checks.GroupState.DENY_ONLY}
    yield checks.HostAccess(
        administrators=states.get(knobs.rights, checks.GroupState.ABSENT),
        hyperv_administrators=knobs.rights == "hyperv_administrator",
        volume_privilege=knobs.rights == "administrator" and not knobs.no_volume_privilege,
        defender_active=bool(knobs.defender) or None if protected else None,
        defender_rules=tuple(rule for rule in knobs.defender.split(",") if "=" in rule) if protected else (),
    )


def _protection(context: Context) -> bool:
    """Whether the classes of Defender can be read."""
    try:
        context.query("MSFT_MpComputerStatus")
        if context.model.knobs.defender:
            context.query("MSFT_MpPreference")
    except CallRefused:
        return False
    return True


def test_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Test-HvpsDisk``."""
    path, native, size = given["Path"], None, 0
    try:
        with context.process.readers.info_only(path):
            context.function("GetVirtualDiskInformation:1", path)
            size = context.model.disks.at(path).size_bytes
    except DiskError as err:
        native = int(err.code)
    yield checks.DiskProbe(path=path, native=native, size_bytes=size)


def read_sample(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Read-HvpsSample``."""
    block = random.randbytes(MIB)
    for start in range(0, given["LengthBytes"], MIB):
        yield readings.BlockMessage(block[: given["LengthBytes"] - start])


def get_storage(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsStorage``."""
    vm, model = context.vm(given["VmId"]), context.model
    context.query("Win32_Volume")
    paths = [vm.folder]
    for row in context.drive_chains(vm):
        if row.drive.layer is not None:
            paths.append(model.disks.layer(row.drive.layer).path)
            paths += [member.path for member in row.chain]
    volumes = sorted(model.volumes.all(), key=lambda volume: len(volume.root), reverse=True)
    found: dict[str, checks.StorageInfo] = {}
    for path in paths:
        volume = next((v for v in volumes if path.lower().startswith(v.root.lower())), None)
        share = _SHARE.match(path)
        if volume is not None:
            root, kind = volume.root, _KINDS.get(volume.file_system, checks.StorageKind.OTHER)
        elif share is not None:
            root, kind = rf"\\{share[1].lower()}", checks.StorageKind.SMB
        else:
            root, kind = path[:3], checks.StorageKind.OTHER
        found[root] = checks.StorageInfo(
            vm_id=vm.vm_id,
            root=root,
            kind=kind,
            file_system=None if volume is None else volume.file_system,
            free_bytes=None if volume is None else model.volumes.free_bytes(root),
            total_bytes=None if volume is None else volume.total_bytes,
        )
    yield from (found[root] for root in sorted(found))


def _is_read(context: Context) -> bool:
    """Whether the next log can be read; the script leaves others out."""
    try:
        context.cmdlet("Get-WinEvent")
    except CallRefused:
        return False
    return True


def get_event(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsEvent``. Entries of the model are about one VM each."""
    logs = [log for log in _LOGS if _is_read(context)]
    since = context.model.clock.now() - given["Seconds"]
    events = [
        event
        for event in context.model.nodes.events(context.node)
        if event.vm_id == given["VmId"] and event.log in logs and event.time >= since
    ]
    for event in events[::-1][: given["Most"]]:
        yield checks.EventInfo(
            log=event.log,
            event_id=event.event_id,
            level=level(event.event_id),
            time=utc(event.time),
            text=event.message[:_MAX_LETTERS],
        )
