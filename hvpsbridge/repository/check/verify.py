"""Verification of a repository, at two levels.

``written``: every object can be read, the lineage of every VM is complete, every node of every tree can be
read, and every chunk is in a pack that exists and has the size in the index. ``hashed``: in addition, every
frame of every pack is read and checked against its id, including those that no point needs, since a later
backup may use them. Each problem lists the points and VMs that it touches.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository.cache import FIND_AT_ONCE, IndexCache, Renumbered
from hvpsbridge.repository.cache_rows import KnownPack
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.check.coverage import (
    Budget,
    Checked,
    Coverage,
    coverage,
    oldest_first,
    standing_of,
)
from hvpsbridge.repository.check.evidence import gather, line_problems, orphan_problems
from hvpsbridge.repository.check.findings import Level, TouchedPoint, VerifyProblem, VerifyReport, touched
from hvpsbridge.repository.check.reconcile import check_cache
from hvpsbridge.repository.check.restore_tool import restore_tool_problems
from hvpsbridge.repository.check.scan import Scan
from hvpsbridge.repository.frames import FrameReader, label
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.keys import KeyRing
from hvpsbridge.repository.layout import INDEX, KEYS, POINTS
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.verified import PackAges, moment_of, read_ages

# How often a verification that finds problems begins again, because a collect removed something meanwhile.
MAX_AGAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyContext:
    """The parts of an open repository that verification reads."""

    catalog: Catalog
    objects: Objects
    cache: IndexCache
    frames: FrameReader
    grid: ChunkGrid
    keys: KeyRing


def verify(
    context: VerifyContext,
    level: Level,
    points: Sequence[Point] | None,
    subset: tuple[int, int],
    budget: Budget | None = None,
    checked: Checked | None = None,
) -> VerifyReport:
    """Check the points, all without ``points``; the arguments are those of ``Repository.verify``.

    The catalog and the index cache must be fresh.
    """
    again = MAX_AGAIN
    while True:
        renewals, before = context.cache.renewals, _removable(context.objects)
        try:
            report = _verify(context, level, points, subset, budget, checked or Checked())
        except Renumbered:
            continue
        except Damaged:
            if again and before - _removable(context.objects):
                again -= 1
                continue
            raise
        # A collect may have moved or deleted what was looked at.
        if (report.problems or report.bad) and again and before - _removable(context.objects):
            again -= 1
            context.cache.synchronise()
            continue
        # Chunks are marked by their numbers in the cache, and a cache that is rebuilt has others.
        if context.cache.renewals == renewals:
            return _without_gone(context.catalog, report)


def _without_gone(catalog: Catalog, report: VerifyReport) -> VerifyReport:
    """The report without problems of points that were pruned meanwhile, and of nothing else."""
    touched = {touch.point_id for problem in report.problems for touch in problem.touches}
    if not touched:
        return report
    left = {point.point_id for point in catalog.points()}
    problems = (
        problem
        for problem in report.problems
        if not problem.touches or any(touch.point_id in left for touch in problem.touches)
    )
    return replace(report, problems=tuple(problems))


def _removable(objects: Objects) -> frozenset[str]:
    """Names of what a collect deletes before it deletes packs."""
    return frozenset(info.name for folder in (POINTS, INDEX) for info in objects.list(folder))


def _verify(
    context: VerifyContext,
    level: Level,
    points: Sequence[Point] | None,
    subset: tuple[int, int],
    budget: Budget | None,
    checked: Checked,
) -> VerifyReport:
    started = time.monotonic()
    objects, cache, frames = context.objects, context.cache, context.frames
    problems: list[VerifyProblem] = []
    notes: list[VerifyProblem] = []
    everything = points is None
    if points is None:
        points, problems = _read_all(context.catalog)
        manifests = {point.point_id.hex for point in points} | {
            problem.name.rsplit("/", 1)[1] for problem in problems
        }
        evidence = gather(objects, cache, manifests, {point.vm_id for point in points})
        frames.set_cache_checked()
        problems += evidence.problems
        notes += evidence.notes
        tombstones = context.catalog.tombstones()
        problems += line_problems(points, tombstones)
        orphans = list(orphan_problems(objects, evidence, points, tombstones))
        problems += [problem for problem in orphans if problem.name.rsplit("/", 1)[1] not in manifests]
        problems += restore_tool_problems(objects)
        problems += _key_problems(context)
    elif not frames.cache_checked:
        check_cache(objects, cache)
        frames.set_cache_checked()
    listed = frozenset((frame.id, frame.pack) for frame in context.catalog.bad_frames())
    scan = Scan(objects, cache, frames, listed)
    broken: set[tuple[UUID, str]] = set()
    walked: set[bytes] = set()
    problems += _walk_all(context, points, scan, broken, walked)
    covered: Coverage | None = None
    if level is Level.HASHED and budget is not None:
        nodes = None if everything else walked
        covered = _hash_within(context, points, scan, budget, checked, nodes)
    elif level is Level.HASHED:
        whole = everything and subset == (1, 1) and objects.format > 1
        packs = scan.packs() if whole else []
        if whole:
            _note_unknown(context, read_ages(objects), checked)
        with _noting_good(scan, packs, checked):
            scan.hash_all(subset, marked_only=not everything)
    for found in scan.pack_problems(everything):
        (notes if found.recorded else problems).append(VerifyProblem(found.name, found.what))
    problems += _name_faults(context, points, scan.faults(), broken)
    return VerifyReport(
        level=level,
        points=len(points),
        chunks=scan.chunks,
        hashed_chunks=scan.hashed_frames,
        hashed_bytes=scan.hashed_bytes,
        seconds=time.monotonic() - started,
        problems=tuple(problems),
        notes=tuple(notes),
        bad=tuple(scan.bad),
        coverage=covered,
    )


def _hash_within(
    context: VerifyContext,
    points: Sequence[Point],
    scan: Scan,
    budget: Budget,
    checked: Checked,
    nodes: set[bytes] | None,
) -> Coverage:
    """Read the packs that were not checked for longest, as far as the budget goes.

    Those of the whole repository, or those that have the nodes of the points and their chunks.
    """
    everything = nodes is None
    ages = read_ages(context.objects)
    vms = {point.vm_id for point in points}
    checked.scope = None if everything or len(vms) != 1 else next(iter(vms))
    checked.alone = everything or len(vms) == 1
    earlier = ages.passes.get(checked.scope, ()) if checked.alone else ()
    packs = scan.packs(nodes)
    before = standing_of([pack.name for pack in packs], ages, context.catalog)
    _note_unknown(context, ages, checked)
    read: list[KnownPack] = []

    def noted(pack: KnownPack) -> KnownPack:
        read.append(pack)
        return pack

    with _noting_good(scan, read, checked):
        scan.hash_packs(map(noted, budget.of(oldest_first(packs, before))))
    checked.budget_bytes = sum(pack.pack_bytes for pack in read)
    return coverage(packs, before, checked, earlier, points)


@contextlib.contextmanager
def _noting_good(scan: Scan, packs: Sequence[KnownPack], checked: Checked) -> Iterator[None]:
    """Gather which packs were read and are good, also if reading them ends early."""
    done: Sequence[KnownPack] = ()
    try:
        yield
        done = packs
    except BaseException:
        done = scan.finished(packs)
        raise
    finally:
        faulty = scan.faulty()
        checked.good = tuple(pack.name for pack in done if pack.name not in faulty)


def _note_unknown(context: VerifyContext, ages: PackAges, checked: Checked) -> None:
    """Gather the packs of which nothing is known, before any is read."""
    names = context.cache.pack_names()
    standing = standing_of(names, ages, context.catalog)
    checked.unknown = standing.names[~standing.known].tobytes()
    checked.unknown_since = moment_of(standing.unknown_since)


def _key_problems(context: VerifyContext) -> Iterator[VerifyProblem]:
    yield from (VerifyProblem(fault.name, fault.what) for fault in context.keys.damaged_slots())
    sealer = context.objects.sealer
    # A key for prunes does not show whose slots there are.
    if sealer.sealed and sealer.reads_data and not context.keys.slots():
        what = "no key slot is left; only the exported key opens the repository; `hvps key add` adds a slot"
        yield VerifyProblem(KEYS, what)


def parts_of(point: Point) -> Iterator[tuple[str, TreeRoot]]:
    """Names and trees of the disks and files of a point."""
    for disk in point.disks:
        yield f"disk {disk.slot}", disk.tree
    for file in point.manifest.files:
        yield f"file {file.name}", file.tree


def _image(context: VerifyContext, tree: TreeRoot) -> DiskImage:
    return DiskImage(context.frames, context.grid, tree)


def _read_all(catalog: Catalog) -> tuple[tuple[Point, ...], list[VerifyProblem]]:
    points, problems = [], []
    for name, found in catalog.read_points():
        if isinstance(found, Point):
            points.append(found)
        else:
            problems.append(VerifyProblem(name, found.what))
    return tuple(points), problems


def _walk_all(
    context: VerifyContext,
    points: Sequence[Point],
    scan: Scan,
    broken: set[tuple[UUID, str]],
    walked: set[bytes],
) -> list[VerifyProblem]:
    """Walk every tree and mark its chunks; problems of nodes that cannot be read.

    The ids of the nodes that were read are added to ``walked``.
    """
    found: dict[tuple[str, str], dict[UUID, tuple[Point, list[str]]]] = {}
    for point in points:
        for part, tree in parts_of(point):
            ids: list[bytes] = []
            try:
                for _, identity in _image(context, tree).chunk_ids(walked):
                    ids.append(identity)
                    if len(ids) == FIND_AT_ONCE:
                        scan.mark(ids)
                        ids = []
            except Damaged as err:
                places = found.setdefault((err.name, err.what), {})
                places.setdefault(point.point_id, (point, []))[1].append(part)
                broken.add((point.point_id, part))
            scan.mark(ids)
    return [
        VerifyProblem(name, what, tuple(touched(point, tuple(parts)) for point, parts in places.values()))
        for (name, what), places in found.items()
    ]


def _name_faults(
    context: VerifyContext,
    points: Sequence[Point],
    faults: dict[bytes, str],
    broken: set[tuple[UUID, str]],
) -> list[VerifyProblem]:
    """A problem for each bad chunk, with every point and part that needs it."""
    if not faults:
        return []
    touches: dict[bytes, dict[UUID, tuple[Point, list[str]]]] = {identity: {} for identity in faults}
    for point in points:
        for part, tree in parts_of(point):
            if (point.point_id, part) in broken:
                continue
            ids = _image(context, tree).chunk_ids()
            for identity in {identity for _, identity in ids if identity in touches}:
                touches[identity].setdefault(point.point_id, (point, []))[1].append(part)
    return [
        VerifyProblem(
            label(Kind.DATA_PACK, identity),
            what,
            tuple(touched(point, tuple(parts)) for point, parts in touches[identity].values()),
        )
        for identity, what in faults.items()
    ]


__all__ = ["Level", "TouchedPoint", "VerifyProblem", "VerifyReport", "parts_of", "verify"]
