"""The repository as one collect sees it.

The order: packs, the index, the runs, then the manifests. So a run that is not seen has published its
manifest before, or begins after, and then reads the doomed lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hvpsbridge.errors import CollectRefused, NewerObject
from hvpsbridge.formats.doomed import DoomedList
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.repository.cache_rows import KnownPack
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.check.verify import VerifyContext
from hvpsbridge.repository.collect.doomed_lists import read_doomed
from hvpsbridge.repository.collect.index_changes import listed_packs
from hvpsbridge.repository.collect.run_states import RunStates, run_states, with_stale
from hvpsbridge.repository.collect.small_objects import read_bad_lists
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.stored_packs import pack_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen.

    Attributes:
        packs: those in the index, by name.
        stored: sizes of the packs in the store, by object name.
        fresh: packs that runs in progress have stored and listed.
        runs: run objects, without that of the collect.
        live: manifests of points.
        pruned: manifests of pruned points.
        void: manifests that do not count, of runs that were declared dead.
        bad: lists of bad frames, by name, with the packs that they name.
        lists: doomed lists, by name.
    """

    packs: dict[bytes, KnownPack]
    stored: dict[str, int]
    fresh: frozenset[bytes]
    runs: RunStates
    live: tuple[Manifest, ...]
    pruned: tuple[Manifest, ...]
    void: tuple[Manifest, ...]
    bad: dict[str, frozenset[bytes]]
    lists: dict[str, DoomedList]


def see(context: VerifyContext, guard: RunGuard | None, grace: timedelta) -> Seen:
    """Look at the repository, and fence runs that are dead.

    Args:
        context: the repository.
        guard: of the collect; without one nothing is changed.
        grace: a run that a list waits for longer is watched, whether it still renews its run object.

    Raises:
        CollectRefused: nothing may be deleted from the repository as it is.
    """
    objects, catalog = context.objects, context.catalog
    bad = read_bad_lists(objects)  # before the packs, so that what they name is seen if it is there
    stored = pack_sizes(objects)
    context.cache.synchronise()
    packs = {pack.name: pack for pack in context.cache.packs()}
    lists = dict(read_doomed(objects))
    runs = run_states(objects, None if guard is None else guard.run)
    if guard is not None:
        runs = with_stale(objects, runs, _holding_up(lists, runs, grace))
    if runs.old:
        what = f"{runs.old[0]} opened it before it was upgraded, and may rely on what would be deleted"
        raise CollectRefused(objects.store.url, what, "wait until that run has ended")
    fresh: frozenset[bytes] = frozenset()
    if runs.alive:  # their index objects stay until they have ended
        listed = listed_packs(objects, context.cache)
        fresh = frozenset(pack for each in listed if each.run in runs.alive for pack in each.packs)
    begun: frozenset[UUID] = frozenset()
    if guard is not None:
        for run in runs.dead:
            catalog.fences.begin(run)
        # Also those that a collect began that died then; not those that one begins after the manifests are
        # listed, which may lack a manifest from before the fence.
        begun = runs.dead | catalog.fences.undecided()
    manifests = _manifests(catalog, objects.store.url)
    if guard is not None:
        catalog.fences.decide(begun, manifests)
    states = catalog.states.read()
    return Seen(
        packs=packs,
        stored=stored,
        fresh=fresh,
        runs=runs,
        live=tuple(manifest for manifest in manifests if states.is_point(manifest)),
        pruned=tuple(each for each in manifests if states.is_pruned(each) and not states.is_void(each)),
        void=tuple(each for each in manifests if states.is_void(each)),
        bad=bad,
        lists=lists,
    )


def _holding_up(lists: Mapping[str, DoomedList], runs: RunStates, grace: timedelta) -> frozenset[UUID]:
    """Runs that are in progress, or died on another machine, and hold up lists whose time has come."""
    now = datetime.now(UTC)
    waiting = (listed.runs or () for listed in lists.values() if now - listed.at >= grace)
    return frozenset(run for each in waiting for run in each) & runs.alive


def _manifests(catalog: Catalog, url: str) -> list[Manifest]:
    found = []
    for name, read in catalog.read_manifests():
        if isinstance(read, Point):
            found.append(read.manifest)
        elif isinstance(read, NewerObject):
            raise CollectRefused(url, f"{name} was written by a newer hvps", "use that version")
    for lost in catalog.lost_points():
        what = f"nothing shows what the point {lost.name} needs: {lost.what}"
        raise CollectRefused(url, what, "put its manifest back from a copy of the repository")
    return found
