"""Removes what remains of damage that is repaired, so that verify reports only what is new.

A backup stores the chunks of a lost pack again, but the index goes on to list the lost pack, and lists of bad
frames to name its frames. A repair takes such a pack out of the index: it publishes an index object without
it, and deletes the old one. It never removes the last copy of a chunk: each frame of the pack that a point
needs, and each that can still be read, must be readable from another pack. Every step leaves a repository in
which verify finds what it found before, or less.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.errors import Damaged, RepositoryError, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.marks import BadFrame, BadList
from hvpsbridge.repository.cache_rows import Location, places_in
from hvpsbridge.repository.check.coverage import record_unknown
from hvpsbridge.repository.check.reconcile import check_cache
from hvpsbridge.repository.check.restore_tool import RESTORE_NAME, replace_restore_tool, restore_tool_problems
from hvpsbridge.repository.check.scan import NO_PACK
from hvpsbridge.repository.check.verify import VerifyContext, parts_of
from hvpsbridge.repository.collect.doomed_lists import doomed_packs
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.index_objects import current_index, publish_index
from hvpsbridge.repository.layout import (
    BAD,
    EXPORTS,
    IDS,
    INDEX,
    PROOFS,
    binary_name,
    index_name,
    pack_name,
)
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.runs import run_alone
from hvpsbridge.repository.stored_packs import pack_sizes, size_fault, write_bad_list
from hvpsbridge.repository.verified import read_ages

logger = logging.getLogger(__name__)

# Small objects that are of no use when they cannot be read.
_USELESS = {IDS: Kind.IDS, PROOFS: Kind.PROOF, EXPORTS: Kind.EXPORT, BAD: Kind.BAD_LIST}


@dataclass(frozen=True, slots=True)
class LeftPack:
    """A lost or damaged pack that stays in the index.

    Attributes:
        lost_chunks: how many of its chunks and nodes a point needs and no pack has.
    """

    name: str
    what: str
    lost_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did, or would do. Everything is named by its object name.

    Attributes:
        dropped: packs that were taken out of the index: no point needs them any more.
        left: lost or damaged packs that stay in it.
        removed: objects that said nothing any more and were deleted: lists of bad frames, superseded index
            objects, packs that were dropped, small objects that cannot be read.
        kept: those of them that the store refused to delete; they do no harm.
        restore_tool: whether restore.py was replaced by that of this hvps.
        marked: how many lost chunks and nodes were listed as bad, so that lists of points say that they are
            lost, and later backups store them again.
    """

    dropped: tuple[str, ...]
    left: tuple[LeftPack, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    restore_tool: bool
    marked: int = 0

    @property
    def whole(self) -> bool:
        """Whether every chunk that a point needs exists."""
        return not any(pack.lost_chunks for pack in self.left)


def repair(context: VerifyContext, run_id: UUID, *, check: bool = False) -> RepairReport:
    """Remove what remains of repaired damage; the arguments are those of ``Repository.repair``.

    Raises:
        RepositoryLocked: a run is writing to the repository.
        StoreError: the store fails; what was done so far is complete.
    """
    if check:
        return _Repair(context).run()
    with run_alone(context.objects, run_id) as own:
        return _Repair(context, RunGuard(context.objects, context.catalog, own)).run()


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A pack that is missing, has another length, or has frames that are listed as bad."""

    pack: IndexedPack
    fault: str
    is_missing: bool

    @property
    def name(self) -> str:
        return pack_name(self.pack.kind, self.pack.name)

    @property
    def frames(self) -> list[Location]:
        return places_in(self.pack)


@dataclass(slots=True)
class _Repair:
    context: VerifyContext
    guard: RunGuard | None = None
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    bad: set[tuple[bytes, bytes]] = field(default_factory=set)
    doomed: frozenset[bytes] = frozenset()

    def run(self) -> RepairReport:
        context = self.context
        check_cache(context.objects, context.cache)
        context.frames.set_cache_checked()
        self.bad = {(frame.id, frame.pack) for frame in context.catalog.bad_frames()}
        self.doomed = doomed_packs(context.objects)
        suspects = {suspect.pack.name: suspect for suspect in self._suspects()}
        needed = self._needed({frame.id for each in suspects.values() for frame in each.frames})
        dropped: list[_Suspect] = []
        left: list[LeftPack] = []
        marked: set[tuple[bytes, bytes]] = set()
        # Packs that no copy may be in: those that are missing, and those that are already dropped.
        gone = {name for name, suspect in suspects.items() if suspect.is_missing}
        for suspect in sorted(suspects.values(), key=lambda each: not each.is_missing):
            only, lost, unreadable = self._without_copy(suspect, gone, needed)
            if lost:
                marked |= {(identity, suspect.pack.name) for identity in unreadable} - self.bad
                what = f"{suspect.fault}; points need {lost} of its chunks"
                left.append(LeftPack(suspect.name, what, lost))
            elif only:
                what = f"{suspect.fault}; it has the only copy of {only} chunks"
                left.append(LeftPack(suspect.name, what, 0))
            else:
                dropped.append(suspect)
                gone.add(suspect.pack.name)
        self._mark(marked)
        self._drop(dropped)
        self._clean_lists({suspect.pack.name for suspect in dropped})
        self._remove_useless()
        replaced = self._replace_restore_tool()
        return RepairReport(
            dropped=tuple(suspect.name for suspect in dropped),
            left=tuple(left),
            removed=tuple(self.removed),
            kept=tuple(self.kept),
            restore_tool=replaced,
            marked=len(marked),
        )

    # -- what is lost ---------------------------------------------------------------------------------

    def _suspects(self) -> Iterator[_Suspect]:
        objects = self.context.objects
        # The index first: packs of a backup that begins now are there before they are in the index.
        contents = [content for _, content in current_index(objects, self.context.cache)]
        sizes = pack_sizes(objects)
        listed = {pack for _, pack in self.bad}
        for content in contents:
            for pack in content.packs:
                size = sizes.get(pack_name(pack.kind, pack.name))
                fault = size_fault(size, pack.pack_bytes)
                if fault is None and pack.name in listed:
                    fault = "it has frames that are listed as bad"
                if fault is not None:
                    yield _Suspect(pack, fault, is_missing=size is None)

    def _needed(self, identities: set[bytes]) -> set[bytes]:
        """Those that a point needs; all, if not every point can be read."""
        context = self.context
        needed: set[bytes] = set()
        walked: set[bytes] = set()
        try:
            for _, point in context.catalog.read_points() if identities else ():
                if not isinstance(point, Point):
                    return identities
                for _, tree in parts_of(point):
                    ids = DiskImage(context.frames, context.grid, tree).chunk_ids(walked)
                    needed.update(identity for _, identity in ids if identity in identities)
        except Damaged:
            return identities
        return needed

    def _without_copy(
        self, suspect: _Suspect, gone: Collection[bytes], needed: set[bytes]
    ) -> tuple[int, int, set[bytes]]:
        """How many frames have their only copy in this pack, how many that are needed have none, and ids of
        the frames that cannot be read here."""
        read = self.context.frames.read_all
        here: set[bytes] = set()
        if not suspect.is_missing:
            here = {place.id for place, found in read(suspect.frames) if not isinstance(found, Damaged)}
        # The last copy of a frame stays, whether a point needs it or not.
        wanted = here | ({frame.id for frame in suspect.frames} & needed)
        others = {identity: self._others(identity, suspect, gone) for identity in wanted}
        firsts = [places[0] for places in others.values() if places]
        good = {place.id for place, found in read(firsts) if not isinstance(found, Damaged)}
        rest = [place for identity in others.keys() - good for place in others[identity][1:]]
        good.update(place.id for place, found in read(rest) if not isinstance(found, Damaged))
        unreadable = {frame.id for frame in suspect.frames} - here
        return len(here - good), len(wanted - good - here), unreadable

    def _mark(self, frames: set[tuple[bytes, bytes]]) -> None:
        """List frames as bad that are not listed yet."""
        if frames and self.guard is not None:
            bad = [BadFrame(*frame) for frame in sorted(frames)]
            write_bad_list(self.context.objects, bad)
        self.bad |= frames

    def _others(self, identity: bytes, suspect: _Suspect, gone: Collection[bytes]) -> list[Location]:
        return [
            place
            for place in self.context.cache.find(identity)
            if place.kind is suspect.pack.kind
            and place.number >= 0
            and place.pack != suspect.pack.name
            and place.pack not in gone
            # What a collect is about to delete does not count as a copy.
            and place.pack not in self.doomed
        ]

    # -- taking packs out of the index ----------------------------------------------------------------

    def _drop(self, suspects: Sequence[_Suspect]) -> None:
        objects = self.context.objects
        names = {suspect.pack.name for suspect in suspects}
        for name, content in current_index(objects, self.context.cache):
            if not any(pack.name in names for pack in content.packs):
                continue
            if self.guard is not None:
                self.guard.check()
                packs = tuple(pack for pack in content.packs if pack.name not in names)
                old = (binary_name(name), *content.supersedes)
                # When the new object is durable, the old one counts as superseded, deleted or not.
                new = index_name(publish_index(objects, IndexObject(old, packs)))
                logger.info("%s replaces %s, without lost packs", new, name)
            self._remove(name)
        for suspect in suspects:
            if not suspect.is_missing:
                if self.guard is not None:
                    self.guard.check()
                self._remove(suspect.name)
        superseded = set(map(index_name, self.context.cache.superseded()))
        for info in list(objects.list(INDEX)):
            if info.name in superseded:
                self._remove(info.name)

    # -- what says nothing any more -------------------------------------------------------------------

    def _clean_lists(self, dropped: set[bytes]) -> None:
        """Remove lists of bad frames of which every frame is good, gone, or in another list that stays."""
        objects = self.context.objects
        lists: list[tuple[str, set[tuple[bytes, bytes]]]] = []
        for info in list(objects.list(BAD)):
            try:
                found = objects.read_record(BadList, info.name, Kind.BAD_LIST)
            except RepositoryError:
                continue  # _remove_useless
            lists.append((info.name, {(frame.id, frame.pack) for frame in found.frames}))
        still = self._still_bad(dropped)
        covered: set[tuple[bytes, bytes]] = set()
        for name, frames in sorted(lists, key=lambda each: -len(each[1])):
            if frames & still <= covered:
                self._remove(name)
            covered |= frames & still

    def _still_bad(self, dropped: set[bytes]) -> set[tuple[bytes, bytes]]:
        cache, frames = self.context.cache, self.context.frames
        known = {pack.name for pack in cache.packs()} - dropped
        still = {bad for bad in self.bad if bad[1] == NO_PACK and not cache.find(bad[0])}
        places = [
            place
            for identity, pack in self.bad
            if pack in known
            for place in cache.find(identity)
            if place.pack == pack
        ]
        still |= {
            (place.id, place.pack) for place, found in frames.read_all(places) if isinstance(found, Damaged)
        }
        return still

    def _remove_useless(self) -> None:
        objects = self.context.objects
        for folder, kind in _USELESS.items():
            for info in list(objects.list(folder)):
                try:
                    objects.read(info.name, kind)
                except Damaged:
                    self._remove(info.name)
                except StoreError:
                    continue
        ages = read_ages(objects)
        if ages.damaged and self.guard is not None:
            # Else the packs that only these list would seem to be stored since the last verification.
            record_unknown(objects, self.context.cache.pack_names(), ages, self.context.catalog)
        for name in ages.damaged:
            self._remove(name)

    def _replace_restore_tool(self) -> bool:
        if not any(restore_tool_problems(self.context.objects)):
            return False
        if self.guard is not None:
            try:
                replace_restore_tool(self.context.objects)
            except StoreError as err:
                logger.warning("cannot replace %s: %s", RESTORE_NAME, err)
                self.kept.append(RESTORE_NAME)
                return False
        return True

    def _remove(self, name: str) -> None:
        if name in self.removed:
            return
        self.removed.append(name)
        why = "which is not needed any more"
        if self.guard is not None and not self.context.objects.try_delete(name, why):
            self.kept.append(name)
