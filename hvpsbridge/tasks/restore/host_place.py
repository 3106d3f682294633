"""The folder of a new VM on a host: where it is, and what is in the way there."""

from __future__ import annotations

import ntpath
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvpsbridge.errors import OperationFailed
from hvpsbridge.tasks.cleanup.restores import OpenRestore
from hvpsbridge.tasks.restore.host_file import PARTIAL
from hvpsbridge.units import size_text

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

DISK_FOLDER = "Virtual Hard Disks"
# The host writes configuration files in a folder of this name only.
IMPORT_FOLDER = "Imported Configuration"
# Folders that are made in that of the VM, the innermost first.
_FOLDERS = (DISK_FOLDER, IMPORT_FOLDER, "Virtual Machines", "Snapshots", "UndoLog Configuration")
# Windows takes longer paths only from programs that ask for it.
_MAX_PATH = 259


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Where a VM is made.

    Attributes:
        base: folder in which the folder of the VM is.
        problems: what is in the way, one line each.
        folders: those that will be made, the innermost first.
    """

    base: str
    problems: tuple[str, ...]
    folders: tuple[str, ...] = ()


def find_place(
    host: HyperVHost,
    folder: str | None,
    name: str,
    parts: Collection[str],
    needed_bytes: int,
    others: Iterable[OpenRestore],
) -> HostPlace:
    """Look at the place of a new VM.

    Args:
        host: the host.
        folder: in which the folder of the VM is made; None for the host's.
        name: of that folder.
        parts: paths of files in it.
        needed_bytes: of all files.
        others: restores that are at work, or could not be removed.

    Raises:
        HostError: the host cannot be asked.
    """
    try:
        found = host.restoring.folder(folder)
        place = ntpath.join(found.path, name)
        there = set(host.restoring.folder(found.path, (place, *_with_parents(found.path))).found)
    except OperationFailed as err:
        base = folder or ""
        where = f"folder {base} cannot be used: {err.message or err.error_id}"
        smb = "; SMB needs delegation, see docs/real-host.md" if base.startswith("\\\\") else ""
        return HostPlace(base, (where + smb,))
    problems = []
    longest = max((len(ntpath.join(place, part)) for part in parts), default=0)
    too_long = longest + len(PARTIAL) - _MAX_PATH
    if too_long > 0:
        problems.append(f"paths are too long by {too_long} characters; choose a shorter --path or --name")
    if any(one.intent.place.casefold() == place.casefold() for one in others):
        problems.append(f"another restore is making {place}; choose another --name or --path")
    elif place in there:
        problems.append(f"{place} exists; choose another --name or --path")
    if found.encrypted:
        what = "would be encrypted, and Hyper-V does not attach those; choose another --path"
        problems.append(f"files in {found.path} {what}")
    if needed_bytes > found.free_bytes:
        have = size_text(found.free_bytes)
        problems.append(f"the disks need {size_text(needed_bytes)}, and {found.path} has {have} free")
    inside = (ntpath.join(place, part) for part in _FOLDERS)
    around = (each for each in _with_parents(found.path) if each not in there)
    return HostPlace(found.path, tuple(problems), (*inside, place, *around))


def _with_parents(folder: str) -> Iterator[str]:
    """A folder and those around it, the innermost first, without the root of the volume."""
    while ntpath.dirname(folder) != folder:
        yield folder
        folder = ntpath.dirname(folder)
