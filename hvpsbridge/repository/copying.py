"""Copying points to another repository, with another key, grid or store.

Points are copied oldest first and committed one by one, so an interrupted copy continues where it stopped,
and uses what it stored before. A chunk is read only if the target may not have it: chunks that are equal in
the point before come from its copy, and ids of a plain source show whether the target has a chunk. Every
pack is read back and checked before an index lists it.

Ids objects are not copied, because the reference point belongs to the source. So a copy cannot be a base, and
the first backup into the target compares.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hvpsbridge.formats.chunk import ZERO_ID
from hvpsbridge.formats.manifest import FileRef, ManifestDisk, Proof
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.repository import Repository
from hvpsbridge.repository.writer import DiskWriter, Writer

logger = logging.getLogger(__name__)
Progress = Callable[[Point, int, int], None]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied.

    Attributes:
        copied: points that were copied.
        present: points that the target had already.
        skipped: points older than the newest copy of their VM; a lineage only grows at its end.
        read_bytes: raw bytes read from the source.
        stored_bytes: bytes added to the target.
    """

    copied: tuple[Point, ...]
    present: tuple[Point, ...]
    skipped: tuple[Point, ...]
    read_bytes: int
    stored_bytes: int


@dataclass(slots=True)
class _Count:
    read_bytes: int = 0
    stored_bytes: int = 0


def copy_points(
    source: Repository,
    target: Repository,
    points: Sequence[Point] | None = None,
    *,
    on_progress: Progress | None = None,
) -> CopyReport:
    """Copy points that the target does not have.

    Args:
        source: only read.
        target: written to.
        points: which; all when None.
        on_progress: called after each point with the point, its number and the count of all.

    Raises:
        Damaged: a chunk of the source is bad, or was not stored correctly. Points copied before stay.
        RepositoryLocked: another process works on one of the VMs in the target.
    """
    run_id = uuid4()
    count = _Count()
    wanted = source.catalog.points() if points is None else tuple(points)
    copied: list[Point] = []
    present: list[Point] = []
    skipped: list[Point] = []
    ordered = sorted(wanted, key=lambda point: (str(point.vm_id), point.manifest.sequence))
    for vm_id, line in itertools.groupby(ordered, key=lambda point: point.vm_id):
        with target.lease(vm_id, current_holder(run_id)) as lease:
            for point in line:
                there = {each.point_id: each for each in target.catalog.points(vm_id)}
                if point.point_id in there:
                    present.append(there[point.point_id])
                elif any(each.created > point.created for each in there.values()):
                    logger.warning(
                        "not copying point %s: the target has a newer one of its VM", point.point_id
                    )
                    skipped.append(point)
                else:
                    lease.check()
                    copied.append(_copy_point(source, target, point, run_id, count))
                if on_progress is not None:
                    on_progress(point, len(copied) + len(present) + len(skipped), len(wanted))
    return CopyReport(tuple(copied), tuple(present), tuple(skipped), count.read_bytes, count.stored_bytes)


def _copy_point(source: Repository, target: Repository, point: Point, run_id: UUID, count: _Count) -> Point:
    before = _copied_before(source, target, point)
    with target.begin(run_id, read_back=True) as writer:
        disks = tuple(_copy_disk(source, writer, disk, before.get(disk.slot), count) for disk in point.disks)
        files = tuple(_copy_file(source, writer, file, count) for file in point.manifest.files)
        made = writer.commit(replace(point.manifest, disks=disks, files=files))
        count.stored_bytes += writer.stats.stored_bytes
    # Nothing else refers to a copy, so only this shows that a manifest was lost.
    size_bytes = sum(disk.size_bytes for disk in made.disks)
    target.catalog.record_proof(made, Proof("written", datetime.now(UTC), size_bytes, run_id))
    for later in source.catalog.proofs(point):
        target.catalog.record_proof(made, later.proof, later.slot)
    return made


def _copied_before(
    source: Repository, target: Repository, point: Point
) -> dict[str, tuple[TreeRoot, TreeRoot]]:
    """Trees of the newest earlier point that is in both repositories, by slot: its own and its copy's."""
    there = {each.point_id: each for each in target.catalog.points(point.vm_id)}
    for earlier in reversed(source.catalog.points(point.vm_id)):
        if earlier.manifest.sequence < point.manifest.sequence and earlier.point_id in there:
            copies = {disk.slot: disk.tree for disk in there[earlier.point_id].disks}
            return {
                disk.slot: (disk.tree, copies[disk.slot]) for disk in earlier.disks if disk.slot in copies
            }
    return {}


def _copy_disk(
    source: Repository,
    writer: Writer,
    disk: ManifestDisk,
    before: tuple[TreeRoot, TreeRoot] | None,
    count: _Count,
) -> ManifestDisk:
    image = source.image_of(disk.tree)
    if source.grid != writer.grid:
        return replace(disk, tree=_regrid(image, writer, disk.size_bytes, count))
    same_size = before is not None and before[0].size_bytes == disk.size_bytes
    base = before if same_size else None
    made = writer.disk(disk.size_bytes, None if base is None else base[1])
    old = iter(()) if base is None else source.image_of(base[0]).chunk_ids()
    numbers = _differing(old, image.chunk_ids(), made)
    if not source.encrypted:
        numbers = ((number, identity) for number, identity in numbers if not made.put_known(number, identity))
    for offset, raw in image.read_chunks(numbers):
        made.put(writer.grid.number(offset), raw)
        count.read_bytes += len(raw)
    return replace(disk, tree=made.finish())


def _differing(
    old: Iterator[tuple[int, bytes]], new: Iterator[tuple[int, bytes]], made: DiskWriter
) -> Iterator[tuple[int, bytes]]:
    """Chunks of ``new`` that differ from ``old``. Chunks that became zero are put here."""
    end = (1 << 62, ZERO_ID)
    before, after = next(old, end), next(new, end)
    while before is not end or after is not end:
        if before[0] < after[0]:
            made.put(before[0], None)
            before = next(old, end)
        elif before == after:
            before, after = next(old, end), next(new, end)
        else:
            yield after
            if before[0] == after[0]:
                before = next(old, end)
            after = next(new, end)


def _regrid(image: DiskImage, writer: Writer, size_bytes: int, count: _Count) -> TreeRoot:
    """Copy between grids of different chunk sizes; reads everything that is not zero."""
    made = writer.disk(size_bytes, None)
    touched = list(writer.grid.touched(image.extents()))
    for number in touched:
        extent = writer.grid.extent(number, size_bytes)
        image.seek(extent.offset)
        data = bytearray()
        while len(data) < extent.length:
            data += image.read(extent.length - len(data)) or b""
        made.put(number, data)
        count.read_bytes += len(data)
    return made.finish()


def _copy_file(source: Repository, writer: Writer, file: FileRef, count: _Count) -> FileRef:
    count.read_bytes += file.size_bytes
    return writer.file(file.name, source.read_file(file))
