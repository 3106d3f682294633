"""How long the first read of a VM takes, and whether its checkpoint may get that old. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hvpsbridge.contract.results import DiskInfo, DiskKind
from hvpsbridge.tasks.planning.eligibility import Finding, Severity
from hvpsbridge.units import duration_text, rate_text, size_text


def full_bytes(disks: Iterable[DiskInfo]) -> int:
    """About how much a full of these disks reads: what their files hold.

    The file of a disk with parents does not tell, so such a disk counts with its whole size.
    """
    return sum(_data_bytes(disk) for disk in disks)


def _data_bytes(disk: DiskInfo) -> int:
    if disk.kind is DiskKind.DIFFERENCING or len(disk.chain) > 1 or not disk.file_bytes:
        return disk.size_bytes
    return min(disk.file_bytes, disk.size_bytes)


def duration_finding(read_bytes: int, rate_bytes: float, checkpoint_age: float) -> Finding | None:
    """A note if reading takes longer than the checkpoint may get old; else None.

    Args:
        read_bytes: how much is read.
        rate_bytes: measured rate per second of one reader.
        checkpoint_age: seconds after which a backup is aborted.
    """
    seconds = read_bytes / max(rate_bytes, 1.0)
    if seconds <= checkpoint_age:
        return None
    rate = rate_text(int(rate_bytes), 1)
    return Finding(
        Severity.NOTE,
        f"reading {size_text(read_bytes)} takes about {duration_text(seconds)} at {rate}, "
        f"and a checkpoint may be only {duration_text(checkpoint_age)} old",
        "raise limits: checkpoint_age, use more readers, or exclude disks",
    )
