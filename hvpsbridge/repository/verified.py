"""When each pack was read and checked: reading what verifications recorded, and recording it.

Verifiers only create objects. A collect merges them, and gives packs that it makes the oldest age of the
packs that their frames came from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index_table import Rows
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.verified import NAME_BYTES, Verified, VerifiedPacks, VerifyPass, check_verified
from hvpsbridge.repository.chunk_index.runs import halves
from hvpsbridge.repository.layout import VERIFIED, random_name
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)

# A time from further in the future was written with a wrong clock, or is forged.
MAX_FUTURE = timedelta(days=1)
# Names in one object; each takes 32 bytes of its 8 MiB. A repository of 20 TiB has 655,360 packs.
PACKS_IN_OBJECT = 131_072
# Passes of a scope that are kept: enough for how often they are made.
PASSES_KEPT = 8
# A collect merges the objects when there are so many of them, or so many times more names than packs.
MERGE_FROM = 16
MERGE_NAMES = 4
# How often the objects are listed if some are gone, because a collect has merged them.
TRIES = 3
_NAME = np.dtype(f"S{NAME_BYTES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackAges:
    """What is known of the last check of packs.

    Attributes:
        names: of packs, sorted, 16 bytes each.
        at: microseconds since 1970, for each name; see ``VerifiedPacks``.
        hashed: for each name, whether it was read and checked.
        passes: the last passes of each scope, oldest first: of a VM, or of the repository (None).
        whole: whether every object could be read.
        damaged: names of the objects that are damaged.
        objects: names of the objects that could be read.
        listed: how many names they have together.
    """

    names: Rows
    at: Rows
    hashed: Rows
    passes: Mapping[UUID | None, tuple[VerifyPass, ...]]
    whole: bool
    damaged: tuple[str, ...]
    objects: tuple[str, ...]
    listed: int

    @property
    def newest(self) -> int | None:
        """When the last verification began that recorded anything: packs that are not known came later.

        None if that is not known.
        """
        if not self.whole or not self.hashed.any():
            return None
        return int(self.at[self.hashed].max())

    def look_up(self, packs: Rows) -> tuple[Rows, Rows, Rows]:
        """For each name of :func:`names_of`: whether it is known, ``at``, and ``hashed``."""
        if not len(self.names):
            return np.zeros(len(packs), bool), np.zeros(len(packs), np.int64), np.zeros(len(packs), bool)
        high, wanted = halves(self.names)[0], halves(packs)[0]
        place = np.searchsorted(high, wanted)
        place[place == len(self.names)] = 0
        # Names that begin alike, which somebody chose.
        alike = (high[place] == wanted) & (self.names[place] != packs)
        place[alike] = np.minimum(np.searchsorted(self.names, packs[alike]), len(self.names) - 1)
        known = self.names[place] == packs
        return known, np.where(known, self.at[place], 0), known & self.hashed[place]


def names_of(packs: bytes | Iterable[bytes]) -> Rows:
    """Names of packs as rows that can be sorted and looked up."""
    return np.frombuffer(packs if isinstance(packs, bytes) else b"".join(packs), _NAME)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


def moment_of(microseconds: int) -> datetime:
    """The time of :func:`microseconds`."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def read_ages(objects: Objects) -> PackAges:
    """What verifications recorded. Objects that cannot be read are logged; packs in them are not known."""
    for _ in range(TRIES):
        infos = list(objects.list(VERIFIED)) if objects.format > 1 else []
        read = objects.each(lambda name: _read(objects, name), [info.name for info in infos])
        if None not in read:
            break
    contents = {info.name: each for info, each in zip(infos, read, strict=True) if isinstance(each, Verified)}
    found = contents.values()
    latest = datetime.now(UTC) + MAX_FUTURE
    groups = [group for each in found for group in each.packs if group.at <= latest and group.packs]
    names = names_of(b"".join(group.packs for group in groups))
    counts = [len(group.packs) // NAME_BYTES for group in groups]
    at = np.repeat(np.array([microseconds(group.at) for group in groups], np.int64), counts)
    hashed = np.repeat(np.array([group.hashed for group in groups], bool), counts)
    # Of several entries of a pack the last one counts: hashed ones come last, by their times, and before
    # them those that are not, latest first.
    high, low = halves(names)
    order = np.lexsort((np.where(hashed, at, -at), hashed, low, high))
    names, at, hashed = names[order], at[order], hashed[order]
    last = np.ones(len(names), bool)
    last[:-1] = names[1:] != names[:-1]
    return PackAges(
        names=names[last],
        at=np.minimum(at[last], microseconds(datetime.now(UTC))),
        hashed=hashed[last],
        passes=_passes(each for some in found for each in some.passes if each.at <= latest),
        whole=len(contents) == len(infos),
        damaged=tuple(each.name for each in read if isinstance(each, Damaged)),
        objects=tuple(contents),
        listed=len(order),
    )


def _read(objects: Objects, name: str) -> Verified | Damaged | NewerObject | None:
    """The content of an object, or what is wrong with it; None if it is gone."""
    try:
        found = objects.read_record(Verified, name, Kind.VERIFIED)
        check_verified(found)
    except ObjectMissing:
        return None  # merged since the listing
    except (Damaged, NewerObject) as err:
        problem: Damaged | NewerObject = err
    except Malformed as err:
        problem = objects.damaged(name, err)
    else:
        return found
    logger.warning("%s; the packs that it lists count as not verified", problem)
    return problem


def _passes(every: Iterable[VerifyPass]) -> dict[UUID | None, tuple[VerifyPass, ...]]:
    scopes: dict[UUID | None, dict[datetime, VerifyPass]] = {}
    for each in every:
        scopes.setdefault(each.vm_id, {})[each.at] = each
    return {
        scope: tuple(passes[at] for at in sorted(passes)[-PASSES_KEPT:]) for scope, passes in scopes.items()
    }


def record_ages(
    objects: Objects, groups: Sequence[tuple[datetime, bool, Rows]], passes: Sequence[VerifyPass] = ()
) -> tuple[str, ...]:
    """Record ages of packs durably; names of the new objects.

    Args:
        objects: the repository.
        groups: ``at`` and ``hashed`` of ``VerifiedPacks``, and names of packs.
        passes: to record with them.
    """
    made: list[str] = []
    for packs in _in_objects(groups) or [()]:
        name = f"{VERIFIED}/{random_name().hex()}"
        objects.write_record(name, Kind.VERIFIED, Verified(packs=packs, passes=tuple(passes)))
        made.append(name)
        passes = ()
    objects.store.commit_barrier()
    return tuple(made)


def _in_objects(groups: Sequence[tuple[datetime, bool, Rows]]) -> list[tuple[VerifiedPacks, ...]]:
    """The groups, cut so that each part fits into an object."""
    found: list[tuple[VerifiedPacks, ...]] = []
    part: list[VerifiedPacks] = []
    free = PACKS_IN_OBJECT
    for at, hashed, names in groups:
        ordered = np.sort(names)
        while len(ordered):
            part.append(VerifiedPacks(at=at, hashed=hashed, packs=ordered[:free].tobytes()))
            taken = min(free, len(ordered))
            ordered, free = ordered[taken:], free - taken
            if not free:
                found.append(tuple(part))
                part, free = [], PACKS_IN_OBJECT
    return [*found, tuple(part)] if part else found


def inherit_ages(objects: Objects, sources: Mapping[bytes, frozenset[bytes]], oldest: datetime) -> None:
    """Give each new pack the oldest age of the packs that its frames came from.

    Done before the new packs are in an index, so that none ever looks younger than its frames.

    Args:
        objects: the repository.
        sources: by name of a new pack, the packs that its frames came from.
        oldest: the earliest time at which anything may have been stored.
    """
    ages = read_ages(objects)
    if not ages.objects:
        return  # nothing was ever verified
    unknown = ages.newest or microseconds(oldest)
    groups: dict[tuple[int, bool], list[bytes]] = {}
    for pack, origins in sources.items():
        known, at, hashed = ages.look_up(names_of(origins))
        key = int(np.where(known, at, unknown).min()), bool(hashed.all())
        groups.setdefault(key, []).append(pack)
    record_ages(objects, [(moment_of(at), hashed, names_of(names)) for (at, hashed), names in groups.items()])


def merge_ages(objects: Objects, packs: bytes) -> int:
    """Merge the objects if there are many, without packs that are gone; how many were merged.

    Args:
        objects: the repository.
        packs: names of the packs that there are, one after another.
    """
    ages = read_ages(objects)
    there = np.unique(names_of(packs))
    if len(ages.objects) < MERGE_FROM and ages.listed <= MERGE_NAMES * len(there) + PACKS_IN_OBJECT:
        return 0
    kept = np.isin(ages.names, there)
    groups = list(_groups(ages.names[kept], ages.at[kept], ages.hashed[kept]))
    passes = [each for scope in ages.passes.values() for each in scope]
    record_ages(objects, groups, sorted(passes, key=lambda each: each.at))
    objects.delete_all(ages.objects)
    return len(ages.objects)


def _groups(names: Rows, at: Rows, hashed: Rows) -> Iterator[tuple[datetime, bool, Rows]]:
    for is_hashed in (False, True):
        for moment in np.unique(at[hashed == is_hashed]):
            yield moment_of(int(moment)), is_hashed, names[(at == moment) & (hashed == is_hashed)]
