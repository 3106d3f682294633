"""Logical volumes by libvslvm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyvslvm

from hvpsbridge.filesystems.disks import DiskFile, UnreadableError
from hvpsbridge.filesystems.reported import Reported
from hvpsbridge.formats.readable import Readable


class LogicalVolume:
    """One logical volume, as a readable."""

    def __init__(self, volume: Any, files: Sequence[DiskFile], name: str) -> None:
        self._volume = volume
        self._files = files
        self.name = name
        self.size_bytes = int(volume.size)

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``.

        Raises:
            UnreadableError: some of them cannot be read.
        """
        try:
            data: bytes = self._volume.read_buffer_at_offset(length, offset)
        except OSError as err:
            self._check()
            raise UnreadableError(f"{self.name}: {' '.join(str(err).split())[:300]}") from err
        self._check()
        if len(data) != length:
            raise UnreadableError(f"{self.name}: {len(data)} bytes instead of {length} at {offset}")
        return data

    def _check(self) -> None:
        for file in self._files:
            file.check()


@dataclass(frozen=True, slots=True)
class RefusedVolume:
    """A logical volume that cannot be read; the library does not give its name."""

    name: str
    reason: str


def logical_volumes(physical: Sequence[Readable]) -> list[LogicalVolume | RefusedVolume]:
    """The logical volumes on physical volumes of one volume group.

    Raises:
        UnreadableError: the group does not open, for example because a disk is missing.
    """
    files = [DiskFile(volume) for volume in physical]
    handle = pyvslvm.handle()
    with Reported(files[0], "the LVM volume group does not open"):
        handle.open_file_object(files[0])
        handle.open_physical_volume_files_as_file_objects(files)
        group = handle.get_volume_group()
        if group.number_of_physical_volumes != len(files):
            raise UnreadableError(
                f"volume group {group.name} has {group.number_of_physical_volumes} physical volumes, "
                f"but only {len(files)} are on disks of this point"
            )
        found: list[LogicalVolume | RefusedVolume] = []
        for index in range(group.number_of_logical_volumes):
            try:
                volume = group.get_logical_volume(index)
            except OSError:
                for file in files:
                    file.check()
                name = f"{group.name}/#{index + 1}"
                found.append(
                    RefusedVolume(name, "libvslvm cannot read it, as with volumes of several segments")
                )
                continue
            opened = LogicalVolume(volume, files, f"{group.name}/{volume.name}")
            opened.handle = handle  # type: ignore[attr-defined]  # the library closes it with its last reference
            found.append(opened)
    return found
