"""Whether firmware finds a boot loader in a new VM of generation 2, without the old boot entries."""

from __future__ import annotations

from collections.abc import Collection

from hvpsbridge.errors import FilesUnreadable, HvpsError
from hvpsbridge.filesystems.model import Entry
from hvpsbridge.formats.definition import generation_of
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.files.point_files import PointFiles, open_point

# What UEFI firmware starts if it knows nothing of a disk (UEFI specification 2.10, 3.5.1.1).
_PATH = (b"efi", b"boot", b"bootx64.efi")
_SHOWN = "\\EFI\\BOOT\\BOOTX64.EFI"


def boot_loader_notes(repository: Repository, point: Point, slots: Collection[str]) -> tuple[str, ...]:
    """What to say of the boot loader, one line each; nothing if there is one, or none is needed.

    Args:
        repository: of the point.
        point: that is restored.
        slots: of the disks that are restored.
    """
    if generation_of(point.manifest.definition) != 2:
        return ()
    try:
        with open_point(repository, point) as opened:
            numbers = {number for number, disk in enumerate(point.disks) if disk.slot in slots}
            if any(_has(opened, index) for index, each in enumerate(opened.volumes) if each.disk in numbers):
                return ()
    except HvpsError as err:
        return (f"hvps did not look for {_SHOWN}: {err}",)
    return (
        f"warning: no restored disk has {_SHOWN}, and boot entries are not in the point: "
        "the VM may not find its boot loader",
    )


def _has(opened: PointFiles, volume: int) -> bool:
    """Whether a volume has the file. Names of FAT do not depend on case."""
    if not opened.volumes[volume].content.startswith("fat"):
        return False
    try:
        opened.files.open(volume)
        entry: Entry | None = opened.entry(volume, b"/")
        for name in _PATH:
            if entry is None:
                return False
            children = opened.files.children(volume, entry)
            entry = next((each for each in children if each.path.rpartition(b"/")[2].lower() == name), None)
    except FilesUnreadable:
        return False
    return entry is not None
