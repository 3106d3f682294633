"""Targets of a restore: where the disks of a VM go.

A target is written ``KIND:PLACE``. ``raw:FOLDER`` is a folder of sparse raw images, one per disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.options import TextForm
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.sinks import DiskSink, RawFile

KINDS = ("raw",)

# What one part of a path cannot or should not contain; the name of a VM may contain anything.
_UNSAFE = re.compile(r"[/\x00-\x1f\x7f]")
_MAX_PART_CHARACTERS = 200


class RestoreTarget(Protocol):
    """Takes the disks of one VM."""

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
            the file of the only disk.
        repository: the one that is restored from, in which nothing may be written.
        overwrite: replace files that exist.
    """

    path: Path
    repository: Repository
    overwrite: bool = False
    is_file: bool = False

    def file(self, disk: ManifestDisk) -> Path:
        """The file of a disk."""
        name = disk.slot.replace(" ", "-").replace(":", "-")
        return self.path if self.is_file else self.path / f"{name}.raw"

    def place(self, disk: ManifestDisk) -> str:
        """Path of the disk's file."""
        return str(self.file(disk))

    def sink(self, disk: ManifestDisk, data_bytes: int) -> RawFile:
        """The disk's file, growing under a hidden name."""
        path = self.file(disk)
        if self.repository.holds(path):
            raise ConfigurationError(str(path), "is inside the repository; restore to another folder")
        return RawFile(path, disk.size_bytes, data_bytes, overwrite=self.overwrite)


def parse_target(text: str) -> tuple[str, str]:
    """Kind and place of a target.

    Raises:
        ValueError: it is not a target.
    """
    kind, colon, place = text.partition(":")
    if not colon or not place or kind not in KINDS:
        raise ValueError(f"{text!r} is not a target; use {' or '.join(f'{kind}:PATH' for kind in KINDS)}")
    return kind, place


def _checked(text: str) -> str:
    parse_target(text)
    return text


TARGET = TextForm(read=_checked, name="`raw:`path", examples=("raw:/restore",))


def target_path(target: str, names: Mapping[str, str]) -> Path:
    """The path of a target, absolute, with ``{{ name }}`` filled in.

    Each value becomes one part of a path: separators and control characters in it are replaced, and a value
    of dots alone too, so that no name of a VM leads out of the folder.

    Raises:
        ValueError: it is not a target.
    """
    _, path = parse_target(target)
    for name, value in names.items():
        path = path.replace("{{ " + name + " }}", path_part(value))
    return Path(path).expanduser().absolute()


def open_target(
    target: str, names: Mapping[str, str], repository: Repository, *, overwrite: bool
) -> RestoreTarget:
    """The target that a text names.

    Args:
        target: for example ``raw:/restore/{{ vm }}``.
        names: what to fill in.
        repository: the one that is restored from.
        overwrite: whether it may replace what exists.

    Raises:
        ValueError: the text is not a target.
    """
    return RawImages(target_path(target, names), repository, overwrite)


def path_part(text: str) -> str:
    """Text as one part of a path."""
    part = _UNSAFE.sub("_", text)[:_MAX_PART_CHARACTERS]
    return "_" * max(len(part), 1) if not part.strip(".") else part
