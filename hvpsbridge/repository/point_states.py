"""What decides whether a manifest is a point: tombstones, fences and tags.

A pruned point keeps its manifest until a collect deletes it, because a backup that began before may count
from it. So a manifest with a tombstone does not count, unless the point is protected. A user who protects a
point while a prune removes it either keeps it, or gets an error that it was pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from hvpsbridge.errors import ObjectExists
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.formats.marks import Tombstone, Tombstones
from hvpsbridge.repository.collect.fences import Fences
from hvpsbridge.repository.layout import PRUNED, TOMBSTONES, tombstone_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.read_once import ReadOnce
from hvpsbridge.repository.tags import NO_TAGS, PointTags, Tags


class Committed(Protocol):
    """A manifest, or what is known of one."""

    @property
    def point_id(self) -> UUID:
        """Its point."""

    @property
    def writer(self) -> UUID | None:
        """The run object of its writer."""

    def digest(self) -> bytes:
        """SHA-256 of its text."""


@dataclass(frozen=True, slots=True)
class States:
    """States of all points at one time, read after their manifests were listed.

    Attributes:
        tombstones: by point.
        fences: points of each run that has a fence, see ``Fences.all``.
        tags: by point and digest of its manifest.
    """

    tombstones: Mapping[UUID, Tombstone]
    fences: Mapping[UUID, frozenset[UUID] | None]
    tags: Mapping[UUID, Mapping[bytes, PointTags]]

    def is_point(self, manifest: Committed) -> bool:
        """Whether a manifest is a point."""
        return not self.is_pruned(manifest) and not self.is_void(manifest)

    def is_pruned(self, manifest: Committed) -> bool:
        """Whether the point was pruned, and is not protected."""
        return manifest.point_id in self.tombstones and not self.tags_of(manifest).protected

    def is_void(self, manifest: Committed) -> bool:
        """Whether it is of a run that a collect declared dead before the manifest was there."""
        points = None if manifest.writer is None else self.fences.get(manifest.writer)
        return points is not None and manifest.point_id not in points

    def is_safe(self, manifest: Committed) -> bool:
        """Whether it is a point and stays one unless somebody prunes it."""
        run = manifest.writer
        undecided = run is not None and run in self.fences and self.fences[run] is None
        return not undecided and self.is_point(manifest)

    def tags_of(self, manifest: Committed) -> PointTags:
        """Tags of the point."""
        # Computing the digest takes time, and most points never had a tag.
        tags = self.tags.get(manifest.point_id)
        return NO_TAGS if tags is None else tags.get(manifest.digest(), NO_TAGS)


class PointStates:
    """Reads all states, and writes tombstones."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.fences = Fences(objects)
        self.tags = Tags(objects)
        self._tombstones = ReadOnce(objects, Tombstone, Kind.TOMBSTONE)
        self._merged = ReadOnce(objects, Tombstones, Kind.TOMBSTONES)

    def read(self) -> States:
        """The states of all points; in format 1, tombstones alone change nothing."""
        if self._objects.format < 2:
            return States({}, {}, {})
        # A tombstone counts unless the point is protected, so tombstones are read first.
        tombstones = {tomb.point_id: tomb for tomb in self.tombstones()}
        return States(tombstones, self.fences.all(), self.tags.all())

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Tombstones of pruned points. Those that cannot be read are logged, and ``verify`` reports gaps."""
        found: dict[UUID, Tombstone] = {}
        for info in list(self._objects.list(TOMBSTONES)):
            tomb = self._tombstones.get(info.name)
            if tomb is not None and tombstone_name(tomb.point_id) == info.name:
                found[tomb.point_id] = tomb
        # Listed last: one that a collect merged meanwhile is in an object there.
        for info in list(self._objects.list(PRUNED)):
            if (merged := self._merged.get(info.name)) is not None:
                found.update((tomb.point_id, tomb) for tomb in merged.tombstones)
        return tuple(found.values())

    def bury(self, manifest: Manifest) -> None:
        """Write the tombstone of a point durably: it is hidden from now on, unless it is protected."""
        tomb = Tombstone(
            point_id=manifest.point_id,
            vm_id=manifest.vm_id,
            sequence=manifest.sequence,
            digest=manifest.digest(),
            previous=manifest.previous,
            at=datetime.now(UTC),
        )
        try:
            self._objects.write_record(tombstone_name(manifest.point_id), Kind.TOMBSTONE, tomb)
        except ObjectExists:
            if manifest.point_id not in {each.point_id for each in self.tombstones()}:
                raise  # something else has the name
        self._objects.store.commit_barrier()
