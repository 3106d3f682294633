"""What is in the way of a restore into the disks of a VM. Nothing is changed."""

from __future__ import annotations

import ntpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    DiskFormat,
    DiskInfo,
    DiskKind,
    ReplicationMode,
    VmInfo,
    VmState,
)
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.formats.in_place import InPlaceDisk, Stage
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.restore.images import view_of
from hvpsbridge.tasks.restore.in_place_ledger import OpenInPlace
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import size_text

_AS_COPY = "restore it as a copy (--to hyperv:HOST without --replace)"


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceOptions:
    """What may be given up for a restore in place.

    Attributes:
        discard_saved_state: the memory of a VM that is saved.
        remove_checkpoints: checkpoints of the VM.
    """

    discard_saved_state: bool = False
    remove_checkpoints: bool = False


def vm_problems(vm: VmInfo, options: InPlaceOptions) -> list[str]:
    """What about the VM is in the way, one line each."""
    problems = []
    if vm.replication_mode is not ReplicationMode.NONE:
        problems.append("Hyper-V Replica works on the VM; remove its replication first")
    if vm.state is VmState.SAVED:
        if not options.discard_saved_state:
            problems.append("the VM is saved; shut it down, or use --discard-saved-state")
    elif vm.state is not VmState.OFF:
        problems.append(f"the VM is {vm.state}; shut it down first")
    return problems


def checkpoint_problems(repository: Repository, checkpoints: Iterable[CheckpointInfo]) -> list[str]:
    """A line if the VM has checkpoints that this repository's backups did not leave."""
    names = ", ".join(repr(one.name) for one in checkpoints if not is_ours(repository, one))
    return [f"the VM has checkpoints ({names}); remove them, or use --remove-checkpoints"] if names else []


def is_ours(repository: Repository, checkpoint: CheckpointInfo) -> bool:
    """Whether a backup into this repository left the checkpoint."""
    mark = parse_mark(checkpoint.name)
    recovery = checkpoint.kind is CheckpointKind.RECOVERY
    return recovery and mark is not None and mark.repository_id == repository.repository_id


def disk_problems(
    host: HyperVHost, sources: Sequence[DiskSource], there: Mapping[str, DiskInfo], *, merged: bool
) -> list[str]:
    """What about the disks is in the way, one line each.

    Args:
        host: the host.
        sources: disks to be restored.
        there: disks of the VM by slot.
        merged: whether a disk may have no parent file, because no checkpoint will be removed any more.

    Raises:
        HostError: the host cannot be asked.
    """
    problems = []
    wanted: dict[str, int] = {}
    for source in sources:
        disk = source.disk
        found = there.get(disk.slot)
        problem = _unfit(disk, found, merged=merged)
        if problem:
            problems.append(f"disk {disk.slot} {problem}")
            continue
        assert found is not None
        assert found.path is not None
        try:
            largest = view_of(source, _view_name(found)).size_bytes
        except ConfigurationError as err:
            problems.append(str(err))
            continue
        # The copy, and what the file may grow by.
        needed = max(found.file_bytes, largest)
        volume = ntpath.splitdrive(found.path)[0].casefold()
        wanted[volume] = wanted.get(volume, 0) + needed
        names = InPlaceDisk.of(disk.slot, found.path)
        folder = host.restoring.folder(ntpath.dirname(found.path), [names.undo, names.written])
        problems += [f"{path} exists" for path in folder.found]
        if wanted[volume] > folder.free_bytes:
            problems.append(
                f"a copy for an undo and the restored data need {size_text(wanted[volume])}, and "
                f"{ntpath.dirname(found.path)} has {size_text(folder.free_bytes)} free"
            )
    return problems


def earlier_problems(before: OpenInPlace, disks: Sequence[ManifestDisk], host: str, vm: VmInfo) -> list[str]:
    """What an earlier restore in place forbids; one that was killed is finished by this one."""
    if before.kept:
        return [
            f"the copies of an earlier restore are kept; use `hvps host undo {host} {vm.name}` or "
            f"`hvps host forget {host} {vm.name}` first"
        ]
    if before.restore.stage is Stage.UNDOING:
        return [f"an undo did not end; do `hvps host undo {host} {vm.name}` again"]
    slots = [disk.slot for disk in disks]
    if sorted(slots) != sorted(disk.slot for disk in before.restore.disks):
        began = ", ".join(disk.slot for disk in before.restore.disks)
        return [f"an earlier restore of disks {began} did not end; restore the same disks to finish it"]
    return []


def _unfit(disk: ManifestDisk, found: DiskInfo | None, *, merged: bool) -> str:
    """Why a disk of the VM cannot be written in place; empty if it can."""
    if found is None or found.path is None:
        return "is not in the VM; attach a disk of its size, or restore as a copy"
    if found.pass_through or found.shared:
        return "is a physical or shared disk"
    if found.error is not None:
        return f"cannot be read: {found.error}"
    if found.format not in (DiskFormat.VHDX, DiskFormat.VHD):
        return f"is a {found.format.value}, and only VHDX and VHD files are written in place"
    if merged and len(found.chain) > 1:
        return "has a parent file; merge it first"
    if found.logical_sector_bytes != disk.sector_bytes:
        return (
            f"has sectors of {found.logical_sector_bytes} bytes, and of {disk.sector_bytes} in the point; "
            f"{_AS_COPY}"
        )
    if found.size_bytes > disk.size_bytes:
        return (
            f"has {found.size_bytes} bytes, and {disk.size_bytes} in the point; disks are enlarged, never "
            f"made smaller: {_AS_COPY}"
        )
    return ""


def _view_name(found: DiskInfo) -> str:
    """The format of an image like the file of the disk."""
    return f"{found.format.value}-fixed" if found.kind is DiskKind.FIXED else found.format.value
