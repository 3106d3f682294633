"""Levels and results of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.repository.check.coverage import Coverage
from hvpsbridge.repository.points import Point


class Level(StrEnum):
    """How much to check."""

    WRITTEN = "written"
    HASHED = "hashed"
    READABLE = "readable"
    BOOTS = "boots"


@dataclass(frozen=True, slots=True)
class TouchedPoint:
    """A point that a problem touches, and which of its disks and files."""

    point_id: UUID
    vm_id: UUID
    vm_name: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerifyProblem:
    """Something that is not what was written.

    Attributes:
        name: of the object, chunk, node or lineage.
        what: what is wrong.
        touches: points that need it.
    """

    name: str
    what: str
    touches: tuple[TouchedPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of a verification.

    Attributes:
        points: how many points were checked.
        chunks: how many distinct chunks they need.
        hashed_chunks: how many chunks and nodes were read and checked.
        hashed_bytes: their raw bytes.
        notes: what is not as it was written either, but touches no point and no later backup.
        bad: frames (id, pack name) that are bad, for ``Repository.publish_bad``.
        coverage: how much of the packs was read, if there was a budget.
    """

    level: Level
    points: int
    chunks: int
    hashed_chunks: int
    hashed_bytes: int
    seconds: float
    problems: tuple[VerifyProblem, ...]
    notes: tuple[VerifyProblem, ...] = ()
    bad: tuple[tuple[bytes, bytes], ...] = ()
    coverage: Coverage | None = None

    @property
    def good(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def touched(point: Point, parts: tuple[str, ...]) -> TouchedPoint:
    """The point, touched in ``parts``, or as a whole when they are empty."""
    return TouchedPoint(point.point_id, point.vm_id, point.vm_name, parts)
