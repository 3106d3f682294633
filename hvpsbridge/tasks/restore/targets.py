"""Targets of a restore: where the disks of a VM go.

A target is written ``KIND:PLACE``. ``raw:FOLDER`` is a folder of sparse raw images, one per disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.folders import absolute
from hvpsbridge.options import TextForm
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.file_names import MAX_NAME_BYTES, MappedName, path_part, shortened
from hvpsbridge.tasks.restore.images import FORMATS, ImageFiles
from hvpsbridge.tasks.restore.libvirt import LibvirtFolder
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource

# Of a target: a format of image files, or a whole VM for libvirt.
LIBVIRT = "libvirt"
KINDS = (*FORMATS, LIBVIRT)
# Before the name of a host that gets a VM.
HOST_PREFIX = "hyperv:"

_NAME = re.compile(r"\{\{ (\w+) \}\}")


class RestoreTarget(Protocol):
    """Takes the disks of one VM."""

    @property
    def mapped(self) -> tuple[MappedName, ...]:
        """Names that had to be changed to become parts of a path."""
        ...

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Refuse what cannot work, before anything is written.

        Args:
            point: the point.
            sources: its disks that :meth:`write` will get.

        Raises:
            ConfigurationError: the disks cannot be written there.
        """
        ...

    def unfinished(self) -> tuple[Path, ...]:
        """What killed restores left beside the disks, under other names."""
        ...

    def write(self, source: DiskSource) -> RestoredDisk:
        """Restore one disk.

        Raises:
            TargetExists: something is there already, and may not be replaced.
            ConfigurationError: nothing may be written there.
            NoSpace: it does not fit.
            DiskDamaged: a chunk is not what was stored; the target keeps nothing.
            Interrupted: the restore was cancelled.
        """
        ...

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Do what is to be done when all disks are there."""
        ...


def parse_target(text: str) -> tuple[str, str]:
    """Kind and place of a target.

    Raises:
        ValueError: it is not a target.
    """
    kind, colon, place = text.partition(":")
    if not colon or not place or kind not in KINDS or "\0" in place:
        known = ", ".join(f"{kind}:PATH" for kind in KINDS)
        raise ValueError(f"{text!r} is not a target; use {known} or {HOST_PREFIX}HOST")
    return kind, place


def target_host(text: str) -> str | None:
    """The host that a target names; None if it is a place on this machine."""
    return text.removeprefix(HOST_PREFIX) if text.startswith(HOST_PREFIX) else None


def _checked(text: str) -> str:
    if not target_host(text):
        parse_target(text)
    return text


TARGET = TextForm(
    read=_checked,
    name="a format or libvirt, `:` and a path; or `hyperv:` and a host",
    examples=("raw:/restore", "vhdx:/restore/{{ vm }}", "hyperv:hv02"),
)


def fill_names(text: str, names: Mapping[str, str]) -> str:
    """The text with ``{{ name }}`` filled in, once."""
    return _NAME.sub(lambda match: names.get(match[1], match[0]), text)


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
    target: str, names: Mapping[str, str], repository: Repository, *, overwrite: bool, is_file: bool = False
) -> RestoreTarget:
    """The target that a text names.

    Args:
        target: for example ``raw:/restore/{{ vm }}``.
        names: what to fill in.
        repository: the one that is restored from.
        overwrite: whether it may replace what exists.
        is_file: the path is the file of the only disk, not a folder.

    Raises:
        ConfigurationError: the text is not a target.
    """
    try:
        kind, _ = parse_target(target)
        path, mapped = target_path(target, names)
    except ValueError as err:
        raise ConfigurationError(target, str(err)) from err
    if kind == LIBVIRT:
        return LibvirtFolder(ImageFiles(path, repository, "qcow2", overwrite, mapped=mapped))
    return ImageFiles(path, repository, kind, overwrite, is_file=is_file, mapped=mapped)
