"""Free space for a checkpoint: an estimate of how far its children grow while the disks are read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hvpsbridge.contract.results import DiskInfo, VolumeInfo
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.planning.plan import DiskPlan
from hvpsbridge.units import MIB, size_text

# A cautious rate at which disks are read; see docs/performance.md for measured ones.
READ_BYTES_PER_SECOND = 20 * MIB
# A child is at least this large once it was written to.
MIN_CHILD_BYTES = 64 * MIB
# What a busy disk writes per second; assumed while nothing is known about the disk.
UNKNOWN_RATE_BYTES = 1 * MIB
# Share of the disk that an increment reads; assumed while nothing is known about its changes.
UNKNOWN_CHANGE = 0.05


def child_growth(
    disks: Sequence[DiskPlan],
    paths: Mapping[str, str],
    volumes: Sequence[VolumeInfo],
    lineage: Lineage,
    excluded: Sequence[DiskInfo] = (),
) -> dict[str, int]:
    """Bytes the children of a checkpoint may need, by volume root.

    The child of a disk grows at the rate at which the disk changed between its last two points, for as long
    as it takes to read all disks, but never beyond the size of the disk.

    Args:
        disks: the plan.
        paths: file of each slot; the child is created on the same volume.
        volumes: those of the VM.
        lineage: for the rates.
        excluded: disks that are not read, but get a child as well.
    """
    seconds = sum(_read_bytes(disk) for disk in disks) / READ_BYTES_PER_SECOND
    growth: dict[str, int] = {}
    for disk in disks:
        root = volume_of(paths.get(disk.slot, ""), volumes)
        if root is None:
            continue
        rate = lineage.change_rate(disk.slot, disk.facts.disk_id)
        written = (UNKNOWN_RATE_BYTES if rate is None else rate) * seconds
        child = min(int(written) + MIN_CHILD_BYTES, disk.facts.size_bytes)
        growth[root] = growth.get(root, 0) + child
    for other in excluded:
        root = volume_of(other.path or "", volumes)
        if root is not None:
            child = min(int(UNKNOWN_RATE_BYTES * seconds) + MIN_CHILD_BYTES, other.size_bytes)
            growth[root] = growth.get(root, 0) + child
    return growth


def space_shortage(
    volumes: Sequence[VolumeInfo], floor_bytes: int, growth: Mapping[str, int] | None = None
) -> str | None:
    """The first volume with too little free space, as a sentence; None if there is none.

    Args:
        volumes: those of the VM.
        floor_bytes: free space each of them must keep.
        growth: what the checkpoint may still take, by volume root.
    """
    for volume in volumes:
        needed = (growth or {}).get(volume.root, 0)
        if volume.free_bytes - needed < floor_bytes:
            text = f"volume {volume.root} has {size_text(volume.free_bytes)} free"
            if needed:
                text += f", the checkpoint may take {size_text(needed)}"
            return f"{text}, and {size_text(floor_bytes)} must stay free"
    return None


def volume_of(path: str, volumes: Sequence[VolumeInfo]) -> str | None:
    """Root of the volume that holds a path: the longest root the path begins with, ignoring case."""
    roots = [volume.root for volume in volumes if path.casefold().startswith(volume.root.casefold())]
    return max(roots, key=len, default=None)


def _read_bytes(disk: DiskPlan) -> float:
    if disk.mode is Mode.INCREMENTAL:
        known = disk.base.changed_bytes if disk.base is not None else 0
        return known or disk.facts.size_bytes * UNKNOWN_CHANGE
    return disk.facts.size_bytes
