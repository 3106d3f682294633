"""The operations of hvps one by one on the scratch VM.

Everything made here is removed here, and carries the mark of the kit's repository: a sweep would find it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    Consistency,
    DiskFormat,
    DiskInfo,
    FrozenDisk,
    ReferencePointInfo,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import HvpsError, OperationFailed
from hvpsbridge.formats.extents import Extent, normalise, subtract, total_bytes, unpack_extents
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.cleanup.merge_wait import children_of, wait_for_merge
from hvpsbridge.tasks.planning.mark import Mark, has_mark_of
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.prove.findings import Findings
from hvpsbridge.tasks.prove.scratch import Scratch
from hvpsbridge.units import KIB, MIB

# Of the script that reads the tables of a VHDX.
FORMAT_UNSUPPORTED = "Hvps.FormatUnsupported"
# What is written between two checkpoints: small, apart, and one long piece, all aligned to 64 KiB.
WRITE_BYTES = 64 * KIB
LONG_WRITE_BYTES = 1 * MIB
MARK_HOURS = 12


@dataclass(frozen=True, slots=True)
class RawChanges:
    """One answer of change tracking, as the host sends it.

    Attributes:
        cut_by: what limits a page, ``ranges`` or ``bytes``; empty with one page.
    """

    extents: tuple[Extent, ...]
    pages: int
    cut_by: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """The stages of this module.

    Attributes:
        repository_id: for the marks of checkpoints.
        limits: how long to wait for jobs and merges.
        pause: waits; false when the work must stop.
        record: told ids by which a reference point can be found, before and after it is made.
        clock: monotonic seconds.
    """

    host: HyperVHost
    vm_id: UUID
    repository_id: UUID
    scratch: Scratch
    found: Findings
    limits: BackupLimits
    pause: Callable[[float], bool]
    record: Callable[[Iterable[str]], object] = lambda ids: None
    clock: Callable[[], float] = time.monotonic

    def disks(self) -> tuple[DiskInfo, ...]:
        """Disks of the VM that a backup reads."""
        return tuple(disk for disk in self.host.disks(self.vm_id) if disk.path and not disk.pass_through)

    def tracked(self) -> tuple[DiskInfo, ...]:
        """Those that can have change tracking."""
        return tuple(disk for disk in self.disks() if disk.format is DiskFormat.VHDX)

    def write_everywhere(self, seed: int) -> dict[str, tuple[Extent, ...]]:
        """Write something new on each disk, or let the guest write; what was written, by slot."""
        disks = self.disks()
        written: dict[str, tuple[Extent, ...]] = {slot_of(disk): () for disk in disks}
        # Waiting once is enough for a guest.
        for disk in disks[:1] if self.scratch.writes_online else disks:
            extents = pattern(disk.size_bytes, seed)
            written[slot_of(disk)] = self.scratch.write(disk, extents, seed)
        return written

    # -- stages -----------------------------------------------------------------------------------------

    def cycle_by_hand(self) -> None:
        """Checkpoint, read, convert, write, checkpoint, query, remove: each operation once."""
        with self.found.stage("operations", 1, 2, 3, 4, 5, 9, 12, 17, 20):
            first = self.reference_point(describe=True)
            try:
                written = self.write_everywhere(1)
                self._changes_since(first, written)
            finally:
                self.remove(first)

    # -- steps ------------------------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[tuple[CheckpointInfo, tuple[FrozenDisk, ...]]]:
        """A recovery checkpoint and its disks; removed at the end if it is still there."""
        before = [checkpoint.checkpoint_id for checkpoint in self.host.checkpoints(self.vm_id)]
        until = datetime.now(UTC) + timedelta(hours=MARK_HOURS)
        name = str(Mark(self.repository_id, uuid4(), until))
        started = time.monotonic()
        made = self.host.create_checkpoint(self.vm_id, name, Consistency.CRASH, existing=before)
        self.found.fact("checkpoint.seconds", round(time.monotonic() - started, 3))
        self.found.fact("checkpoint.name_kept", made.name == name)
        try:
            yield made, self.host.frozen_disks(self.vm_id, made.checkpoint_id)
        finally:
            self.host.close_readers()
            if made.checkpoint_id in {one.checkpoint_id for one in self.host.checkpoints(self.vm_id)}:
                self._merged(made, partial(self._remove_checkpoint, made))

    def reference_point(
        self, meanwhile: Callable[[Sequence[FrozenDisk]], object] | None = None, *, describe: bool = False
    ) -> ReferencePointInfo:
        """A reference point of now.

        Args:
            meanwhile: called with the frozen disks, between the freeze and the conversion.
            describe: record facts of the way there.
        """
        with self.frozen() as (checkpoint, disks):
            if describe:
                self._describe(disks)
            if meanwhile is not None:
                meanwhile(disks)
            before = [one.instance_id for one in self.host.reference_points(self.vm_id)]
            self.host.close_readers()
            made: list[ReferencePointInfo] = []
            self.record([disk.rct_id for disk in disks if disk.rct_id])
            self._merged(
                checkpoint,
                lambda: made.append(self.host.convert(self.vm_id, checkpoint.checkpoint_id, existing=before)),
            )
            self.record([made[0].instance_id])
            if describe:
                self._compare_ids(disks, made[0])
            return made[0]

    def _describe(self, disks: Sequence[FrozenDisk]) -> None:
        vhdx = {slot_of(disk) for disk in self.tracked()}
        tracked = [disk for disk in disks if slot_of(disk) in vhdx]
        fact = self.found.fact
        fact("frozen.disks", len(disks))
        fact("frozen.tracking_enabled", all(disk.tracking_enabled for disk in tracked))
        fact("frozen.rct_id_present", all(disk.rct_id for disk in tracked if disk.tracking_enabled))
        fact("frozen.newer_changes", any(disk.newer_changes for disk in tracked))
        reading = {disk.path: self.host.tracking(disk.path) for disk in disks}
        fact("frozen.info_handle_answers", not any(disk.tracking_code for disk in tracked))
        fact("frozen.reading_handle_answers", not any(reading[disk.path].tracking_code for disk in tracked))
        fact(
            "frozen.a_handle_answers",
            all(not disk.tracking_code or not reading[disk.path].tracking_code for disk in tracked),
        )
        vhds = [disk for disk in disks if disk.path.lower().endswith(".vhd")]
        if vhds:
            fact("frozen.vhd_answers", not any(disk.tracking_code for disk in vhds))
        try:
            for disk in tracked:
                self.host.allocation(disk.chain, disk.size_bytes)
            fact("allocation.log_is_empty", True)
            fact("allocation.file_opens", True)
        except OperationFailed as err:
            fact("allocation.refusal", err.describe())
            wanted = err.error_id == FORMAT_UNSUPPORTED
            fact("allocation.log_is_empty" if wanted else "allocation.file_opens", False)

    def _compare_ids(self, disks: Sequence[FrozenDisk], made: ReferencePointInfo) -> None:
        fact = self.found.fact
        frozen = sorted(disk.rct_id for disk in disks if disk.rct_id)
        count = sum(disk.tracking_enabled for disk in disks)
        fact("reference_point.ids", len(made.rct_ids))
        fact("reference_point.disks", len(made.disk_instance_ids))
        fact("reference_point.arrays_equally_long", len(made.rct_ids) == len(made.disk_instance_ids))
        fact("reference_point.one_id_per_disk", len(made.rct_ids) == len(made.disk_instance_ids) == count)
        if len(made.rct_ids) == count and len(frozen) == count:
            fact("reference_point.ids_equal_frozen", sorted(made.rct_ids) == frozen)
        elif set(made.rct_ids) - set(frozen) and frozen:
            fact("reference_point.ids_equal_frozen", False)
        again = [one for one in self.host.reference_points(self.vm_id) if one.instance_id == made.instance_id]
        fact("reference_point.ids_stay", len(again) == 1 and again[0].rct_ids == made.rct_ids)

    def _changes_since(self, first: ReferencePointInfo, written: dict[str, tuple[Extent, ...]]) -> None:
        """Raw answers of change tracking about what was written, as facts."""
        fact = self.found.fact
        with self.frozen() as (_, disks):
            ids = self.ids_by_slot(first, disks)
            fact("frozen.shows_last_id", any(disk.rct_id in first.rct_ids for disk in disks if disk.rct_id))
            pages, ranges, longer, missing, beyond, unit, in_order, empty = 0, 0, 0, 0, 0, 0, True, False
            cut_by: set[str] = set()
            for disk in disks:
                extents = written.get(slot_of(disk), ())
                if slot_of(disk) not in ids:
                    continue
                try:
                    raw = self.raw_changes(disk, ids[slot_of(disk)])
                except OperationFailed as err:
                    fact("changes.refusal", err.describe())
                    fact("changes.answered", False)
                    return
                answer, pages = raw.extents, max(pages, raw.pages)
                cut_by |= raw.cut_by
                in_order = in_order and list(answer) == sorted(answer, key=lambda one: one.offset)
                beyond += sum(max(0, one.end - disk.size_bytes) for one in answer)
                known = normalise(answer, disk.size_bytes)
                wanted = normalise(extents, disk.size_bytes)
                missing += total_bytes(subtract(wanted, known))
                empty = empty or (bool(wanted) and not known)
                ends = {one.end for one in known}
                ranges += len(wanted)
                longer += sum(one.end not in ends for one in wanted)
                if extents:
                    small = [one for one in known if one.offset <= extents[0].offset < one.end]
                    unit = max([unit, *(one.length for one in small)])
            if not pages:
                return
            fact("changes.answered", True)
            fact("changes.empty", empty)
            fact("changes.missing_bytes", missing)
            fact("changes.cover_writes", missing == 0)
            fact("changes.pages", pages)
            fact("changes.page_cut_by_ranges", "ranges" in cut_by)
            fact("changes.page_cut_by_bytes", "bytes" in cut_by)
            fact("changes.sorted", in_order)
            fact("changes.within_disk", beyond == 0)
            fact("changes.unit_bytes", unit)
            fact("changes.longer_share", round(longer / max(1, ranges), 3))

    def raw_changes(self, disk: FrozenDisk, rct_id: str) -> RawChanges:
        """What change tracking answers about a frozen disk since an id."""
        pages = self.host.checks.change_pages(disk.path, rct_id, disk.size_bytes)
        lists = [unpack_extents(page.extents or b"") for page in pages]
        cut_by = set()
        if len(pages) > 1:
            if len({len(one) for one in lists[:-1]}) == 1 and lists[0]:
                cut_by.add("ranges")
            if len({page.processed_bytes for page in pages[:-1]}) == 1:
                cut_by.add("bytes")
            cut_by = cut_by or {"bytes"}
        return RawChanges(tuple(one for extents in lists for one in extents), len(pages), frozenset(cut_by))

    def ids_by_slot(self, point: ReferencePointInfo, disks: Sequence[FrozenDisk]) -> dict[str, str]:
        """Ids of a reference point by the slot of their disk, as far as that is clear."""
        if len(point.rct_ids) != len(point.disk_instance_ids):
            return {}
        by_instance = dict(zip(point.disk_instance_ids, point.rct_ids, strict=True))
        found = {
            slot_of(disk): by_instance[disk.instance_id]
            for disk in self.disks()
            if disk.instance_id in by_instance
        }
        return {slot: rct_id for slot, rct_id in found.items() if slot in {slot_of(disk) for disk in disks}}

    def covers(
        self, first: ReferencePointInfo, written: dict[str, tuple[Extent, ...]], *, answered: bool = False
    ) -> bool:
        """Whether queries since a reference point answer, and cover what was written."""
        with self.frozen() as (_, disks):
            ids = self.ids_by_slot(first, disks)
            if not ids:
                return False
            for disk in disks:
                slot = slot_of(disk)
                if slot not in ids or (not answered and slot not in written):
                    continue
                try:
                    known = normalise(self.raw_changes(disk, ids[slot]).extents, disk.size_bytes)
                except HvpsError as err:
                    self.found.fact("changes.refusal", err.describe())
                    return False
                if subtract(normalise(written.get(slot, ()), disk.size_bytes), known):
                    return False
        return True

    def _merged(self, checkpoint: CheckpointInfo, act: Callable[[], object]) -> None:
        """End a checkpoint by ``act``, and wait for the merge of its children."""
        children = children_of(checkpoint.disk_paths, self.host.disks(self.vm_id))
        act()
        started = time.monotonic()
        left = wait_for_merge(self.host, self.vm_id, children, self.limits, self.pause)
        while not left and self.host.merge_state(self.vm_id).merging and self.pause(self.limits.poll_seconds):
            if time.monotonic() - started > self.limits.merge_seconds:
                break
        slowest = max(float(self.found.facts.get("merge.seconds") or 0), time.monotonic() - started)
        self.found.fact("merge.seconds", round(slowest, 3))
        self.found.fact("merge.left", list(left))

    def clean(self, repository_id: UUID, reference_points: Collection[str]) -> None:
        """Remove what a killed proof left.

        Args:
            repository_id: of that proof; it is in the marks of its checkpoints.
            reference_points: what it recorded of those that it made by hand.
        """
        for checkpoint in self.host.checkpoints(self.vm_id):
            if checkpoint.kind is CheckpointKind.RECOVERY and has_mark_of(repository_id, checkpoint.name):
                self._merged(checkpoint, partial(self._remove_checkpoint, checkpoint))
        for point in self.host.reference_points(self.vm_id):
            ids = set(point.rct_ids)
            if point.instance_id in reference_points or (ids and ids <= set(reference_points)):
                self.remove(point)

    def _remove_checkpoint(self, checkpoint: CheckpointInfo) -> None:
        self.host.remove_checkpoint(self.vm_id, checkpoint.checkpoint_id, checkpoint.name)

    def remove(self, point: ReferencePointInfo) -> None:
        self.host.remove_reference_point(self.vm_id, point.instance_id, point.rct_ids)


def pattern(size_bytes: int, seed: int) -> tuple[Extent, ...]:
    """Ranges to write: a small one, a long one, and small ones far apart, elsewhere for each seed."""
    unit = WRITE_BYTES
    cells = max(1, size_bytes // unit - 1)
    first = Extent(((seed * 7 + 3) % cells) * unit, unit)
    found = [first]
    long_at = ((seed * 11 + cells // 2) % cells) * unit
    found.append(Extent(long_at, min(LONG_WRITE_BYTES, size_bytes - long_at)))
    found += [Extent(((seed * 13 + step * 17 + cells // 4) % cells) * unit, unit) for step in range(8)]
    found.append(Extent(max(0, size_bytes - unit), min(unit, size_bytes)))  # to the very end
    kept = [one for one in found[1:] if not (first.offset - unit <= one.offset <= first.end)]
    return (first, *normalise(kept, size_bytes))
