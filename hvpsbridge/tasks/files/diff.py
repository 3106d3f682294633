"""What changed between two recovery points: parts of disks, and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems.client import OnUnreadable
from hvpsbridge.filesystems.model import Volume
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.files.comparison import ChangedFiles
from hvpsbridge.tasks.files.point_files import PointFiles, address, open_point


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedVolume:
    """A volume of the later point that differs.

    Attributes:
        volume: DISK:PARTITION; for a part of a disk that no partition has, DISK and ``outside partitions``.
        changed_bytes: of chunks there that differ; of a logical volume, 0, since chunks are counted with its
            physical volume.
        files: that differ in kind, size, time, mode, owner or link target.
        not_compared: why its files were not compared; empty if they were.
    """

    volume: str
    content: str
    changed_bytes: int
    files: ChangedFiles
    not_compared: str = ""


def changed_extents(repository: Repository, one: ManifestDisk, other: ManifestDisk) -> Iterator[Extent]:
    """Extents of chunks of the later disk ``other`` that differ from the earlier disk, ascending."""
    grid = repository.grid
    before = iter(repository.image_of(one.tree).chunk_ids())
    after = iter(repository.image_of(other.tree).chunk_ids())
    left, right = next(before, None), next(after, None)
    while left is not None or right is not None:
        first = min(each[0] for each in (left, right) if each is not None)
        mine = left if left is not None and left[0] == first else None
        theirs = right if right is not None and right[0] == first else None
        if (mine is None or theirs is None or mine[1] != theirs[1]) and first < grid.count(other.size_bytes):
            yield grid.extent(first, other.size_bytes)
        left = next(before, None) if mine is not None else left
        right = next(after, None) if theirs is not None else right


def diff(
    repository: Repository, one: Point, other: Point, on_unreadable: OnUnreadable
) -> tuple[ChangedVolume, ...]:
    """Volumes of the later point that differ from the earlier one.

    Args:
        on_unreadable: called for what cannot be compared.
    """
    slots = {disk.slot: disk for disk in one.disks}
    changed: dict[int, list[Extent]] = {}
    for number, disk in enumerate(other.disks):
        before = slots.get(disk.slot)
        if before is None:
            changed[number] = list(repository.image_of(disk.tree).extents())
        elif before.tree != disk.tree:
            changed[number] = list(changed_extents(repository, before, disk))
    if not any(changed.values()):
        return ()
    with (
        repository.readers() as readers,
        open_point(repository, one, readers) as left,
        open_point(repository, other, readers) as right,
    ):
        earlier = {(one.disks[each.disk].slot, each.name): index for index, each in enumerate(left.volumes)}
        found = []
        for index, volume in enumerate(right.volumes):
            logical = "/" in volume.name
            touched = sum(
                _overlap(changed.get(disk, ()), offset, offset + piece.part_bytes)
                for piece in right.files.content(index).pieces
                for disk, offset in piece.places
            )
            # Where a refused logical volume is, is not known.
            if not touched and not (logical and volume.refused):
                continue
            base = earlier.get((other.disks[volume.disk].slot, volume.name))
            files, why = _files(left, base, right, index, on_unreadable)
            if logical and not files and not why:
                continue
            found.append(
                ChangedVolume(
                    volume=address(volume),
                    content=volume.content,
                    changed_bytes=0 if logical else touched,
                    files=files,
                    not_compared=why,
                )
            )
        return tuple(found) + tuple(_outside(changed, right.volumes))


def _overlap(extents: Sequence[Extent], start: int, end: int) -> int:
    return sum(max(0, min(each.end, end) - max(each.offset, start)) for each in extents)


def _outside(changed: dict[int, list[Extent]], volumes: Sequence[Volume]) -> Iterator[ChangedVolume]:
    for number, extents in changed.items():
        inside = sum(
            _overlap(extents, each.offset, each.offset + each.size_bytes)
            for each in volumes
            if each.disk == number and "/" not in each.name
        )
        rest = sum(each.length for each in extents) - inside
        if rest > 0:
            yield ChangedVolume(
                volume=f"{number} outside partitions", content="", changed_bytes=rest, files=ChangedFiles()
            )


def _files(
    left: PointFiles, base: int | None, right: PointFiles, index: int, on_unreadable: OnUnreadable
) -> tuple[ChangedFiles, str]:
    if right.volumes[index].refused:
        return ChangedFiles(), right.volumes[index].refused
    if base is None or left.volumes[base].content != right.volumes[index].content:
        return ChangedFiles(), "the earlier point does not have this file system"
    try:
        left.files.open(base)
        right.files.open(index)
        earlier = left.files.walk(base, left.entry(base, b"/"), on_unreadable)
        later = right.files.walk(index, right.entry(index, b"/"), on_unreadable)
        return ChangedFiles(earlier, later), ""
    except FilesUnreadable as err:
        return ChangedFiles(), err.what
