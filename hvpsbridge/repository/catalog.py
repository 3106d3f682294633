"""The recovery points of a repository: manifests, their ids, and the records about them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, ObjectExists, ObjectMissing, PointGone, PointNotFound
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.ids import PointIds
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import decode_manifest
from hvpsbridge.formats.marks import BadFrame, BadList, Tombstone
from hvpsbridge.repository.collect.fences import Fences
from hvpsbridge.repository.layout import (
    BAD,
    IDS,
    POINTS,
    ids_name,
    point_name,
)
from hvpsbridge.repository.lost import find_lost, next_after
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.point_lines import (
    PointLine,
    decode_line,
    encode_line,
    line_of,
)
from hvpsbridge.repository.point_states import PointStates
from hvpsbridge.repository.points import LostPoint, Point, in_order, select, select_of
from hvpsbridge.repository.proofs import Proofs
from hvpsbridge.repository.remembered import Remembered
from hvpsbridge.repository.selected import Selected, pruned_text
from hvpsbridge.repository.stores.base import ObjectInfo
from hvpsbridge.repository.unreadable import Unreadable

logger = logging.getLogger(__name__)

COULD_NOT_BE_READ = "it could not be read in the last day"
UUID_DIGITS = 32
# Of the start of an id that a user may give (see ``points``).
SHORTEST_ID_DIGITS = 4


class Catalog:
    """The small objects of a repository: everything known about points without reading their disks."""

    def __init__(self, objects: Objects, unreadable: Unreadable, folder: Path | None = None) -> None:
        self._objects = objects
        points = None if folder is None else folder / "points"
        self._remembered_lines = Remembered(objects, points, encode_line, decode_line)
        self.proofs = Proofs(objects, None if folder is None else folder / "proofs")
        self._unreadable = unreadable
        # By object name. Manifests never change, so each is read once.
        self._manifests: dict[str, Point] = {}
        # Anyone can add objects that are not manifests, and a run asks for the points again and again.
        self._not_manifests: dict[ObjectInfo, Damaged | NewerObject] = {}
        # Names of manifests that were empty when they were listed.
        self._empty: frozenset[str] = frozenset()
        self._logged: set[str] = set()
        self.states = PointStates(objects)
        self.selected = Selected(self.states, objects.store.url)
        # Ids never change either, and a run asks for those of all points of its VM several times.
        self._ids: dict[str, PointIds] = {}

    def log_damage(self, damage: Damaged | NewerObject) -> None:
        """Log damage as an error, once for each object however often it is read."""
        if damage.name not in self._logged:
            self._logged.add(damage.name)
            logger.error("%s", damage)

    def points(self, vm_id: UUID | None = None) -> tuple[Point, ...]:
        """Committed points, of all VMs or of one; sorted by VM, then oldest first.

        Manifests that cannot be read are left out and logged; ``verify`` reports them.
        """
        return in_order(
            point
            for name, point in self.read_points()
            if isinstance(point, Point) and (vm_id is None or point.vm_id == vm_id)
        )

    def read_points(self) -> Iterator[tuple[str, Point | Damaged | NewerObject]]:
        """The object name of every manifest with its point, or with what is wrong with it.

        One that a newer hvps wrote hides only itself. Manifests of points that were pruned, or whose run was
        declared dead before, are left out.
        """
        found = list(self.read_manifests())
        # Read after the manifests were listed: one that comes after its fence does not count.
        states = self.states.read()
        for name, read in found:
            if not isinstance(read, Point) or states.is_point(read.manifest):
                yield name, read

    def read_lines(self) -> Iterator[tuple[str, PointLine | Damaged | NewerObject]]:
        """As :meth:`read_points`, with lines of points.

        Manifests that were not written since they were read on this machine are not read again.
        """
        listed = self._list_manifests()
        lines = self._remembered_lines.of(listed)
        found: dict[str, PointLine | Damaged | NewerObject] = dict(lines)
        for name, read in self._read_listed([info for info in listed if info.name not in lines]):
            found[name] = line_of(read.manifest) if isinstance(read, Point) else read
        kept = {name: line for name, line in found.items() if isinstance(line, PointLine)}
        self._remembered_lines.save(listed, kept)
        states = self.states.read()
        for name, line in sorted(found.items()):
            if not isinstance(line, PointLine) or states.is_point(line):
                yield name, line

    def safe_bases(self) -> frozenset[UUID]:
        """Points that stay points unless somebody prunes them."""
        found = [read.manifest for _, read in self.read_manifests() if isinstance(read, Point)]
        states = self.states.read()
        return frozenset(manifest.point_id for manifest in found if states.is_safe(manifest))

    def read_manifests(self) -> Iterator[tuple[str, Point | Damaged | NewerObject]]:
        """As :meth:`read_points`, but nothing is left out."""
        return self._read_listed(self._list_manifests())

    def _list_manifests(self) -> list[ObjectInfo]:
        # A link in place of a manifest is damage, too.
        listed = sorted(self._objects.list_all(POINTS), key=lambda info: info.name)
        self._empty = frozenset(info.name for info in listed if not info.size_bytes)
        return [info for info in listed if info.size_bytes]

    def _read_listed(
        self, infos: Sequence[ObjectInfo]
    ) -> Iterator[tuple[str, Point | Damaged | NewerObject]]:
        missing = [
            info for info in infos if info.name not in self._manifests and info not in self._not_manifests
        ]
        read = self._objects.each(self._try_point, [info.name for info in missing])
        fetched = dict(zip(missing, read, strict=True))
        for info in infos:
            name = info.name
            found = self._manifests.get(name) or self._not_manifests.get(info) or fetched.get(info)
            if isinstance(found, Point):
                self._manifests[name] = found
            elif isinstance(found, (Damaged, NewerObject)):
                self._not_manifests[info] = found
                self.log_damage(found)
            if found is not None:
                yield name, found

    def _try_point(self, name: str) -> Point | Damaged | NewerObject | None:
        try:
            return self._read_point(name)
        except ObjectMissing:
            return None  # pruned since the listing
        except (Damaged, NewerObject) as err:
            return err

    def clear_cache(self) -> None:
        """Read everything again from now on; verification must not trust what was read before."""
        self._manifests.clear()
        self._not_manifests.clear()
        self._ids.clear()

    def _read_point(self, name: str) -> Point:
        payload = self._objects.read(name, Kind.MANIFEST)
        try:
            manifest = decode_manifest(payload)
        except Malformed as err:
            raise self._objects.unreadable(name, err) from err
        if point_name(manifest.point_id) != name:
            raise self._objects.damaged(name, f"it is the manifest of point {manifest.point_id}")
        return Point(manifest)

    def find_point(self, selector: str) -> Point:
        """The point that a user selects, see ``points.select``.

        Raises:
            PointNotFound: there is no such point.
            AmbiguousPoint: there are several.
            PointLost: it may be one whose manifest is damaged or missing.
            PointGone: it was pruned.
            Damaged: it is one whose manifest is damaged.
        """
        points = self.points()
        try:
            found = select(points, selector, self._objects.store.url, self.lost_points)
        except PointNotFound:
            self._refuse_known(selector)
            raise
        return self.selected.add(found)

    def find_point_of(self, vm_id: UUID, which: str) -> Point:
        """The point of this VM, and of no other, that ``which`` selects, see ``points.select_of``.

        Raises:
            PointNotFound: there is no such point.
            AmbiguousPoint: there are several.
            PointLost: it may be one whose manifest is damaged or missing.
            PointGone: it was pruned.
            Damaged: it is one whose manifest is damaged.
        """
        selector, url = f"{vm_id}@{which}", self._objects.store.url
        try:
            found = select_of(self.points(vm_id), vm_id, which, selector, url, self.lost_points)
        except PointNotFound:
            self._refuse_known(selector)
            raise
        return self.selected.add(found)

    def _refuse_known(self, selector: str) -> None:
        """Raise if ``selector`` ends in the start of the id of a point that cannot be read, or was pruned."""
        start = selector.rpartition("@")[2].removeprefix("id:").replace("-", "").lower()
        if len(start) >= SHORTEST_ID_DIGITS:
            for name, found in self.read_points():
                if isinstance(found, (Damaged, NewerObject)) and name.startswith(f"{POINTS}/{start}"):
                    raise found
            for tomb in self.tombstones():
                if tomb.point_id.hex.startswith(start):
                    raise PointGone(self._objects.store.url, selector, pruned_text(tomb.at))

    def lost_points(self, vm_id: UUID | None = None) -> tuple[LostPoint, ...]:
        """Committed points whose manifest is damaged or missing, of all VMs, or those that may be of one.

        See ``lost`` for what counts as one. A missing manifest is found here by its ids only; ``verify``
        looks further.
        """
        # Not from what is remembered: the newest point would be passed over if its manifest is damaged.
        return self._lost_among(list(self.read_points()), vm_id)

    def _lost_among(
        self, read: Iterable[tuple[str, Point | PointLine | Damaged | NewerObject]], vm_id: UUID | None
    ) -> tuple[LostPoint, ...]:
        with_ids = {info.name.rsplit("/", 1)[1] for info in self._objects.list(IDS)}
        suspects: dict[UUID, str] = {}
        for name, found in read:
            with_ids.discard(digits := name.rsplit("/", 1)[1])
            if isinstance(found, (Damaged, NewerObject)) and len(digits) == UUID_DIGITS:
                suspects[UUID(digits)] = found.what
        missing = {UUID(digits) for digits in with_ids if len(digits) == UUID_DIGITS}
        empty = {UUID(name.rsplit("/", 1)[1]) for name in self._empty}
        if not suspects and not missing and not empty:
            return ()
        tombstones = self.tombstones()
        for point_id in missing - {tomb.point_id for tomb in tombstones}:
            try:
                self._objects.store.size(point_name(point_id))  # committed since the listing
            except ObjectMissing:
                suspects[point_id] = "the manifest is missing"
            except Damaged as err:  # a folder
                suspects[point_id] = err.what
        for point_id in empty - {tomb.point_id for tomb in tombstones}:
            suspects[point_id] = "the manifest is empty"
        return find_lost(self._objects, suspects, self.points(), tombstones, vm_id)

    def unreadable_points(
        self, lines: Sequence[tuple[str, PointLine | Damaged | NewerObject]]
    ) -> tuple[LostPoint, ...]:
        """Lost points of all VMs, and manifests that cannot be read and that nothing else names.

        Args:
            lines: of :meth:`read_lines`.
        """
        found = {point.name: point for point in self._lost_among(lines, None)}
        for name, read in lines:
            if not isinstance(read, PointLine):
                point_id = UUID(name.rsplit("/", 1)[1])
                found.setdefault(name, LostPoint(point_id=point_id, name=name, what=read.what))
        return tuple(found[name] for name in sorted(found))

    def publish_ids(self, point: Point, ids: PointIds) -> None:
        """Store the ids of a point's reference point, durably; from now on the point can be a base.

        If something has their name already, which anyone who can create objects can bring about, it cannot.

        Raises:
            ValueError: the ids belong to another point.
        """
        if not ids.fits(point.manifest):
            raise ValueError(f"these ids do not belong to point {point.point_id}")
        name = ids_name(point.point_id)
        try:
            self._objects.write_record(name, Kind.IDS, ids)
        except ObjectExists:
            logger.warning("%s exists already, so point %s cannot be a base", name, point.point_id)
            return
        self._objects.store.commit_barrier()

    def ids(self, point: Point) -> PointIds | None:
        """Ids of the point; None when it has none that match its manifest, so it cannot be a base."""
        name = ids_name(point.point_id)
        if (known := self._ids.get(name)) is not None:
            return known
        try:
            ids = self._objects.read_record(PointIds, name, Kind.IDS)
        except ObjectMissing:
            return None
        except (Damaged, NewerObject) as err:
            logger.warning("the ids of point %s cannot be used: %s", point.point_id, err)
            return None
        if not ids.fits(point.manifest):
            return None
        self._ids[name] = ids
        return ids

    def with_ids(self, vm_id: UUID) -> tuple[tuple[Point, PointIds | None], ...]:
        """Points of a VM, oldest first, each with its ids, or None when it cannot be a base."""
        points = self.points(vm_id)
        published = {info.name for info in self._objects.list(IDS)}
        wanted = [point for point in points if ids_name(point.point_id) in published]
        read = self._objects.each(self.ids, wanted)
        found = {point.point_id: ids for point, ids in zip(wanted, read, strict=True)}
        return tuple((point, found.get(point.point_id)) for point in points)

    def next_link(self, vm_id: UUID) -> tuple[int, bytes | None]:
        """Sequence number of a VM's next point and digest of the one before; pruned and lost ones count."""
        self._settle()
        return next_after(vm_id, self.points(vm_id), self.tombstones(), self.lost_points(vm_id))

    def _settle(self) -> None:
        """Name the points of runs whose fence a collect began, and then died or was slow.

        Otherwise a manifest might be counted that does not count in a moment.
        """
        undecided = self.fences.undecided()
        found = list(self.read_manifests()) if undecided else []
        manifests = [read.manifest for _, read in found if isinstance(read, Point)]
        if len(manifests) == len(found):
            self.fences.decide(undecided, manifests)

    # -- records about points -------------------------------------------------------------------------

    def bad_frames(self) -> Iterator[BadFrame]:
        """Frames that are listed as bad. Lists that cannot be read are logged and left out."""
        for info in list(self._objects.list(BAD)):
            if info in self._unreadable:
                self.log_damage(self._objects.damaged(info.name, COULD_NOT_BE_READ))
                continue
            try:
                yield from self._objects.read_record(BadList, info.name, Kind.BAD_LIST).frames
            except ObjectMissing:
                continue
            except (Damaged, NewerObject) as err:
                self.log_damage(err)
                if isinstance(err, Damaged):
                    self._unreadable.add(info)

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Tombstones of pruned points, see ``PointStates.tombstones``."""
        return self.states.tombstones()

    @property
    def fences(self) -> Fences:
        """Fences of dead runs."""
        return self.states.fences
