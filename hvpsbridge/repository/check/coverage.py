"""Verification by budget: the packs that were not checked for longest, and how soon all are checked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from hvpsbridge.formats.index_table import Rows
from hvpsbridge.formats.verified import VerifyPass
from hvpsbridge.repository.cache_rows import KnownPack
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.point_lines import PointLine
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.verified import PackAges, microseconds, moment_of, names_of, record_ages


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much a verification reads: for so long, or so many bytes. It reads at least one pack."""

    seconds: float | None = None
    size_bytes: int | None = None

    def of(self, packs: Iterable[KnownPack]) -> Iterator[KnownPack]:
        """The first packs, taken one by one as they are read, until the budget is spent."""
        began = time.monotonic()
        used = 0
        for number, pack in enumerate(packs):
            used += pack.pack_bytes
            spent = self.size_bytes is not None and used > self.size_bytes
            late = self.seconds is not None and time.monotonic() - began >= self.seconds
            if number and (spent or late):
                return
            yield pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the packs a verification with a budget read, and how soon such ones read all.

    Attributes:
        packs, pack_bytes: the packs that the points need, or all of the repository.
        read_packs, read_bytes: those of them that were read.
        never_packs: those that were never read since they were stored.
        unverified_since: since when one of the packs was not read: when it was read last, or, if it never
            was, the earliest time at which a part of it may have been stored.
        passes: so many such verifications read all packs.
        stored_bytes: what backups store between two of them; None before the second one.
        period_seconds: how often all packs are read; None before the second verification.
        enough: whether more is read than backups store meanwhile.
    """

    packs: int
    pack_bytes: int
    read_packs: int
    read_bytes: int
    never_packs: int
    unverified_since: datetime | None
    passes: int
    stored_bytes: int | None
    period_seconds: float | None
    enough: bool


@dataclass(slots=True, kw_only=True)
class Checked:
    """Packs that a verification read whole, gathered for ``Repository.record_checked``.

    Attributes:
        at: when it began, before it read the index.
        scope: the VM whose points it was about; None for the repository.
        alone: whether it was about one VM or the repository, so that it can be compared with earlier ones.
        good: names of the packs of which every frame was read and is good, or is listed as bad already.
        unknown: names of the packs of which nothing was known, one after another.
        unknown_since: the earliest time at which they may have been stored.
        budget_bytes: bytes of packs that were read, if there was a budget.
    """

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    scope: UUID | None = None
    alone: bool = True
    good: tuple[bytes, ...] = ()
    unknown: bytes = b""
    unknown_since: datetime | None = None
    budget_bytes: int | None = None

    def record(self, objects: Objects) -> None:
        """Record what was checked, durably."""
        groups = []
        if self.good:
            groups.append((self.at, True, names_of(self.good)))
        left = np.setdiff1d(names_of(self.unknown), names_of(self.good))
        if len(left) and self.unknown_since is not None:
            groups.append((self.unknown_since, False, left))
        passes = []
        if self.budget_bytes is not None and self.alone:
            passes.append(VerifyPass(at=self.at, vm_id=self.scope, read_bytes=self.budget_bytes))
        if groups or passes:
            record_ages(objects, groups, passes)


@dataclass(frozen=True, slots=True)
class Standing:
    """Ages of some packs.

    Attributes:
        names: of the packs.
        known: whether anything was recorded about each.
        at: microseconds since 1970 for each, of its last check, or when it may have been stored.
        hashed: whether it was ever read and checked.
        unknown_since: ``at`` of packs that are not known.
    """

    names: Rows
    known: Rows
    at: Rows
    hashed: Rows
    unknown_since: int

    @property
    def oldest(self) -> datetime | None:
        """The oldest ``at``; None without packs."""
        return moment_of(int(self.at.min())) if len(self.at) else None

    @property
    def never(self) -> int:
        """How many were never read and checked."""
        return int((~self.hashed).sum())


def standing_of(packs: bytes | Iterable[bytes], ages: PackAges, catalog: Catalog) -> Standing:
    """Ages of packs.

    What is not known was stored since the last verification, which recorded everything that there was, or
    else since the oldest point.

    Args:
        packs: their names; in ``bytes`` one after another.
        ages: what was recorded.
        catalog: points of the repository.
    """
    names = names_of(packs)
    known, at, hashed = ages.look_up(names)
    since = ages.newest
    if since is None:
        created = (line.created for _, line in catalog.read_lines() if isinstance(line, PointLine))
        since = microseconds(min(created, default=datetime.now(UTC)))
    return Standing(names, known, np.where(known, at, since), hashed, since)


def record_unknown(objects: Objects, packs: bytes, ages: PackAges, catalog: Catalog) -> None:
    """Record of the packs of which nothing is known that they were never checked."""
    standing = standing_of(packs, ages, catalog)
    unknown = standing.names[~standing.known]
    if len(unknown):
        record_ages(objects, [(moment_of(standing.unknown_since), False, unknown)])


def oldest_first(packs: Sequence[KnownPack], standing: Standing) -> Iterator[KnownPack]:
    """The packs of a standing, those that were not checked for longest first."""
    return (packs[number] for number in np.argsort(standing.at, kind="stable").tolist())


def coverage(
    packs: Sequence[KnownPack],
    before: Standing,
    checked: Checked,
    earlier: Sequence[VerifyPass],
    points: Sequence[Point],
) -> Coverage:
    """What a verification with a budget covered.

    Args:
        packs: those that it was to read in the end.
        before: their ages when it began.
        checked: what it read.
        earlier: the last verifications with a budget of the same points, oldest first.
        points: those that it was about.
    """
    good = np.isin(before.names, names_of(checked.good))
    at = np.where(good, microseconds(checked.at), before.at)
    total = sum(pack.pack_bytes for pack in packs)
    read = checked.budget_bytes or 0
    whole = bool(good.all())
    share = 1.0 if whole else total / max(read, 1)
    period = stored = None
    if earlier and (interval := (checked.at - earlier[0].at) / len(earlier)) > timedelta(0):
        period = interval.total_seconds() * share
        new = [point for point in points if point.created > earlier[0].at]
        sizes = [disk.stats.stored_bytes for point in new for disk in point.disks]
        stored = round(sum(sizes) / len(earlier))
    return Coverage(
        packs=len(packs),
        pack_bytes=total,
        read_packs=int(good.sum()),
        read_bytes=read,
        never_packs=int((~(before.hashed | good)).sum()),
        unverified_since=moment_of(int(at.min())) if len(at) else None,
        passes=math.ceil(share),
        stored_bytes=stored,
        period_seconds=period,
        enough=whole or stored is None or read >= stored,
    )
