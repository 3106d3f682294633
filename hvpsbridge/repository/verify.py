"""Verification: does a repository still hold what its points need? At two levels.

``written``: every object reads, every manifest is in its VM's line, every node of every tree reads, every
chunk id resolves to a pack that is there and as long as its index says. ``hashed``: besides, every frame
of every pack is read and checked against its id, those too that no point needs now, since a later backup
would lean on them. What is wrong names every point and VM it touches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import Tombstone
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import layout
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import FrameReader, label
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.scan import Scan

if TYPE_CHECKING:
    from hvpsbridge.repository.repository import Repository

# Objects that verification only reads and opens; what they hold is checked where it is used. Leases and
# run objects come and go while others work, and a damaged one costs a wait, so they are left alone.
_READ_ONLY = {
    layout.INDEX: Kind.INDEX,
    layout.IDS: Kind.IDS,
    layout.LEDGER: Kind.LEDGER,
    layout.BAD: Kind.BAD_LIST,
    layout.TOMBSTONES: Kind.TOMBSTONE,
    layout.PROOFS: Kind.PROOF,
    layout.EXPORTS: Kind.EXPORT,
}
# Sequence, digest and previous digest of a point or of its tombstone, and the point if it is there.
_Link = tuple[int, bytes, bytes | None, Point | None]


class Level(StrEnum):
    """How deep to look."""

    WRITTEN = "written"
    HASHED = "hashed"


@dataclass(frozen=True, slots=True)
class TouchedPoint:
    """A point that something bad touches, and in which disks or files."""

    point_id: UUID
    vm_id: UUID
    vm_name: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written.

    Attributes:
        name: object, chunk or node.
        touches: points that need it; empty when none does.
    """

    name: str
    what: str
    touches: tuple[TouchedPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found.

    Attributes:
        chunks: distinct chunks that the points need.
        hashed_chunks: frames read and checked, chunks and nodes; hashed_bytes: their raw bytes.
        bad: frames (id, pack name) found bad, for ``Repository.publish_bad``.
    """

    level: Level
    points: int
    chunks: int
    hashed_chunks: int
    hashed_bytes: int
    seconds: float
    problems: tuple[Problem, ...]
    bad: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    repository: Repository,
    objects: Objects,
    cache: IndexCache,
    frames: FrameReader,
    level: Level,
    points: Sequence[Point] | None,
    subset: tuple[int, int],
) -> VerifyReport:
    """See ``Repository.verify``."""
    started = time.monotonic()
    repository.forget()
    repository.refresh()
    problems: list[Problem] = []
    everything = points is None
    if points is None:
        points, problems = _read_all(repository)
        problems += _object_problems(objects)
        tombstones = repository.tombstones()
        problems += _line_problems(points, tombstones)
        problems += _orphan_problems(objects, points, tombstones)
        problems += [Problem(fault.name, fault.what) for fault in repository.keys.damaged_slots()]
    scan = Scan(objects, cache, frames)
    broken: set[tuple[UUID, str]] = set()
    problems += _walk_all(repository, points, scan, broken)
    if level is Level.HASHED:
        scan.hash_all(subset, marked_only=not everything)
    problems += [Problem(name, what) for name, what in scan.pack_problems(everything)]
    problems += _name_faults(repository, points, scan.faults(), broken)
    return VerifyReport(
        level,
        len(points),
        scan.chunks,
        scan.hashed_frames,
        scan.hashed_bytes,
        time.monotonic() - started,
        tuple(problems),
        tuple(scan.bad),
    )


def parts_of(point: Point) -> Iterator[tuple[str, TreeRoot]]:
    """Disks and files of a point with their trees."""
    for disk in point.disks:
        yield f"disk {disk.slot}", disk.tree
    for file in point.manifest.files:
        yield f"file {file.name}", file.tree


def _read_all(repository: Repository) -> tuple[tuple[Point, ...], list[Problem]]:
    points, problems = [], []
    for name, found in repository.read_points():
        if isinstance(found, Point):
            points.append(found)
        else:
            problems.append(Problem(name, found.what))
    return tuple(points), problems


def _object_problems(objects: Objects) -> Iterator[Problem]:
    for prefix, kind in _READ_ONLY.items():
        for info in list(objects.list(prefix)):
            try:
                objects.read(info.name, kind)
            except ObjectMissing:
                continue  # gone since the listing
            except Damaged as err:
                yield Problem(info.name, err.what)


def _orphan_problems(
    objects: Objects, points: Sequence[Point], tombstones: Sequence[Tombstone]
) -> Iterator[Problem]:
    """Ids or proofs of points that are neither there nor pruned: the newest manifest of a line was lost,
    which no gap shows."""
    known = {point.point_id.hex for point in points} | {tomb.point_id.hex for tomb in tombstones}
    lost = set()
    for prefix in (layout.IDS, layout.PROOFS):
        lost |= {info.name.split("/")[1] for info in objects.list(prefix)} - known
    for point in sorted(lost):
        try:
            objects.store.size(f"{layout.POINTS}/{point}")
        except ObjectMissing:
            yield Problem(f"{layout.POINTS}/{point}", "the manifest is missing; its ids or proofs are there")


def _line_problems(points: Sequence[Point], tombstones: Sequence[Tombstone]) -> Iterator[Problem]:
    """Gaps in the VMs' lines: manifests that are neither there nor pruned."""
    by_vm: dict[UUID, list[Point]] = {}
    for point in points:
        by_vm.setdefault(point.vm_id, []).append(point)
    for vm_id in {*by_vm, *(tomb.vm_id for tomb in tombstones)}:
        live = {point.point_id for point in by_vm.get(vm_id, ())}
        links: list[_Link] = [
            (point.manifest.sequence, point.manifest.digest(), point.manifest.previous, point)
            for point in by_vm.get(vm_id, ())
        ]
        # A prune that died after its tombstone leaves both; the point counts then.
        links += [
            (tomb.sequence, tomb.digest, tomb.previous, None)
            for tomb in tombstones
            if tomb.vm_id == vm_id and tomb.point_id not in live
        ]
        yield from _breaks(vm_id, sorted(links, key=lambda link: link[0]))


def _breaks(vm_id: UUID, links: list[_Link]) -> Iterator[Problem]:
    expected, previous = 1, None
    for sequence, digest, before, point in links:
        touches = () if point is None else (_touched(point, ()),)
        name = f"line of VM {vm_id}"
        if sequence > expected:
            lost = f"point {expected} is" if sequence == expected + 1 else f"{sequence - expected} points are"
            yield Problem(name, f"{lost} missing before point {sequence}", touches)
        elif sequence < expected:
            yield Problem(name, f"two points have sequence {sequence}", touches)
        elif before != previous:
            yield Problem(name, f"point {sequence} does not follow what was before it", touches)
        expected, previous = sequence + 1, digest


def _touched(point: Point, parts: Sequence[str]) -> TouchedPoint:
    return TouchedPoint(point.point_id, point.vm_id, point.vm_name, tuple(parts))


def _walk_all(
    repository: Repository, points: Sequence[Point], scan: Scan, broken: set[tuple[UUID, str]]
) -> list[Problem]:
    """Walk every tree and mark its chunks; nodes that cannot be read, with all they break."""
    found: dict[tuple[str, str], dict[UUID, tuple[Point, list[str]]]] = {}
    walked: set[bytes] = set()
    for point in points:
        for part, tree in parts_of(point):
            try:
                for _, identity in repository.image_of(tree).chunk_ids(walked):
                    scan.mark(identity)
            except Damaged as err:
                touched = found.setdefault((err.name, err.what), {})
                touched.setdefault(point.point_id, (point, []))[1].append(part)
                broken.add((point.point_id, part))
    return [
        Problem(name, what, tuple(_touched(point, parts) for point, parts in touched.values()))
        for (name, what), touched in found.items()
    ]


def _name_faults(
    repository: Repository,
    points: Sequence[Point],
    faults: dict[bytes, str],
    broken: set[tuple[UUID, str]],
) -> list[Problem]:
    """One problem for each bad chunk, with every point and part whose tree names it."""
    if not faults:
        return []
    touches: dict[bytes, dict[UUID, tuple[Point, list[str]]]] = {identity: {} for identity in faults}
    for point in points:
        for part, tree in parts_of(point):
            if (point.point_id, part) in broken:
                continue
            ids = repository.image_of(tree).chunk_ids()
            for identity in {identity for _, identity in ids if identity in touches}:
                touches[identity].setdefault(point.point_id, (point, []))[1].append(part)
    return [
        Problem(
            label(Kind.DATA_PACK, identity),
            what,
            tuple(_touched(point, parts) for point, parts in touches[identity].values()),
        )
        for identity, what in faults.items()
    ]
