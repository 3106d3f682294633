"""Slots of disks, as text."""

from __future__ import annotations

from hvpsbridge.contract.results import DiskInfo, FrozenDisk


def slot_of(disk: DiskInfo | FrozenDisk) -> str:
    """Controller and position of a disk, as ``scsi 0:1``."""
    return f"{disk.controller_type.value} {disk.controller_number}:{disk.controller_location}"
