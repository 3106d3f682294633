"""Recovery points: committed manifests, their order, and how users select one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import AmbiguousPoint, PointNotFound
from hvpsbridge.formats.manifest import Manifest, ManifestDisk

_BACK = re.compile(r"latest(?:~(\d+))?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")
_SHORT_ID = re.compile(r"[0-9a-f-]{4,36}")
SHORT_ID_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A committed recovery point."""

    manifest: Manifest

    @property
    def point_id(self) -> UUID:
        """Its id."""
        return self.manifest.point_id

    @property
    def vm_id(self) -> UUID:
        """The VM's id."""
        return self.manifest.vm_id

    @property
    def vm_name(self) -> str:
        """The VM's name when the point was made."""
        return self.manifest.vm_name

    @property
    def created(self) -> datetime:
        """When its checkpoint was taken, UTC."""
        return self.manifest.created

    @property
    def disks(self) -> tuple[ManifestDisk, ...]:
        """Its disks."""
        return self.manifest.disks

    @property
    def short_id(self) -> str:
        """The first digits of the id, as shown to users."""
        return self.manifest.point_id.hex[:SHORT_ID_DIGITS]


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points by VM, and within a VM by sequence, oldest first."""
    return tuple(sorted(points, key=lambda point: (str(point.vm_id), point.manifest.sequence, point.created)))


def select(points: Sequence[Point], selector: str, repository: str) -> Point:
    """The point that ``selector`` names: ``vm@latest``, ``vm@latest~1``, ``vm@2026-03-01T02:00Z`` (the
    newest up to then), ``vm@<short id>``, a short id, or ``vm`` alone for its latest.

    ``vm`` is a name (in any letter case) or an id. Names may contain ``@``; the last one is the separator.

    Raises:
        PointNotFound: there is no such point.
        AmbiguousPoint: several points match a short id, or several VMs a name.
    """
    vm, _, which = selector.rpartition("@")
    if not vm:
        vm, which = selector, "latest"
        by_id = _by_short_id(points, selector)
        if by_id:
            return _single(by_id, selector, repository)
    mine = _of_vm(points, vm, selector, repository)
    back = _BACK.fullmatch(which)
    if back:
        steps = int(back[1] or 0)
        if steps < len(mine):
            return mine[-1 - steps]
    elif _TIME.fullmatch(which):
        limit = _moment(which)
        earlier = [point for point in mine if limit is not None and point.created <= limit]
        if earlier:
            return earlier[-1]
    else:
        by_id = _by_short_id(mine, which)
        if by_id:
            return _single(by_id, selector, repository)
    raise PointNotFound(selector, repository)


def _of_vm(points: Sequence[Point], vm: str, selector: str, repository: str) -> list[Point]:
    named = [point for point in points if vm.casefold() in (point.vm_name.casefold(), str(point.vm_id))]
    ids = sorted({str(point.vm_id) for point in named})
    if not ids:
        raise PointNotFound(selector, repository)
    if len(ids) > 1:
        raise AmbiguousPoint(selector, repository, tuple(ids))
    # A VM that was renamed keeps its points: all with its id are meant.
    return [point for point in points if str(point.vm_id) == ids[0]]


def _by_short_id(points: Sequence[Point], text: str) -> list[Point]:
    if not _SHORT_ID.fullmatch(text.lower()):
        return []
    start = text.lower().replace("-", "")
    return [point for point in points if point.point_id.hex.startswith(start)]


def _single(found: list[Point], selector: str, repository: str) -> Point:
    if len(found) > 1:
        raise AmbiguousPoint(selector, repository, tuple(str(point.point_id) for point in found))
    return found[0]


def _moment(text: str) -> datetime | None:
    """The time in ``text``, UTC without a zone; a date means the end of that day. None if it is not valid."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) == len("2026-03-01"):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
