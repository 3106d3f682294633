"""Tags and protection of points. Manifests never change, so both are marks beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.marks import TagChange
from hvpsbridge.repository.layout import TAGS
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.read_once import ReadOnce


@dataclass(frozen=True, slots=True)
class PointTags:
    """Tags of a point, and whether it is protected: no prune removes it."""

    tags: frozenset[str] = frozenset()
    protected: bool = False


NO_TAGS = PointTags()


class Tags:
    """Reads and changes tags."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._changes = ReadOnce(objects, TagChange, Kind.TAG)

    def all(self) -> dict[UUID, dict[bytes, PointTags]]:
        """Tags by point and digest of its manifest; without points that never had any."""
        return self._gather(TAGS) if self._objects.format > 1 else {}

    def of(self, point_id: UUID, digest: bytes) -> PointTags:
        """Tags of one point, whose manifest has this digest."""
        return self._gather(_prefix(point_id)).get(point_id, {}).get(digest, NO_TAGS)

    def change(
        self,
        point_id: UUID,
        digest: bytes,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        protect: bool | None = None,
    ) -> None:
        """Record a change durably; see ``formats.marks.TagChange``."""
        change = TagChange(
            manifest_digest=digest,
            at=datetime.now(UTC),
            add=tuple(sorted(add)),
            remove=tuple(sorted(remove)),
            protect=protect,
        )
        self._objects.append_record(_prefix(point_id), Kind.TAG, change)
        self._objects.store.commit_barrier()

    def _gather(self, prefix: str) -> dict[UUID, dict[bytes, PointTags]]:
        found: dict[UUID, dict[bytes, PointTags]] = {}
        for name in sorted(info.name for info in self._objects.list(prefix)):
            change = self._changes.get(name)
            if change is None:
                continue
            of_point = found.setdefault(UUID(name.split("/")[1]), {})
            before = of_point.get(change.manifest_digest, NO_TAGS)
            of_point[change.manifest_digest] = PointTags(
                (before.tags | frozenset(change.add)) - frozenset(change.remove),
                before.protected if change.protect is None else change.protect,
            )
        return found


def _prefix(point_id: UUID) -> str:
    return f"{TAGS}/{point_id.hex}"
