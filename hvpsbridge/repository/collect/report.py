"""What a collect is asked for, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hvpsbridge.repository.collect.choice import MAX_UNUSED, MERGE_FROM

# A restore leaves no trace in the repository, so what it reads stays for this long after it was doomed.
GRACE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """How to collect.

    Attributes:
        grace: how long doomed packs stay for restores that read them.
        max_unused: part of the stored bytes that may be unused, 0 to 1.
        merge_from: so many small packs of a kind are merged.
        check: change nothing.
    """

    grace: timedelta = GRACE
    max_unused: float = MAX_UNUSED
    merge_from: int = MERGE_FROM
    check: bool = False


@dataclass(slots=True, kw_only=True)
class CollectReport:
    """What a collect did, or would do.

    Attributes:
        deleted_packs: how many packs were deleted.
        deleted_bytes: their size.
        deleted_points: pruned points whose manifests were deleted.
        moved_bytes: bytes of needed frames that were moved out of packs that are mostly unused.
        doomed_packs: packs that a later collect deletes.
        doomed_bytes: their size.
        waiting_packs: packs in lists that cannot be carried out yet.
        waiting_bytes: their size.
        waits_until: the end of the grace time of the last of these lists; None without one.
        waits_for: how many runs these lists wait for.
        runs: these runs, described for people.
        kept_again: doomed packs that a point needs again.
        dead_runs: runs that were declared dead.
        damaged: packs that should be moved, but are damaged.
        stored_bytes: bytes of all packs afterwards, without those that a later collect deletes.
        unused_bytes: bytes in these packs that no point needs.
        keeps_versions: whether the store keeps what was deleted as old versions.
    """

    deleted_packs: int = 0
    deleted_bytes: int = 0
    deleted_points: int = 0
    moved_bytes: int = 0
    doomed_packs: int = 0
    doomed_bytes: int = 0
    waiting_packs: int = 0
    waiting_bytes: int = 0
    waits_until: datetime | None = None
    waits_for: int = 0
    runs: tuple[str, ...] = ()
    kept_again: int = 0
    dead_runs: int = 0
    damaged: tuple[str, ...] = ()
    stored_bytes: int = 0
    unused_bytes: int = 0
    keeps_versions: bool = False

    def with_pass(self, later: CollectReport) -> CollectReport:
        """This report, with what another pass of the same collect did after it."""
        return replace(
            later,
            deleted_packs=self.deleted_packs + later.deleted_packs,
            deleted_bytes=self.deleted_bytes + later.deleted_bytes,
            deleted_points=self.deleted_points + later.deleted_points,
            moved_bytes=self.moved_bytes + later.moved_bytes,
            kept_again=self.kept_again + later.kept_again,
            dead_runs=self.dead_runs + later.dead_runs,
            damaged=self.damaged + tuple(name for name in later.damaged if name not in self.damaged),
        )
