"""What processes do to a repository side by side, and what must be true of it whatever happens to them.

Contents are few letters, so points share chunks, what was pruned comes back, and writers find what is doomed.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.errors import CollectRefused, Damaged, HvpsError, LeaseLost, PointGone, RepositoryLocked
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Point, Repository, current_holder
from hvpsbridge.repository.check.verify import Level, VerifyProblem, VerifyReport
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.layout import (
    DATA,
    DOOMED,
    FENCES,
    IDS,
    INDEX,
    LEASES,
    NODES,
    POINTS,
    PROOFS,
    PRUNED,
    RUNS,
    TAGS,
    TOMBSTONES,
    VERIFIED,
)
from hvpsbridge.repository.opening import create_on_store, open_on_store
from tests.repository.conftest import CHUNK, START, disk_of, manifest_of
from tests.repository.stepping import Process, ProcessStore, Scheduler

NOW = timedelta(0)
LETTERS = 14
# Chunks that points have, under three nodes, so that increments share nodes; all others are zeros.
PLACES = (0, 1, 2, 256, 257, 512, 513)
SIZE_CHUNKS = 514
VMS = (UUID(int=1), UUID(int=2))
# Kinds of object that may be left when nothing is going on.
LASTING = {
    DATA,
    NODES,
    INDEX,
    POINTS,
    PROOFS,
    LEASES,
    TOMBSTONES,
    VERIFIED,
    PRUNED,
    FENCES,
    TAGS,
    "config",
    "restore.py",
}
Content = dict[int, int]


@cache
def letter(number: int) -> bytes:
    """The bytes of a chunk."""
    return random.Random(number).randbytes(200) * (CHUNK // 200) + bytes(CHUNK % 200)


class Lost(AssertionError):
    """A kept point is gone, cannot be read, or has another content."""


@dataclass
class Book:
    """What is known of points without looking.

    Attributes:
        contents: of all that were ever begun.
        kept: those whose commit was reported, and that nobody began to prune.
        begun: those that somebody began to prune.
        pruned: those whose prune was reported.
        protected: those whose protection was reported.
    """

    contents: dict[UUID, Content] = field(default_factory=dict)
    kept: set[UUID] = field(default_factory=set)
    begun: set[UUID] = field(default_factory=set)
    pruned: set[UUID] = field(default_factory=set)
    protected: set[UUID] = field(default_factory=set)


class Actors:
    """Starts processes, and checks what they leave.

    Args:
        scheduler: runs them.
        cache_folder: of a chunk index that some processes share.
    """

    def __init__(self, scheduler: Scheduler, cache_folder: Path) -> None:
        self._scheduler = scheduler
        self._dice = scheduler.dice
        self._cache_folder = cache_folder
        self.book = Book()
        self.counts: Counter[str] = Counter()
        create_on_store(scheduler.store(), ChunkGrid(CHUNK)).close()
        scheduler.disk.flush({name.partition("/")[0] for name in scheduler.disk.objects})

    def start(self, name: str, work: Callable[[Process, Repository], None]) -> None:
        """Start a process that opens the repository and does something."""
        folder = self._cache_folder if self._dice.random() < 0.5 else None

        def run(process: Process) -> None:
            store = self._scheduler.store(process)
            with open_on_store(store, cache_folder=folder) as repository:
                work(process, repository)
            self.counts[name] += 1

        self._scheduler.start(f"{name} {len(self._scheduler.processes)}", run)

    def start_round(self) -> None:
        """Two writers, a collector, a pruner, a verifier and a restorer."""
        self.start("writer", self._write)
        self.start("writer", self._write)
        self.start("collector", self._collect)
        self.start("pruner", self._prune)
        self.start("verifier", self._verify)
        self.start("restorer", self._restore)
        if self._dice.random() < 0.3:
            self.start("collector", self._collect)
        if self._dice.random() < 0.1:
            self.start("repairer", self._repair)

    def start_press(self) -> None:
        """Writers, and more prunes and collects than there ever are."""
        for _ in range(3):
            self.start("writer", self._write)
        for _ in range(2):
            self.start("collector", self._collect_often)
        self.start("pruner", self._prune_all)

    # -- what they do ---------------------------------------------------------------------------------

    def _write(self, process: Process, repository: Repository) -> None:
        """One point, on a base or from nothing."""
        process.runs.append(run := uuid4())
        vm_id = self._dice.choice(VMS)
        with repository.lease(vm_id, current_holder(run)) as lease:
            points = repository.catalog.points(vm_id)
            base = points[-1] if points and self._dice.random() < 0.7 else None
            content = dict(self.book.contents[base.point_id]) if base else {}
            changed = self._dice.sample(PLACES, self._dice.randint(1, 3) if base else len(PLACES))
            for place in changed:
                content[place] = self._dice.randrange(LETTERS)
            with repository.begin(run) as writer:
                disk = writer.disk(SIZE_CHUNKS * CHUNK, base.disks[0].tree if base else None)
                for place in changed:
                    disk.put(place, letter(content[place]))
                lease.check()
                made = disk_of(disk.finish(), base=base.point_id if base else None)
                manifest = manifest_of([made], vm_id=vm_id, run_id=run, created=START)
                self.book.contents[manifest.point_id] = content
                point = writer.commit(manifest, {base.point_id} if base else ())
                writer.check()
                # From here on the host's reference point may be destroyed.
                if point.point_id not in self.book.begun:
                    self.book.kept.add(point.point_id)
            if self._dice.random() < 0.3:
                repository.catalog.proofs.record(point, Proof("written", START, 1, run))

    def _collect(self, process: Process, repository: Repository) -> None:
        process.runs.append(run := uuid4())
        grace = NOW if self._dice.random() < 0.8 else timedelta(hours=1)
        options = CollectOptions(
            grace=grace, max_unused=self._dice.choice((0, 0.1, 1)), merge_from=self._dice.choice((2, 4))
        )
        report = repository.collect(run, options)
        self.counts["deleted packs"] += report.deleted_packs
        self.counts["deleted points"] += report.deleted_points
        self.counts["kept again"] += report.kept_again
        self.counts["moved"] += report.moved_bytes > 0
        self.counts["dead runs"] += report.dead_runs

    def _collect_often(self, process: Process, repository: Repository) -> None:
        for _ in range(3):
            with contextlib.suppress(RepositoryLocked):
                process.runs.append(run := uuid4())
                repository.collect(run, CollectOptions(grace=NOW, max_unused=0, merge_from=4))

    def _prune_all(self, process: Process, repository: Repository) -> None:
        for _ in range(3):
            self._forget(repository, list(repository.catalog.points())[:-1])

    def _prune(self, process: Process, repository: Repository) -> None:
        points = list(repository.catalog.points())
        chance = self._dice.random()
        if points and chance < 0.15:
            point = self._dice.choice(points)
            self.book.protected.discard(point.point_id)
            repository.pruner.protect(point)
            # A prune that was reported before would have been found.
            self.book.protected.add(point.point_id)
        elif points and chance < 0.25:
            point = self._dice.choice(points)
            self.book.protected.discard(point.point_id)
            repository.pruner.unprotect(point)
        old = self._dice.sample(points, min(len(points), max(len(points) - 4, 1)))
        if len(points) > 1:
            self._forget(repository, old)

    def _forget(self, repository: Repository, old: list[Point]) -> None:
        wanted = {point.point_id for point in old}
        self.book.begun |= wanted
        self.book.kept -= wanted
        self.book.pruned -= wanted
        stayed = {point.point_id for point in repository.pruner.prune(old)}
        self.book.pruned |= wanted - stayed

    def _verify(self, process: Process, repository: Repository) -> None:
        report = repository.verify(Level.HASHED)
        for problem in self._problems(report):
            touched = {each.point_id for each in problem.touches}
            if touched & self.book.kept:
                raise Lost(problem.name, problem.what)
            self.counts["verifier's problems"] += 1
        repository.publish_bad(report.bad)

    def _restore(self, process: Process, repository: Repository) -> None:
        """Read points, the later ones with what was known of the repository at the beginning."""
        points = list(repository.catalog.points())
        for point in self._dice.sample(points, min(len(points), 3)):
            try:
                found = read(repository, point)
            except Damaged as err:
                if point.point_id in self.book.kept:
                    raise Lost(point.point_id) from err
            else:
                self._compare(point, found)

    def _compare(self, point: Point, found: dict[int, bytes]) -> None:
        if found != expected(self.book.contents[point.point_id]):
            raise Lost(point.point_id, "it has another content")

    def _repair(self, process: Process, repository: Repository) -> None:
        process.runs.append(run := uuid4())
        if self._dice.random() < 0.5:
            repository.repair(run)
        else:
            repository.rebuild_index(run)

    # -- what must be true ----------------------------------------------------------------------------

    def check_errors(self) -> None:
        """Nothing failed that could not help it."""
        for process in self._scheduler.processes:
            error = process.error
            if error is None:
                continue
            if isinstance(error, RepositoryLocked) and not isinstance(error, LeaseLost):
                continue  # somebody else was at work
            if isinstance(error, PointGone):
                continue
            if isinstance(error, HvpsError) and process.was_declared_dead:
                continue
            if isinstance(error, Damaged) and process.name.startswith("writer") and self._came_back():
                continue  # it found chunks in a pack that is gone, see _problems
            if isinstance(error, Lost):
                raise error
            if isinstance(error, CollectRefused):
                raise Lost(str(error)) from error
            raise AssertionError(f"{process.name} failed after {process.last}: {error!r}") from error

    def _problems(self, report: VerifyReport) -> list[VerifyProblem]:
        """Problems that no suspended process can help.

        A writer that is suspended between its last look at the lease of its VM and its manifest may use a
        number twice. A process that goes on after it was declared dead, just before it publishes an index
        object, lists packs that are gone, which no point needs, until the next collect.
        """
        back = self._came_back()
        return [
            each
            for each in report.problems
            if not (back and each.name.startswith("lineage"))
            and not (back and not each.touches and "the pack is missing" in each.what)
        ]

    def _came_back(self) -> bool:
        """Whether a process went on after it was declared dead."""
        return any(each.was_declared_dead and not each.killed for each in self._scheduler.processes)

    def check(self) -> None:
        """Every kept point restores equal, and a verify finds nothing."""
        self.check_errors()
        with open_on_store(self._scheduler.store()) as repository:
            points = repository.catalog.points()
            there = {point.point_id for point in points}
            kept = self.book.kept | (self.book.protected - self.book.pruned)
            if kept - there:
                raise Lost(kept - there)
            assert not there & self.book.pruned, "a pruned point came back"
            for point in points:
                try:
                    self._compare(point, read(repository, point))
                except Damaged as err:
                    raise Lost(point.point_id, str(err)) from err
            problems = self._problems(repository.verify(Level.HASHED))
            assert not problems, problems

    def check_last(self) -> None:
        """After a last collect, there is nothing but what points need."""
        self._scheduler.dead_runs.update(run for each in self._scheduler.processes for run in each.runs)
        store = self._scheduler.store()
        with open_on_store(store) as repository:
            repository.collect(uuid4(), CollectOptions(grace=NOW, max_unused=0, merge_from=1 << 30))
        self.check()
        with open_on_store(store) as repository:
            assert not [each for each in repository.verify(Level.HASHED).problems if each.name[0] != "l"]
            check_lean(store, repository)


def read(repository: Repository, point: Point) -> dict[int, bytes]:
    """The chunks of a point that are not zero."""
    image = repository.image(point, point.disks[0])
    return {offset // CHUNK: bytes(raw) for offset, raw in image.chunks()}


def expected(content: Content) -> dict[int, bytes]:
    """As :func:`read`, from its letters."""
    return {place: letter(number) for place, number in content.items()}


def check_lean(store: ProcessStore, repository: Repository) -> None:
    """Check that each stored frame is needed, that none is stored twice, and that there is no litter."""
    every = sorted(store.objects)
    litter = {name.partition("/")[0] for name in every} - LASTING
    assert not litter, litter
    points = repository.catalog.points()
    ids = {point.point_id.hex for point in points}
    for folder in (POINTS, IDS, PROOFS, TAGS):
        of = {name.split("/")[1] for name in every if name.startswith(f"{folder}/")}
        assert of <= ids, f"{folder} of points that are gone: {of - ids}"
    needed: dict[Kind, set[bytes]] = {Kind.DATA_PACK: set(), Kind.NODE_PACK: set()}
    for point in points:
        image = repository.image(point, point.disks[0])
        needed[Kind.DATA_PACK].update(identity for _, identity in image.chunk_ids())
        needed[Kind.NODE_PACK].update(image._tree.node_ids())
    for kind, folder in ((Kind.DATA_PACK, DATA), (Kind.NODE_PACK, NODES)):
        packs = [pack for pack in repository._cache.packs() if pack.kind is kind]
        assert sorted(pack.name.hex() for pack in packs) == sorted(
            name.rsplit("/", 1)[1] for name in every if name.startswith(f"{folder}/")
        )
        found = [place.id for pack in packs for place in repository._cache.pack_entries(pack.number)]
        assert sorted(found) == sorted(needed[kind]), folder
    assert not any(name.startswith((f"{DOOMED}/", f"{RUNS}/")) for name in every)
