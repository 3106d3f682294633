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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hvpsbridge.errors import Damaged, HvpsError, NewerObject, RepositoryLocked, StoreError
from hvpsbridge.formats.chunk import ZERO_ID
from hvpsbridge.formats.manifest import FileRef, ManifestDisk, Proof
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository.disk import DiskWriter
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.layout import point_name
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.repository import Repository
from hvpsbridge.repository.writer import Writer

logger = logging.getLogger(__name__)
Progress = Callable[[Point, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyProblem:
    """A point that could not be copied.

    Attributes:
        point_id: the point.
        vm_id: its VM; None if that is not known.
        error: why.
    """

    point_id: UUID
    vm_id: UUID | None
    error: HvpsError


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied.

    Attributes:
        copied: points that were copied.
        present: points that the target had already.
        skipped: points older than the newest copy of their VM; a lineage only grows at its end.
        read_bytes: raw bytes read from the source.
        stored_bytes: bytes added to the target.
        problems: points that could not be copied.
    """

    copied: tuple[Point, ...]
    present: tuple[Point, ...]
    skipped: tuple[Point, ...]
    read_bytes: int
    stored_bytes: int
    problems: tuple[CopyProblem, ...] = ()


def copy_points(
    source: Repository,
    target: Repository,
    points: Sequence[Point] | None = None,
    *,
    on_progress: Progress | None = None,
) -> CopyReport:
    """Copy points that the target does not have. One that is damaged does not end the copy of the others.

    Args:
        source: only read.
        target: written to.
        points: which; all when None.
        on_progress: called after each point with the point, its number and the count of all.

    Raises:
        StoreError: a store fails. Points copied before stay.
    """
    copy = _Copy(source, target, on_progress)
    wanted = source.catalog.points() if points is None else tuple(points)
    copy.run(wanted, everything=points is None)
    return CopyReport(
        tuple(copy.copied),
        tuple(copy.present),
        tuple(copy.skipped),
        copy.read_bytes,
        copy.stored_bytes,
        tuple(copy.problems),
    )


class _Copy:
    """A copy in progress."""

    def __init__(self, source: Repository, target: Repository, on_progress: Progress | None) -> None:
        self._source = source
        self._target = target
        self._on_progress = on_progress
        self._run_id = uuid4()
        self.copied: list[Point] = []
        self.present: list[Point] = []
        self.skipped: list[Point] = []
        self.problems: list[CopyProblem] = []
        self.read_bytes = 0
        self.stored_bytes = 0

    def run(self, wanted: Sequence[Point], *, everything: bool) -> None:
        tombstones = self._source.catalog.tombstones()
        ordered = sorted(wanted, key=lambda point: (str(point.vm_id), point.manifest.sequence))
        for vm_id, group in itertools.groupby(ordered, key=lambda point: point.vm_id):
            line = list(group)
            order = {tomb.point_id: tomb.sequence for tomb in tombstones if tomb.vm_id == vm_id}
            order |= {point.point_id: point.manifest.sequence for point in self._source.catalog.points(vm_id)}
            try:
                with self._target.lease(vm_id, current_holder(self._run_id)) as lease:
                    self._copy_line(line, order, lease)
            except RepositoryLocked as err:  # the points of other VMs can be copied
                done = {point.point_id for point in (*self.copied, *self.present, *self.skipped)}
                for point in line:
                    if point.point_id not in done and not self._failed(point):
                        self._fail(point, err)
        if everything:
            self._report_unreadable()

    def _copy_line(self, line: Sequence[Point], order: Mapping[UUID, int], lease: Lease) -> None:
        """Copy the points of one VM, oldest first.

        Args:
            line: the points.
            order: sequence numbers in the source. Clocks of several machines say nothing about the order.
            lease: on the VM in the target.
        """
        url = self._target.url
        for number, point in enumerate(line):
            there, unreadable = self._copies(point.vm_id)
            name = point_name(point.point_id)
            if point.point_id in there:
                self.present.append(there[point.point_id])
            elif name in unreadable:
                self._fail(point, unreadable[name])
            elif any(_is_newer(copy, point, order) for copy in there.values()):
                logger.warning("not copying point %s: the target has a newer one of its VM", point.point_id)
                self.skipped.append(point)
            else:
                lease.check()
                try:
                    self.copied.append(self._copy_point(point))
                except Damaged as err:
                    gone = self._source.catalog.selected.gone([point])
                    self._fail(point, gone.get(point.point_id, err))
                    if err.repository == url:
                        # The target does not keep what is written. Later points are left for the next copy,
                        # since this point could not be copied after them.
                        for later in line[number + 1 :]:
                            self._fail(later, err)
                        return
            if self._on_progress is not None:
                done = len(self.copied) + len(self.present) + len(self.skipped) + len(self.problems)
                self._on_progress(point, done, done + len(line) - number - 1)

    def _copies(self, vm_id: UUID) -> tuple[dict[UUID, Point], dict[str, Damaged | NewerObject]]:
        """The points of a VM in the target, and all manifests there that cannot be read."""
        there: dict[UUID, Point] = {}
        unreadable: dict[str, Damaged | NewerObject] = {}
        for name, found in self._target.catalog.read_points():
            if not isinstance(found, Point):
                unreadable[name] = found
            elif found.vm_id == vm_id:
                there[found.point_id] = found
        return there, unreadable

    def _fail(self, point: Point, err: HvpsError) -> None:
        logger.error("cannot copy point %s of VM %s: %s", point.point_id, point.vm_name, err)
        self.problems.append(CopyProblem(point_id=point.point_id, vm_id=point.vm_id, error=err))

    def _failed(self, point: Point) -> bool:
        return any(problem.point_id == point.point_id for problem in self.problems)

    def _report_unreadable(self) -> None:
        """Points of the source whose manifest is damaged or missing."""
        for lost in self._source.catalog.lost_points():
            error = Damaged(self._source.url, lost.name, lost.what)
            self.problems.append(CopyProblem(point_id=lost.point_id, vm_id=lost.vm_id, error=error))

    def _copy_point(self, point: Point) -> Point:
        before = _copied_before(self._source, self._target, point)
        try:
            return self._store(point, before)
        except Damaged as err:
            if not before.trees or err.repository != self._target.url:
                raise
            logger.warning("copying point %s without its base in the target: %s", point.point_id, err)
            return self._store(point, _Earlier())

    def _store(self, point: Point, before: _Earlier) -> Point:
        source, target, count = self._source, self._target, _Count()
        with target.begin(self._run_id, read_back=True) as writer:
            disks = tuple(
                _copy_disk(source, writer, disk, before.trees.get(disk.slot), count) for disk in point.disks
            )
            files = tuple(_copy_file(source, writer, file, count) for file in point.manifest.files)
            made = writer.commit(replace(point.manifest, disks=disks, files=files), before.points)
            writer.check()
            self.stored_bytes += writer.stats.stored_bytes
        self.read_bytes += count.read_bytes
        try:
            # Nothing else refers to a copy, so only this shows that a manifest was lost.
            size_bytes = sum(disk.size_bytes for disk in made.disks)
            proof = Proof("written", datetime.now(UTC), size_bytes, self._run_id)
            target.catalog.proofs.record(made, proof)
            for later in source.catalog.proofs.of(point):
                target.catalog.proofs.record(made, later.proof, later.slot)
        except StoreError as err:  # the copy is committed and good
            logger.warning("cannot record the proofs of point %s: %s", made.point_id, err)
        return made


@dataclass(frozen=True, slots=True)
class _Earlier:
    """An earlier point that both repositories have.

    Attributes:
        points: its id; empty without one.
        trees: of its disks by slot: its own and its copy's.
    """

    points: tuple[UUID, ...] = ()
    trees: Mapping[str, tuple[TreeRoot, TreeRoot]] = field(default_factory=dict)


@dataclass(slots=True)
class _Count:
    read_bytes: int = 0


def _is_newer(copy: Point, point: Point, order: Mapping[UUID, int]) -> bool:
    """Whether ``copy``, which the target has, is newer than ``point`` of the source."""
    sequence = order.get(copy.point_id)
    if sequence is None:  # the target got it from elsewhere, so only their times can be compared
        return copy.created > point.created
    return sequence > point.manifest.sequence


def _copied_before(source: Repository, target: Repository, point: Point) -> _Earlier:
    """The newest earlier point that is in both repositories."""
    there = {each.point_id: each for each in target.catalog.points(point.vm_id)}
    for earlier in reversed(source.catalog.points(point.vm_id)):
        if earlier.manifest.sequence < point.manifest.sequence and earlier.point_id in there:
            copies = {disk.slot: disk.tree for disk in there[earlier.point_id].disks}
            trees = {
                disk.slot: (disk.tree, copies[disk.slot]) for disk in earlier.disks if disk.slot in copies
            }
            return _Earlier((earlier.point_id,), trees)
    return _Earlier()


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
