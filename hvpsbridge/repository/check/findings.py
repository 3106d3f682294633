"""What a verification says: levels, problems, and what each of them touches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.repository.points import Point


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
class VerifyProblem:
    """Something that is not as it was written.

    Attributes:
        name: object, chunk or node.
        touches: points that need it; empty when none does.
    """

    name: str
    what: str
    touches: tuple[TouchedPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
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
    problems: tuple[VerifyProblem, ...]
    bad: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def touched(point: Point, parts: tuple[str, ...]) -> TouchedPoint:
    """The point as something that a problem touches, in ``parts`` or as a whole."""
    return TouchedPoint(point.point_id, point.vm_id, point.vm_name, parts)
