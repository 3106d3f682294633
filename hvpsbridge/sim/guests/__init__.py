"""Guests for the simulated host: disks with real file systems and files, changed as guests change them.

``GuestDisk`` creates a disk and newer states of it. ``check_disk`` and ``images_equal`` check a restored disk
without product code. ``usable_file_systems`` tells which file systems this machine supports.
"""

from __future__ import annotations

from hvpsbridge.errors import HvpsError
from hvpsbridge.sim.guests.checks import DiskCheck, check_disk, images_equal
from hvpsbridge.sim.guests.disks import DiskState, GuestDisk, PartitionPlan
from hvpsbridge.sim.guests.filesystems import FILE_SYSTEMS

__all__ = [
    "DiskCheck",
    "DiskState",
    "GuestDisk",
    "PartitionPlan",
    "check_disk",
    "images_equal",
    "usable_file_systems",
]


def usable_file_systems() -> dict[str, str]:
    """For each file system, why it cannot be used on this machine; empty if it can."""
    reasons: dict[str, str] = {}
    for name, system in FILE_SYSTEMS.items():
        try:
            reasons[name] = system.unavailable()
        except HvpsError as err:
            reasons[name] = str(err)
    return reasons
