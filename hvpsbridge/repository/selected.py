"""Points that a user or a task selected: what is missing of one that was pruned meanwhile is not damage.

A collect deletes what only pruned points need, after a grace time. Somebody who reads such a point for longer
finds packs missing. Its tombstone was there before, so it shows why.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from hvpsbridge.errors import PointGone
from hvpsbridge.repository.point_states import PointStates
from hvpsbridge.repository.points import Point

# Between two looks: a damaged repository may miss a frame with each read.
LOOK_SECONDS = 5.0


def pruned_text(at: datetime) -> str:
    """That a point was pruned, and when."""
    return f"it was pruned at {at:%Y-%m-%d %H:%M} UTC"


class Selected:
    """The points that this process selected one by one.

    Args:
        states: of the repository.
        url: of the repository, for errors.
    """

    def __init__(self, states: PointStates, url: str) -> None:
        self._states = states
        self._url = url
        self._points: dict[UUID, Point] = {}
        self._looked = float("-inf")

    def add(self, point: Point) -> Point:
        """Remember that this point was selected; returns it."""
        self._points[point.point_id] = point
        return point

    def check(self) -> None:
        """Called when something is missing. Returns if all selected points are still points.

        Raises:
            PointGone: one was pruned, or its run declared dead.
        """
        now = time.monotonic()
        if self._points and now - self._looked >= LOOK_SECONDS:
            for error in self.gone(tuple(self._points.values())).values():
                raise error
            self._looked = now

    def gone(self, points: Iterable[Point]) -> dict[UUID, PointGone]:
        """Which of these are points no longer, by id, each with the error that says so."""
        states = self._states.read()
        found = {}
        for point in points:
            if states.is_pruned(point.manifest):
                what = pruned_text(states.tombstones[point.point_id].at)
            elif states.is_void(point.manifest):
                what = "its run was declared dead before it was committed"
            else:
                continue
            found[point.point_id] = PointGone(self._url, f"{point.vm_name}@{point.short_id}", what)
        return found
