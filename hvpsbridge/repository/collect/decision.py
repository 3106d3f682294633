"""Decides what a collect deletes, dooms and moves. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hvpsbridge.errors import CollectRefused, Damaged
from hvpsbridge.formats.doomed import DoomedList, DoomedPack
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.cache_rows import KnownPack, Location
from hvpsbridge.repository.check.verify import VerifyContext
from hvpsbridge.repository.collect.choice import Choice, PackUse, choose
from hvpsbridge.repository.collect.marking import Marks, is_set
from hvpsbridge.repository.collect.moving import FrameCheck
from hvpsbridge.repository.collect.report import CollectOptions, CollectReport
from hvpsbridge.repository.collect.view import Seen
from hvpsbridge.repository.layout import PACK_FOLDERS, binary_name, pack_name

# A list from further in the future was written with a wrong clock.
MAX_FUTURE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do.

    Attributes:
        carried_out: names of the doomed lists that are done with then.
        gone_points: pruned points whose manifests go.
        gone: packs that leave the index.
        victims: object names of the packs that are deleted.
        moves: packs to move, with the frames that points need.
        unused: packs in the index that no point needs.
        unlisted: packs in no index.
        pruned: pruned points that are in no list yet.
    """

    carried_out: tuple[str, ...]
    gone_points: frozenset[UUID]
    gone: frozenset[bytes]
    victims: tuple[str, ...]
    moves: tuple[tuple[KnownPack, tuple[Location, ...]], ...]
    unused: tuple[DoomedPack, ...]
    unlisted: tuple[DoomedPack, ...]
    pruned: tuple[UUID, ...]


def decide(
    context: VerifyContext, seen: Seen, options: CollectOptions, report: CollectReport
) -> Decision | None:
    """What to do with the repository that was seen, and what that frees; None if the index cache was rebuilt.

    Raises:
        CollectRefused: a point needs what cannot be read.
    """
    renewals = context.cache.renewals
    ready = {name: each for name, each in seen.lists.items() if _is_ready(each, seen, options, report)}
    marks, needed = _mark(context, seen, ready)
    gone = {pack for pack in _named(ready) if pack.name in seen.packs}
    kept = {pack for pack in gone if _is_needed(context, seen.packs[pack.name], marks)}
    gone -= kept
    victims = [
        name
        for pack in sorted(_named(ready, unlisted=True))
        if pack in gone or pack.name not in seen.packs
        if (name := object_name(pack)) in seen.stored
    ]
    waiting = {name: each for name, each in seen.lists.items() if name not in ready}
    named = {pack.name for pack in _named(waiting, unlisted=True)}
    left_out = named | {pack.name for pack in gone}
    uses = {use.number: use for use in _uses(context, seen, left_out, needed)}
    choice = choose(uses.values(), max_unused=options.max_unused, merge_from=options.merge_from)
    moves = []
    for use in choice.moved:
        places = context.cache.pack_entries(use.number)
        frames = tuple(place for place in places if is_set(needed, place.number))
        moves.append((seen.packs[use.name], frames))
    unlisted = tuple(
        sorted(
            DoomedPack(kind, binary_name(name))
            for kind, folder in PACK_FOLDERS.items()
            for name in set(seen.stored) - set(victims)
            if name.startswith(f"{folder}/") and not {binary_name(name)} & (seen.packs.keys() | named)
        )
    )
    pruned = {manifest.point_id for manifest in seen.pruned}
    settled = {point for each in ready.values() for point in each.points}
    _count(report, seen, choice, uses, unlisted, victims)
    report.kept_again += len(kept)
    report.deleted_points += len(pruned & settled)
    if context.cache.renewals != renewals or not _is_as_seen(context, seen, ready):
        # The numbers that were marked are those of a cache that was rebuilt since, or another process that
        # uses its files removed packs that are in the index for a moment.
        return None
    return Decision(
        carried_out=tuple(ready),
        gone_points=frozenset(pruned & settled),
        gone=frozenset(pack.name for pack in gone),
        victims=tuple(victims),
        moves=tuple(moves),
        unused=tuple(sorted(DoomedPack(use.kind, use.name) for use in choice.unused)),
        unlisted=unlisted,
        pruned=tuple(sorted(pruned - {point for each in seen.lists.values() for point in each.points})),
    )


def _is_as_seen(context: VerifyContext, seen: Seen, ready: Mapping[str, DoomedList]) -> bool:
    """Whether the index still has the packs that it had, and none that are deleted because it lacked them."""
    now = {pack.name for pack in context.cache.packs()}
    named = {pack.name for pack in _named(ready, unlisted=True)}
    return now >= seen.packs.keys() and not (now & named) - seen.packs.keys()


