"""Verification: does a repository still hold what its points need? At two levels.

``written``: every manifest reads and is in its VM's line, every node of every tree reads, every chunk id
resolves to a pack that is there and as long as its index says. ``hashed``: besides, every chunk is read
and checked against its id. What is wrong names every point and VM it touches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import Tombstone
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.repository.cache import IndexCache, KnownPack, Location
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.packs import FrameReader, label
from hvpsbridge.repository.points import Point

if TYPE_CHECKING:
    from hvpsbridge.repository.repository import Repository


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
    touches: tuple[TouchedPoint, ...]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found.

    Attributes:
        chunks: distinct chunks that the points need; hashed_chunks: of them read and checked.
        hashed_bytes: raw bytes of those.
        bad: frames (id, pack name) found bad, for the bad-chunk list.
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


@dataclass(slots=True)
class _State:
    marks: bytearray
    good_packs: set[bytes]
    pack_faults: dict[bytes, str]
    chunks: int = 0
    hashed_chunks: int = 0
    hashed_bytes: int = 0
    faults: dict[bytes, str] = field(default_factory=dict)
    bad: list[tuple[bytes, bytes]] = field(default_factory=list)


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
    repository.refresh()
    problems: list[Problem] = []
    everything = points is None
    if points is None:
        points, manifest_problems = _read_all(repository)
        problems += manifest_problems
        problems += _index_problems(repository, objects)
    problems += _line_problems(points, repository.tombstones()) if everything else []
    packs = cache.packs()
    pack_faults = {pack.name: fault for pack in packs if (fault := _pack_fault(objects, pack)) is not None}
    state = _State(
        bytearray(cache.highest_number() // 8 + 1),
        {pack.name for pack in packs if pack.name not in pack_faults},
        pack_faults,
    )
    tree_problems, broken = _walk_all(repository, points, frames, state)
    problems += tree_problems
    if level is Level.HASHED:
        _hash_all(cache, frames, packs, state, subset)
    if state.faults:
        problems += _name_faults(repository, points, state, broken)
    return VerifyReport(
        level,
        len(points),
        state.chunks,
        state.hashed_chunks,
        state.hashed_bytes,
        time.monotonic() - started,
        tuple(problems),
        tuple(state.bad),
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
            problems.append(Problem(name, found.what, ()))
    return tuple(points), problems


def _index_problems(repository: Repository, objects: Objects) -> list[Problem]:
    problems = []
    for info in list(objects.list("index")):
        try:
            objects.read(info.name, Kind.INDEX)
        except ObjectMissing:
            continue
        except Damaged as err:
            problems.append(Problem(info.name, err.what, ()))
    return problems


def _line_problems(points: Sequence[Point], tombstones: Sequence[Tombstone]) -> list[Problem]:
    """Gaps in the VMs' lines: manifests that are neither there nor pruned."""
    problems: list[Problem] = []
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
        problems += _breaks(vm_id, sorted(links, key=lambda link: link[0]))
    return problems


def _breaks(vm_id: UUID, links: list[_Link]) -> Iterator[Problem]:
    expected, previous = 1, None
    for sequence, digest, before, point in links:
        touches = () if point is None else (_touched(point, ()),)
        name = f"line of VM {vm_id}"
        if sequence != expected:
            lost = (
                f"point {expected} is"
                if sequence == expected + 1
                else f"points {expected} to {sequence - 1} are"
            )
            what = f"{lost} missing" if sequence > expected else f"two points have sequence {sequence}"
            yield Problem(name, what, touches)
        elif before != previous:
            yield Problem(name, f"point {sequence} does not follow what was before it", touches)
        expected, previous = sequence + 1, digest


def _pack_fault(objects: Objects, pack: KnownPack) -> str | None:
    try:
        size = objects.store.size(pack_name(pack.kind, pack.name))
    except ObjectMissing:
        return "the pack is missing"
    return None if size == pack.pack_bytes else f"{size} bytes long, the index says {pack.pack_bytes}"


