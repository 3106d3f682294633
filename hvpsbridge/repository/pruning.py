"""Removing points by their tombstones, tagging and protecting them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from hvpsbridge.errors import CollectRefused, PointGone
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.layout import tombstone_name
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
                # Whoever protects the point looks for a tombstone afterwards, so one of both sees the other.
                if not states.tags.of(point.point_id, digest).protected:
                    continue
                self._objects.store.delete(tombstone_name(point.point_id))
            logger.warning("point %s of VM %s is protected and stays", point.short_id, point.vm_name)
            kept.append(point)
        return tuple(kept)

    def protect(self, point: Point) -> None:
        """Protect a point: nothing prunes it.

        Raises:
            PointGone: it was pruned meanwhile.
        """
        tags, digest = self._catalog.states.tags, point.manifest.digest()
        tags.change(point.point_id, digest, protect=True)
        if point.point_id in {tomb.point_id for tomb in self._catalog.tombstones()}:
            tags.change(point.point_id, digest, protect=False)
            raise PointGone(self._objects.store.url, point.short_id, "it was pruned just now")

    def unprotect(self, point: Point) -> None:
        """End the protection of a point."""
        self._catalog.states.tags.change(point.point_id, point.manifest.digest(), protect=False)

    def tag(self, point: Point, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Add tags to a point, and remove tags from it."""
        self._catalog.states.tags.change(point.point_id, point.manifest.digest(), add=add, remove=remove)
