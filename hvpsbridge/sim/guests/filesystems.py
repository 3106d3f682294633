"""What a guest file system must be able to do here, and which there are.

A partition is worked on as a sparse file of its own. ``make`` and ``change`` play the guest's kernel;
``check`` and ``read_out`` are judges that know nothing of how the partition came to be.
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
        """Short name, also the partition's."""

    @property
    def partition_type(self) -> UUID:
        """Type id in the partition table."""

    def unavailable(self) -> str:
        """Why this machine cannot work with it; empty when it can.

        Raises:
            ToolMissing: a program is not installed.
        """

    def make(self, partition: Path, folder: Path, *, seed: int) -> None:
        """Makes the file system in an existing blank file and fills it from a folder."""

    def change(self, partition: Path, folder: Path, change: Change, *, seed: int) -> None:
        """Does to the file system, in place, what was done to the folder (which is already new).

        May leave a journal that a mount would replay. What that would change in files is also changed in
        the folder, which stays the truth.
        """

    def check(self, partition: Path) -> tuple[str, ...]:
        """Complaints of the file system's own checker; empty when clean. Replays the journal first."""

    def read_out(self, partition: Path, into: Path) -> None:
        """Copies every file into a new folder. The partition has been checked."""


FILE_SYSTEMS: dict[str, FileSystem] = {system.name: system for system in (Ext4(), Fat32(), Ntfs())}
