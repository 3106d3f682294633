"""Recovery points: committed manifests, their order, and how users select one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from hvpsbridge.errors import AmbiguousPoint, PointLost, PointNotFound
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.text import folded

_BACK = re.compile(r"latest(?:~(\d+))?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")
_SHORT_ID = re.compile(r"[0-9a-f-]{4,36}")
_ID = re.compile(r"id:([0-9a-fA-F-]+)")
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


class Named(Protocol):
    """A point, or a line of one."""

    @property
    def vm_id(self) -> UUID:
        """The VM's id."""

    @property
    def vm_name(self) -> str:
        """The VM's name when the point was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPoint:
    """A committed point whose manifest is damaged or missing.

    Attributes:
        name: object name of the manifest.
        what: what is wrong with it.
        vm_id: its VM; None if no object says which.
        digest: of its manifest; None if no object has it.
        first, last: its sequence number is one of these; ``last`` is None if it may be the VM's newest point.
    """

    point_id: UUID
    name: str
    what: str
    vm_id: UUID | None = None
    digest: bytes | None = None
    first: int = 1
    last: int | None = None


# The lost points that may be of a VM.
LostOf: TypeAlias = Callable[[UUID], Sequence[LostPoint]]


def _none_lost(vm_id: UUID) -> Sequence[LostPoint]:
    return ()


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points by VM, and within a VM by sequence, oldest first."""
    return tuple(sorted(points, key=lambda point: (str(point.vm_id), point.manifest.sequence, point.created)))


def select(points: Sequence[Point], selector: str, repository: str, lost_of: LostOf = _none_lost) -> Point:
    """The point that ``selector`` names.

    ``vm@latest``, ``vm@latest~1``, ``vm@2026-03-01T02:00Z`` (the newest up to then), ``vm@`` and a short id,
    ``vm`` alone for its latest, a short id, or ``id:PREFIX``, which is always the id of a point.

    ``vm`` is a name or an id. A name may contain ``@`` and may look like a short id: the name of a VM comes
    first. Letter case counts only where two VMs differ in nothing else.

    Raises:
        PointNotFound: there is no such point.
        AmbiguousPoint: the selector fits several VMs or several points.
        PointLost: the newest point up to then may be one that is lost.
    """
    if prefix := _ID.fullmatch(selector):
        return _single(_by_short_id(points, prefix[1]), selector, repository)
    vm, _, which = selector.rpartition("@")
    for written in (_as_written, folded):
        whole = _ids_of(points, selector, written)
        parts = _ids_of(points, vm, written) if vm and _selects(which, besides_name=bool(whole)) else set()
        if len(whole | parts) > 1:
            raise AmbiguousPoint(selector, repository, tuple(sorted(map(str, whole | parts))))
        for vm_id in whole | parts:
            which = which if parts else "latest"
            return select_of(points, vm_id, which, selector, repository, lost_of)
    return _single(_by_short_id(points, selector), selector, repository)


def select_of(
    points: Sequence[Point],
    vm_id: UUID,
    which: str,
    selector: str,
    repository: str,
    lost_of: LostOf = _none_lost,
) -> Point:
    """The point of one VM that ``which`` names, as after the ``@`` of a selector.

    Args:
        points: of any VMs, sorted as by :func:`in_order`.
        vm_id: the VM. It keeps its points when it is renamed.
        which: what to select.
        selector: what the user wrote, for errors.
        repository: for errors.
        lost_of: the lost points that may be of a VM.

    Raises:
        PointNotFound: the VM has no such point.
        AmbiguousPoint: several of its points have an id that begins so.
        PointLost: the point that was meant may be one that is lost.
    """
    mine = [point for point in points if point.vm_id == vm_id]
    if back := _BACK.fullmatch(which):
        steps = _steps(back[1])
        found = len(mine) - 1 - steps
        _refuse_lost(mine[: max(found + 1, 0)], [], lost_of(vm_id), selector, repository)
        if found >= 0:
            return mine[found]
    elif _TIME.fullmatch(which):
        limit = _moment(which)
        earlier = [point for point in mine if limit is not None and point.created <= limit]
        after = mine[mine.index(earlier[-1]) + 1 :] if earlier else mine
        _refuse_lost(earlier, after, lost_of(vm_id), selector, repository)
        if earlier:
            return earlier[-1]
    else:
        prefix = _ID.fullmatch(which)
        return _single(_by_short_id(mine, prefix[1] if prefix else which), selector, repository)
    raise PointNotFound(selector, repository)


def _refuse_lost(
    up_to: Sequence[Point],
    after: Sequence[Point],
    lost: Iterable[LostPoint],
    selector: str,
    repository: str,
) -> None:
    """Raise PointLost if a lost point may come after the points ``up_to`` and before those ``after``.

    Otherwise damage of the newest manifest would turn ``latest`` into the point before it.
    """
    low = up_to[-1].manifest.sequence if up_to else 0
    high = after[0].manifest.sequence if after else None
    for point in lost:
        if (point.last is None or point.last > low) and (high is None or point.first < high):
            raise PointLost(repository, point.name, point.what, selector)


def vms_named(points: Sequence[Named], vm: str) -> frozenset[UUID]:
    """VMs that have this id, or have or had this name; letter case counts only where they differ in it."""
    return frozenset(_ids_of(points, vm, _as_written) or _ids_of(points, vm, folded))


def _as_written(name: str) -> str:
    return name


def _ids_of(points: Sequence[Named], vm: str, written: Callable[[str], str]) -> set[UUID]:
    """VMs that have this id, or have or had this name."""
    wanted = written(vm)
    return {
        point.vm_id
        for point in points
        if wanted in (written(point.vm_name), str(point.vm_id)) or vm.lower() == str(point.vm_id)
    }


def _selects(which: str, *, besides_name: bool) -> bool:
    """Whether ``which`` can select a point of a VM; beside a VM whose name ends so, a short id does not."""
    if any(form.fullmatch(which) for form in (_BACK, _TIME, _ID)):
        return True
    return not besides_name and _SHORT_ID.fullmatch(which.lower()) is not None


def _steps(digits: str | None) -> int:
    # No VM has a point for ten digits, and int() refuses some thousand of them.
    return int(digits or 0) if len(digits or "") < 10 else sys.maxsize


def _by_short_id(points: Sequence[Point], text: str) -> list[Point]:
    start = text.lower().replace("-", "")
    if not _SHORT_ID.fullmatch(text.lower()) or not start:
        return []
    return [point for point in points if point.point_id.hex.startswith(start)]


def _single(found: list[Point], selector: str, repository: str) -> Point:
    if not found:
        raise PointNotFound(selector, repository)
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
