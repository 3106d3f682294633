"""Small objects that a collect deletes or merges."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import BadList, Tombstone, Tombstones
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.layout import (
    BAD,
    IDS,
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
    """Delete manifests, and then what belongs to them; tombstones stay."""
    every = sorted(points)
    if not every:
        return
    objects.delete_all(map(point_name, every))
    objects.store.commit_barrier()
    for point in every:
        rest = [info.name for folder in (PROOFS, TAGS) for info in objects.list(f"{folder}/{point.hex}")]
        objects.delete_all([ids_name(point), *rest])


def forget_rest(objects: Objects, catalog: Catalog) -> None:
    """Delete what belongs to pruned points whose manifests are gone. A process that was suspended, or a power
    loss, may have left it."""
    tombs = {tomb.point_id.hex for tomb in catalog.tombstones()}
    for folder in (IDS, PROOFS, TAGS):
        of = [info.name for info in objects.list(folder) if info.name.split("/")[1] in tombs]
        there = {info.name.rsplit("/", 1)[1] for info in objects.list(POINTS)} if of else set()
        objects.delete_all([name for name in of if name.split("/")[1] not in there])


def read_bad_lists(objects: Objects) -> dict[str, frozenset[bytes]]:
    """Names of the lists of bad frames that can be read, and the packs that each names."""
    found: dict[str, frozenset[bytes]] = {}
    for info in list(objects.list(BAD)):
        with contextlib.suppress(ObjectMissing, Damaged, NewerObject):
            frames = objects.read_record(BadList, info.name, Kind.BAD_LIST).frames
            found[info.name] = frozenset(frame.pack for frame in frames)
    return found


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
            if not objects.try_delete(name, "which was merged"):
                break
    return len(found)
