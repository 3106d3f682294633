"""Guests for the simulated host: disks with real file systems and real files, changed as guests change them.

``GuestDisk`` makes a disk and newer states of it; ``check_disk`` and ``images_equal`` look at a restored one
from outside the product; ``usable_file_systems`` says what this machine can work with.
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
    """Each file system's name with the reason why it cannot be used here; empty when it can."""
    reasons: dict[str, str] = {}
    for name, system in FILE_SYSTEMS.items():
        try:
            reasons[name] = system.unavailable()
        except HvpsError as err:
            reasons[name] = str(err)
    return reasons
