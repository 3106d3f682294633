"""Small objects that a collect deletes or merges."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from hvpsbridge.errors import Damaged, HvpsError, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import Tombstone, Tombstones
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.layout import (
    POINTS,
    PROOFS,
    PRUNED,
    TAGS,
    TOMBSTONES,
    ids_name,
    point_name,
    random_name,
)
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)

# From so many tombstones on, they are merged into one object.
MERGE_TOMBSTONES_FROM = 100
# Tombstones in one object; each takes about 350 bytes.
TOMBSTONES_IN_OBJECT = 16384


def forget_points(objects: Objects, points: Iterable[UUID]) -> None:
    """Delete the manifests of pruned points, and then what belongs to them; their tombstones stay."""
    every = sorted(points)
    if not every:
        return
    delete_all(objects, map(point_name, every))
    objects.store.commit_barrier()
    for point in every:
        rest = [info.name for folder in (PROOFS, TAGS) for info in objects.list(f"{folder}/{point.hex}")]
        delete_all(objects, [ids_name(point), *rest])


def delete_all(objects: Objects, names: Iterable[str]) -> None:
    """Delete objects; one that is gone already is no error."""
    for name in names:
        objects.store.delete(name)


def merge_tombstones(objects: Objects, catalog: Catalog) -> int:
    """Merge tombstones of points whose manifests are gone; how many objects were merged."""
    manifests = {info.name.rsplit("/", 1)[1] for info in objects.list(POINTS)}
    found: list[tuple[str, Tombstone]] = []
    for info in objects.list(TOMBSTONES):
        if info.name.rsplit("/", 1)[1] in manifests:
            continue
        try:
            found.append((info.name, objects.read_record(Tombstone, info.name, Kind.TOMBSTONE)))
        except (ObjectMissing, Damaged, NewerObject) as err:
            logger.warning("%s", err)
    if len(found) < MERGE_TOMBSTONES_FROM:
        return 0
    for at in range(0, len(found), TOMBSTONES_IN_OBJECT):
        some = found[at : at + TOMBSTONES_IN_OBJECT]
        merged = Tombstones(tombstones=tuple(tomb for _, tomb in some))
        objects.write_record(f"{PRUNED}/{random_name().hex()}", Kind.TOMBSTONES, merged)
        objects.store.commit_barrier()
        for name, _ in some:
            try:
                objects.store.delete(name)
            except HvpsError as err:  # it says what the merged one says
                logger.warning("cannot delete %s, which was merged: %s", name, err)
                break
    return len(found)
