"""Guest file systems.

A partition is a sparse file of its own. ``make`` and ``change`` act as the guest's kernel. ``check`` and
``read_out`` check the result, independently of how it was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from uuid import UUID

from hvpsbridge.sim.guests.ext4 import Ext4
from hvpsbridge.sim.guests.fat32 import Fat32
from hvpsbridge.sim.guests.files import Change
from hvpsbridge.sim.guests.ntfs import Ntfs


class FileSystem(Protocol):
    """One kind of guest file system."""

    @property
    def name(self) -> str:
        """Short name, also that of the partition."""

    @property
    def partition_type(self) -> UUID:
        """Type id in the partition table."""

    def unavailable(self) -> str:
        """Why it cannot be used on this machine; empty if it can.

        Raises:
            ToolMissing: a program is not installed.
        """

    def make(self, partition: Path, folder: Path, *, seed: int) -> None:
        """Create the file system in a blank file and fill it from a folder."""

    def change(self, partition: Path, folder: Path, change: Change, *, seed: int) -> None:
        """Apply to the file system, in place, what was done to the folder.

        May leave a journal that a mount replays. What the replay changes is also changed in the folder.
        """

    def check(self, partition: Path) -> tuple[str, ...]:
        """Errors of the file system's own checker, after a replay of the journal; empty if clean."""

    def read_out(self, partition: Path, into: Path) -> None:
        """Copy all files into a new folder. The partition has been checked."""


FILE_SYSTEMS: dict[str, FileSystem] = {system.name: system for system in (Ext4(), Fat32(), Ntfs())}
