"""Removing points by their tombstones, tagging and protecting them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from hvpsbridge.errors import CollectRefused, PointGone
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.layout import point_name, tombstone_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.points import Point

logger = logging.getLogger(__name__)


class Pruner:
    """Changes what is said about points.

    Args:
        objects: the repository.
        catalog: its points.

    Raises:
        CollectRefused: the repository has format 1.
    """

    def __init__(self, objects: Objects, catalog: Catalog) -> None:
        if objects.format < 2:
            what = "it has format 1, in which points have no tombstones, tags or protection"
            raise CollectRefused(objects.store.url, what, "run `hvps repo upgrade` first")
        self._objects = objects
        self._catalog = catalog

    def prune(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """Prune points durably, oldest first; protected ones stay, and are returned."""
        kept: list[Point] = []
        states = self._catalog.states
        for point in sorted(points, key=lambda point: (str(point.vm_id), point.manifest.sequence)):
            digest = point.manifest.digest()
            if not states.tags.of(point.point_id, digest).protected:
                states.bury(point.manifest)
                # A protect looks for a tombstone afterwards, so one of both sees the other.
                if not states.tags.of(point.point_id, digest).protected:
                    continue
                self._dig_up(point)
            logger.warning("point %s of VM %s is protected and stays", point.short_id, point.vm_name)
            kept.append(point)
        return tuple(kept)

    def _dig_up(self, point: Point) -> None:
        """Delete the tombstone of a protected point, durably."""
        store = self._objects.store
        store.delete(tombstone_name(point.point_id))
        if not store.exists(point_name(point.point_id)):
            # This process was suspended, and meanwhile the protection ended and a collect removed the point.
            self._catalog.states.bury(point.manifest)
        store.commit_barrier()

    def _is_buried(self, point: Point) -> bool:
        return point.point_id in {tomb.point_id for tomb in self._catalog.tombstones()}

    def protect(self, point: Point) -> None:
        """Protect a point: nothing prunes it.

        Raises:
            PointGone: it was pruned meanwhile.
        """
        tags, digest = self._catalog.states.tags, point.manifest.digest()
        # A protected point that was pruned before is a point again at once, which nothing may rely on.
        is_new = not tags.of(point.point_id, digest).protected
        if is_new and not self._is_buried(point):
            tags.change(point.point_id, digest, protect=True)
        if is_new and self._is_buried(point):
            tags.change(point.point_id, digest, protect=False)
            raise PointGone(self._objects.store.url, point.short_id, "it was pruned just now")

    def unprotect(self, point: Point) -> None:
        """End the protection of a point."""
        tags, digest = self._catalog.states.tags, point.manifest.digest()
        # A prune that died may have left its tombstone, which would count from now on.
        if tags.of(point.point_id, digest).protected and self._is_buried(point):
            self._dig_up(point)
        tags.change(point.point_id, digest, protect=False)

    def tag(self, point: Point, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Add tags to a point, and remove tags from it."""
        self._catalog.states.tags.change(point.point_id, point.manifest.digest(), add=add, remove=remove)
