"""Targets of a restore: where the disks of a VM go.

A target is written ``KIND:PLACE``. ``raw:FOLDER`` is a folder of sparse raw images, one per disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hvpsbridge.errors import ConfigurationError, TargetExists
from hvpsbridge.folders import absolute
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.options import TextForm
from hvpsbridge.repository import Repository, repository_around
from hvpsbridge.tasks.devices import BlockDevice, is_among_devices, is_device
from hvpsbridge.tasks.file_names import MAX_NAME_BYTES, MappedName, path_part, shortened
from hvpsbridge.tasks.sinks import DiskSink, RawFile, unfinished_files
from hvpsbridge.text import folded

KINDS = ("raw",)

_NAME = re.compile(r"\{\{ (\w+) \}\}")
_SLOT = re.compile(r"[a-z]{1,8} [0-9]{1,4}:[0-9]{1,4}")


class RestoreTarget(Protocol):
    """Takes the disks of one VM."""

    @property
    def mapped(self) -> tuple[MappedName, ...]:
        """Names that had to be changed to become parts of a path."""
        ...

    def check(self, disks: Sequence[ManifestDisk]) -> None:
        """Refuse disks of which two would have one place.

        Raises:
            ConfigurationError: names both.
        """
        ...

    def unfinished(self) -> tuple[Path, ...]:
        """What killed restores left beside the disks, under other names."""
        ...

    def place(self, disk: ManifestDisk) -> str:
        """Where a disk goes, for reports."""
        ...

    def sink(self, disk: ManifestDisk, data_bytes: int) -> DiskSink:
        """Opens the place of a disk for writing.

        Args:
            disk: the disk.
            data_bytes: how much of it will be written; the rest is zeros.

        Raises:
            TargetExists: something is there already, and may not be replaced.
            ConfigurationError: nothing may be written there.
            NoSpace: it would not fit.
        """
        ...


@dataclass(frozen=True, slots=True)
class RawImages:
    """Sparse raw images on this machine.

    Attributes:
        path: a folder that gets a file per disk, named for its slot (``scsi-0-1.raw``); with ``is_file``,
            the file of the only disk, or a block device, which is written in place.
        repository: the one that is restored from, in which nothing may be written.
        overwrite: replace files that exist, or write into a device.
        mapped: names that had to be changed to become parts of the path.
    """

    path: Path
    repository: Repository
    overwrite: bool = False
    is_file: bool = False
    mapped: tuple[MappedName, ...] = ()

    def file(self, disk: ManifestDisk) -> Path:
        """The file of a disk."""
        return self.path if self.is_file else self.path / file_name(disk)

    def check(self, disks: Sequence[ManifestDisk]) -> None:
        """Refuse disks of which two would be one file, also where letter case does not count."""
        slots: dict[str, str] = {}
        for disk in disks:
            path = self.place(disk)
            other = slots.get(folded(path))
            if other is not None:
                raise ConfigurationError(
                    path, f"disks {other!r} and {disk.slot!r} would be one file; restore one with --disk"
                )
            slots[folded(path)] = disk.slot

    def unfinished(self) -> tuple[Path, ...]:
        """Hidden files of killed restores in the folder."""
        if is_device(self.path):
            return ()
        return unfinished_files(self.path.parent if self.is_file else self.path)

    def place(self, disk: ManifestDisk) -> str:
        """Path of the disk's file."""
        return str(self.file(disk))

    def sink(self, disk: ManifestDisk, data_bytes: int) -> RawFile | BlockDevice:
        """The disk's file, growing under a hidden name; or a device that it is written into."""
        path = self.file(disk)
        if is_device(self.path):
            if not self.is_file:
                raise ConfigurationError(
                    str(self.path), "is a block device; restore one disk into it with --disk"
                )
            if not self.overwrite:
                raise TargetExists(str(self.path))
            return BlockDevice(self.path, disk.size_bytes)
        if is_among_devices(path):
            raise ConfigurationError(str(path), "is not a block device, but would lie among the devices")
        if self.repository.holds(path):
            raise ConfigurationError(str(path), "is inside the repository; restore to another folder")
        if (other := repository_around(path)) is not None:
            what = f"is inside the repository {other}; restore to another folder"
            raise ConfigurationError(str(path), what)
        return RawFile(path, disk.size_bytes, data_bytes, overwrite=self.overwrite)


def file_name(disk: ManifestDisk) -> str:
    """Name of the file of a disk, from its slot: ``scsi-0-1.raw``.

    A manifest of a repository without encryption can be forged: its slots can be any text. What is not a slot
    ends with a digest of it, so that it is not another disk's name.
    """
    slot = disk.slot
    if _SLOT.fullmatch(slot):
        return f"{slot.replace(' ', '-').replace(':', '-')}.raw"
    return f"{shortened(path_part(slot), 100, slot, always=True)}.raw"


def parse_target(text: str) -> tuple[str, str]:
    """Kind and place of a target.

    Raises:
        ValueError: it is not a target.
    """
    kind, colon, place = text.partition(":")
    if not colon or not place or kind not in KINDS or "\0" in place:
        raise ValueError(f"{text!r} is not a target; use {' or '.join(f'{kind}:PATH' for kind in KINDS)}")
    return kind, place


def _checked(text: str) -> str:
    parse_target(text)
    return text


TARGET = TextForm(read=_checked, name="`raw:`path", examples=("raw:/restore",))


def target_path(target: str, names: Mapping[str, str]) -> tuple[Path, tuple[MappedName, ...]]:
    """The path of a target, absolute, with ``{{ name }}`` filled in, and the names that had to be changed.

    Each value becomes one part of a path (``file_names.path_part``), so that no name of a VM leads out of the
    folder. What is filled in is not searched for ``{{ name }}`` or ``~`` again.

    Raises:
        ValueError: it is not a target.
        ConfigurationError: a relative or ``~`` path means nothing here.
    """
    _, place = parse_target(target)
    mapped: dict[str, MappedName] = {}
    base = absolute(Path(place))
    parts = (_fill(part, names, mapped) for part in base.parts[1:])
    return Path(base.anchor, *parts), tuple(mapped.values())


def _fill(part: str, names: Mapping[str, str], mapped: dict[str, MappedName]) -> str:
    """One part of a path with names filled in, and shortened if it is too long then."""

    def value(match: re.Match[str]) -> str:
        name = names.get(match[1])
        if name is None:
            return match[0]
        made = path_part(name)
        if made != name:
            mapped[name] = MappedName(name, made)
        return made

    whole = _NAME.sub(value, part)
    cut = whole if whole == part else shortened(whole, MAX_NAME_BYTES, whole)
    if cut != whole:
        mapped[whole] = MappedName(whole, cut)
    return cut


def open_target(
    target: str, names: Mapping[str, str], repository: Repository, *, overwrite: bool
) -> RawImages:
    """The target that a text names.

    Args:
        target: for example ``raw:/restore/{{ vm }}``.
        names: what to fill in.
        repository: the one that is restored from.
        overwrite: whether it may replace what exists.

    Raises:
        ConfigurationError: the text is not a target.
    """
    try:
        path, mapped = target_path(target, names)
    except ValueError as err:
        raise ConfigurationError(target, str(err)) from err
    return RawImages(path, repository, overwrite, mapped=mapped)
