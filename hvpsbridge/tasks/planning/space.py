"""How much a checkpoint's children may grow while the disks are read. Pure; an estimate, said to be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hvpsbridge.contract.results import DiskInfo, VolumeInfo
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.plan import DiskPlan, Mode
from hvpsbridge.units import MIB

# A cautious rate at which a disk is pulled (reference, transport: 19 to 65 MB/s a session).
PULL_BYTES_A_SECOND = 20 * MIB
# A child is never smaller than this once it is written to.
SMALLEST_CHILD_BYTES = 64 * MIB
# Where nothing is known of a disk: what a busy one writes within a second.
UNKNOWN_RATE_BYTES = 1 * MIB
# Of a disk, what an increment is taken to read while nothing is known of its changes.
UNKNOWN_CHANGE = 0.05


def child_growth(
    disks: Sequence[DiskPlan],
    paths: Mapping[str, str],
    volumes: Sequence[VolumeInfo],
    lineage: Lineage,
    excluded: Sequence[DiskInfo] = (),
) -> dict[str, int]:
    """Bytes the children of a checkpoint may take, by volume root.

    A disk's child grows at the rate at which the disk changed between its last two points, for as long
    as all disks take to read; it never outgrows the disk.

    Args:
        disks: the plan.
        paths: file of each slot, which is where its child comes to lie.
        volumes: of the VM.
        lineage: for the rates.
        excluded: disks that are not read, but get a child all the same.
    """
    seconds = sum(_read_bytes(disk) for disk in disks) / PULL_BYTES_A_SECOND
    growth: dict[str, int] = {}
    for disk in disks:
        root = volume_of(paths.get(disk.slot, ""), volumes)
        if root is None:
            continue
        rate = lineage.change_rate(disk.slot, disk.facts.disk_id)
        written = (UNKNOWN_RATE_BYTES if rate is None else rate) * seconds
        child = min(int(written) + SMALLEST_CHILD_BYTES, disk.facts.size_bytes)
        growth[root] = growth.get(root, 0) + child
    for other in excluded:
        root = volume_of(other.path or "", volumes)
        if root is not None:
            child = min(int(UNKNOWN_RATE_BYTES * seconds) + SMALLEST_CHILD_BYTES, other.size_bytes)
            growth[root] = growth.get(root, 0) + child
    return growth


def volume_of(path: str, volumes: Sequence[VolumeInfo]) -> str | None:
    """Root of the volume a path lies on: the longest that begins it, as Windows compares."""
    roots = [volume.root for volume in volumes if path.casefold().startswith(volume.root.casefold())]
    return max(roots, key=len, default=None)


def _read_bytes(disk: DiskPlan) -> float:
    if disk.mode is Mode.INCREMENTAL:
        known = disk.base.changed_bytes if disk.base is not None else 0
        return known or disk.facts.size_bytes * UNKNOWN_CHANGE
    return disk.facts.size_bytes