def object_name(pack: DoomedPack) -> str:
    """Object name of a doomed pack."""
    return pack_name(Kind(pack.kind), pack.name)


def _named(lists: Mapping[str, DoomedList], *, unlisted: bool = False) -> set[DoomedPack]:
    found = {pack for each in lists.values() for pack in each.packs}
    return found | {pack for each in lists.values() for pack in each.unlisted} if unlisted else found


def _is_ready(listed: DoomedList, seen: Seen, options: CollectOptions, report: CollectReport) -> bool:
    """Whether a list can be carried out: it is old, and all runs that may rely on its packs have ended."""
    if listed.runs is None:
        return False  # of a collect that died; it is published again
    age = datetime.now(UTC) - listed.at
    alive = [run for run in listed.runs if run in seen.runs.alive]
    if not alive and (age >= options.grace or age < -MAX_FUTURE):
        return True
    # Several lists may wait for one run.
    found = (seen.runs.holders.get(run, f"run {run}") for run in alive)
    report.runs = tuple(sorted({*report.runs, *found}))
    report.waits_for = len(report.runs)
    until = listed.at + options.grace
    report.waits_until = max(report.waits_until or until, until)
    sizes = [seen.stored.get(object_name(pack)) for pack in (*listed.packs, *listed.unlisted)]
    report.waiting_packs += sum(size is not None for size in sizes)
    report.waiting_bytes += sum(size or 0 for size in sizes)
    return False


def _mark(context: VerifyContext, seen: Seen, ready: Mapping[str, DoomedList]) -> tuple[Marks, bytes]:
    """Marks of what must stay, and those of what points need.

    A pruned point stays until its list is carried out: a backup that began before may count from it.
    """
    settled = {point for each in ready.values() for point in each.points}
    avoid = {pack.name for pack in _named(seen.lists)}
    missing = {
        each.name for each in seen.packs.values() if pack_name(each.kind, each.name) not in seen.stored
    }
    bad = {(frame.id, frame.pack) for frame in context.catalog.bad_frames()}
    marks = Marks(context.cache, context.frames, context.grid, avoid, missing, bad)
    try:
        marks.add(seen.live)
        needed = marks.copy()
        marks.add(each for each in seen.pruned if each.point_id not in settled)
    except Damaged as err:
        what = f"a point needs what cannot be read, {err.name}: {err.what}"
        remedy = "repair it, or forget the points that `hvps verify` names"
        raise CollectRefused(context.objects.store.url, what, remedy) from err
    return marks, needed


def _is_needed(context: VerifyContext, pack: KnownPack, marks: Marks) -> bool:
    """Whether a pack has the copy of a frame that is kept, or the other copy is not what was written."""
    places = context.cache.pack_entries(pack.number)
    if any(marks.has(place) for place in places):
        return True
    others: dict[bytes, list[Location]] = {}
    for place in places:
        if marks.is_double(place):
            kept = marks.doubles[place.kind, place.id]
            others.setdefault(kept.pack, []).append(kept)
    check = FrameCheck(context.objects, context.frames)
    return any(check.bad(pack.kind, name, kept) for name, kept in others.items())


def _uses(context: VerifyContext, seen: Seen, left_out: set[bytes], needed: bytes) -> Iterator[PackUse]:
    sizes = context.cache.live_bytes(needed)
    for pack in seen.packs.values():
        # Points will need packs of runs in progress in a moment.
        if pack.name in left_out or pack.name in seen.fresh:
            continue
        total, live = sizes[pack.number]
        yield PackUse(
            number=pack.number,
            name=pack.name,
            kind=pack.kind,
            pack_bytes=pack.pack_bytes,
            frames_bytes=total,
            live_bytes=live,
        )


def _count(
    report: CollectReport,
    seen: Seen,
    choice: Choice,
    uses: Mapping[int, PackUse],
    unlisted: tuple[DoomedPack, ...],
    victims: list[str],
) -> None:
    doomed = [*choice.unused, *choice.moved]
    loose = sum(seen.stored.get(object_name(pack), 0) for pack in unlisted)
    deleted = sum(seen.stored[name] for name in victims)
    report.deleted_packs += len(victims)
    report.deleted_bytes += deleted
    report.doomed_packs += len(doomed) + len(unlisted)
    report.doomed_bytes += sum(use.pack_bytes for use in doomed) + loose
    report.moved_bytes += choice.moved_bytes
    left = sum(seen.stored.values()) - deleted - report.doomed_bytes - report.waiting_bytes
    report.stored_bytes = left + choice.moved_bytes
    report.unused_bytes = sum(use.dead_bytes for use in uses.values()) - sum(use.dead_bytes for use in doomed)
