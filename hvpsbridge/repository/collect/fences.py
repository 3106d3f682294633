"""Fences of dead runs, so that a process that comes back cannot add a point that lacks what was deleted.

A collector creates the first object of a fence, and then lists the manifests of the run. The second object
names those: they are points, and a later manifest of the run does not count. A writer looks for a fence of
its run before and after its manifest. If it finds none after, its manifest was there before the fence, so the
fence names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.formats.doomed import Fence
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.repository.layout import FENCES
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.read_once import ReadOnce


class Fences:
    """Reads and makes fences."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._records = ReadOnce(objects, Fence, Kind.FENCE)

    def all(self) -> dict[UUID, frozenset[UUID] | None]:
        """Points of each run that has a fence; None for a run whose fence names them not yet."""
        if self._objects.format < 2:
            return {}
        found: dict[UUID, frozenset[UUID] | None] = {}
        for name in sorted(info.name for info in self._objects.list(FENCES)):
            fence = self._fence(name)
            if fence is None:
                continue
            points = None if fence.points is None else frozenset(fence.points)
            # The first one that names points counts.
            if found.get(fence.run) is None:
                found[fence.run] = points
        return found

    def undecided(self) -> frozenset[UUID]:
        """Runs whose fence does not name their points yet."""
        return frozenset(run for run, points in self.all().items() if points is None)

    def exists(self, run: UUID) -> bool:
        """Whether the run has a fence, complete or not."""
        names = [info.name for info in self._objects.list(_prefix(run))]
        return any(self._fence(name) is not None for name in names)

    def begin(self, run: UUID) -> None:
        """Create the first object of the fence, durably, unless there is one."""
        if not self.exists(run):
            self._append(Fence(run=run, at=datetime.now(UTC)))

    def decide(self, runs: Iterable[UUID], manifests: Collection[Manifest]) -> None:
        """Name the points of runs, durably.

        Args:
            runs: whose fences were begun before the manifests were listed.
            manifests: of the repository; all could be read.
        """
        for run in runs:
            self.complete(run, frozenset(each.point_id for each in manifests if each.writer == run))

    def complete(self, run: UUID, points: frozenset[UUID]) -> frozenset[UUID]:
        """Name the points of the run, durably, and return them; those that another collector named count.

        Args:
            run: the run object, whose fence was begun before its manifests were listed.
            points: of the run.
        """
        known = self.all().get(run)
        if known is None:
            self._append(Fence(run=run, at=datetime.now(UTC), points=tuple(sorted(points))))
            known = self.all().get(run)
        return points if known is None else known

    def _append(self, fence: Fence) -> None:
        self._objects.append_record(_prefix(fence.run), Kind.FENCE, fence)
        self._objects.store.commit_barrier()

    def _fence(self, name: str) -> Fence | None:
        fence = self._records.get(name)
        return fence if fence is not None and name.startswith(f"{_prefix(fence.run)}/") else None


def _prefix(run: UUID) -> str:
    return f"{FENCES}/{run.hex}"