def _touched(point: Point, parts: Sequence[str]) -> TouchedPoint:
    return TouchedPoint(point.point_id, point.vm_id, point.vm_name, tuple(parts))


def _walk_all(
    repository: Repository, points: Sequence[Point], frames: FrameReader, state: _State
) -> tuple[list[Problem], set[tuple[UUID, str]]]:
    """Walk every tree, mark its chunks; nodes that cannot be read, and the parts they break."""
    broken: dict[tuple[str, str], dict[UUID, tuple[Point, list[str]]]] = {}
    parts: set[tuple[UUID, str]] = set()
    seen: set[bytes] = set()
    for point in points:
        for part, tree in parts_of(point):
            if tree.root in seen:
                continue
            try:
                for _, identity in repository.open_tree(tree).chunk_ids():
                    _mark(frames, state, identity)
                seen.add(tree.root)
            except Damaged as err:
                touched = broken.setdefault((err.name, err.what), {})
                touched.setdefault(point.point_id, (point, []))[1].append(part)
                parts.add((point.point_id, part))
    problems = [
        Problem(name, what, tuple(_touched(point, parts) for point, parts in touched.values()))
        for (name, what), touched in broken.items()
    ]
    return problems, parts


def _mark(frames: FrameReader, state: _State, identity: bytes) -> None:
    if identity in state.faults:
        return
    try:
        places = frames.locate(identity, Kind.DATA_PACK)
    except Damaged as err:
        state.faults[identity] = err.what
        state.chunks += 1
        return
    first = places[0].number
    if state.marks[first // 8] & (1 << first % 8):
        return
    state.chunks += 1
    for place in places:
        state.marks[place.number // 8] |= 1 << place.number % 8
        if place.pack in state.pack_faults:
            state.bad.append((identity, place.pack))
    if not any(place.pack in state.good_packs for place in places):
        fault = state.pack_faults[places[0].pack]
        state.faults[identity] = f"{pack_name(Kind.DATA_PACK, places[0].pack)}: {fault}"


def _hash_all(
    cache: IndexCache,
    frames: FrameReader,
    packs: Sequence[KnownPack],
    state: _State,
    subset: tuple[int, int],
) -> None:
    part, count = subset
    good: set[bytes] = set()
    failed: dict[bytes, str] = {}
    for pack in packs:
        if pack.kind is not Kind.DATA_PACK:
            continue
        wanted = [
            place
            for place in cache.pack_entries(pack.number)
            if state.marks[place.number // 8] & (1 << place.number % 8)
            and int.from_bytes(place.id[:8], "big") % count == part - 1
        ]
        for place, found in frames.read_all(wanted):
            if isinstance(found, Damaged):
                failed[place.id] = f"{found.name}: {found.what}"
                state.bad.append((place.id, place.pack))
            else:
                state.hashed_chunks += 1
                state.hashed_bytes += len(found)
                if place.id in failed or len(_copies(cache, place)) > 1:
                    good.add(place.id)
    for identity, what in failed.items():
        # A chunk with one good copy is no loss; its bad copy is still listed.
        if identity not in good:
            state.faults.setdefault(identity, what)


def _copies(cache: IndexCache, place: Location) -> tuple[Location, ...]:
    return cache.find(place.id)


def _name_faults(
    repository: Repository, points: Sequence[Point], state: _State, broken: set[tuple[UUID, str]]
) -> list[Problem]:
    """One problem for each bad chunk, with every point and part whose tree names it."""
    touches: dict[bytes, dict[UUID, tuple[Point, list[str]]]] = {identity: {} for identity in state.faults}
    for point in points:
        for part, tree in parts_of(point):
            if (point.point_id, part) in broken or is_zero(tree.root):
                continue
            named = {
                identity for _, identity in repository.open_tree(tree).chunk_ids() if identity in touches
            }
            for identity in named:
                touches[identity].setdefault(point.point_id, (point, []))[1].append(part)
    return [
        Problem(
            label(Kind.DATA_PACK, identity),
            state.faults[identity],
            tuple(_touched(point, parts) for point, parts in touched.values()),
        )
        for identity, touched in touches.items()
    ]
