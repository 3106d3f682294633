"""One disk's way from its frozen state into a point: pulled as planned, doubted when due, proved."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.errors import Damaged, ProtocolViolation, StoppedByPolicy, TrackingUnusable
from hvpsbridge.formats.extents import Extent, align, subtract, total_bytes
from hvpsbridge.formats.manifest import DiskStats, ManifestDisk, Proof
from hvpsbridge.receiver.assembly import PatchedChunks, WholeChunks
from hvpsbridge.tasks.planning.compare import ranges_to_compare
from hvpsbridge.tasks.planning.lineage import EQUAL
from hvpsbridge.tasks.planning.patching import owed_extents
from hvpsbridge.tasks.planning.plan import DiskPlan, Mode, Reason, confirm
from hvpsbridge.tasks.policy import BackupPolicy, OnUnexpectedFull
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.figures import DiskFigures
from hvpsbridge.tasks.transfer.host_side import Tools, Traffic
from hvpsbridge.tasks.transfer.repository_side import StoredDisk
from hvpsbridge.units import one_line

logger = logging.getLogger(__name__)

# Reads are aligned to this: the largest sector a virtual disk can have.
SECTOR_BYTES = 4096
# The rotating audit looks at one part of the disk each run and is round in so many runs.
AUDIT_PARTS = 16


def stop_if_unexpected(policy: BackupPolicy, vm_name: str, plan: DiskPlan) -> None:
    """Return when a disk may be backed up as planned.

    Raises:
        StoppedByPolicy: it would be read or compared whole unexpectedly, and the policy forbids that.
    """
    if not plan.reason.expected and policy.on_unexpected_full is OnUnexpectedFull.STOP:
        raise StoppedByPolicy(vm_name, f"disk {plan.slot}: {plan.why}")


class DiskBackup:
    """The backup of one disk, from the frozen handle to its entry in the manifest.

    Attributes:
        plan: as confirmed by the frozen handle, and as it turned out.
        lied_chunks: chunks that tracking left out and a digest found.
    """

    def __init__(self, plan: DiskPlan, frozen: FrozenDisk, reader: DiskReader, tools: Tools) -> None:
        self.plan = confirm(plan, frozen)
        self.frozen = frozen
        self.reader = reader
        self.lied_chunks = 0
        self._tools = tools
        self._grid = tools.repository.grid
        self._size_bytes = frozen.size_bytes
        base = self.plan.base
        self._stored = StoredDisk(
            tools.repository, tools.writer, self._size_bytes, None if base is None else base.tree
        )
        self._traffic = Traffic(self.plan.slot, frozen, reader, tools)
        self._trusted = False
        self._allocation: tuple[Extent, ...] | None = None
        self._allocation_known = False
        self._changed_bytes = 0
        self._reread_chunks = 0
        self._proved_bytes = 0
        self._seconds = 0.0

    # -- pulling --------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Bring the disk's content into the repository as planned, or as doubt demands.

        Raises:
            StoppedByPolicy: it turned out that the disk must be compared or read whole, and the policy
                forbids that.
        """
        with self.reader.working():
            started = time.monotonic()
            try:
                self._pull_or_begin_anew()
            finally:
                self._seconds += time.monotonic() - started

    def _pull_or_begin_anew(self) -> None:
        try:
            self._pull()
        except Damaged as err:
            if self.plan.base is None:
                raise
            logger.warning("the base of %s cannot be read, reading the disk whole: %s", self.plan.slot, err)
            self._decide(
                replace(self.plan, mode=Mode.FULL, reason=Reason.BASE_DAMAGED, detail=err.name, base=None)
            )
            self._stored.begin_anew()
            self._pull()

    def _pull(self) -> None:
        if not self._size_bytes:
            return
        changes: tuple[Extent, ...] | None = None
        if self.plan.mode is Mode.INCREMENTAL:
            changes = self._changes()
        match self.plan.mode:
            case Mode.INCREMENTAL:
                assert changes is not None
                self._pull_changes(changes)
            case Mode.COMPARE:
                self._pull_differences()
            case Mode.FULL:
                wanted = self._allocated()
                if wanted is None:
                    wanted = (Extent(0, self._size_bytes),)
                self._changed_bytes = total_bytes(wanted)
                self._pull_whole(align(wanted, self._grid.chunk_bytes, self._size_bytes), zeros_known=True)
        if self.plan.base is not None and (lacking := self._stored.lacking()):
            count = -(-total_bytes(lacking) // self._grid.chunk_bytes)
            logger.warning("disk %s: %d chunks of the base are bad and are read again", self.plan.slot, count)
            self._reread_chunks += count
            self._pull_whole(lacking)

    def _changes(self) -> tuple[Extent, ...] | None:
        """What tracking reports; None after the plan was changed to a compare."""
        base = self.plan.base
        assert base is not None
        assert base.rct_id is not None
        try:
            changes = self.reader.changes(base.rct_id, self._size_bytes)
        except TrackingUnusable as err:
            native = "" if err.native is None else f", 0x{err.native & 0xFFFFFFFF:08X}"
            self._decide(self.plan.doubted(Reason.TRACKING_UNUSABLE, f"{err.error_id}{native}"))
            return None
        if not changes:  # docs/hyperv-facts.md#empty-answers
            self._decide(self.plan.doubted(Reason.EMPTY_ANSWER))
            return None
        return changes

    def _decide(self, plan: DiskPlan) -> None:
        logger.info("disk %s: %s, %s", plan.slot, plan.mode.value, plan.why)
        self.plan = plan
        stop_if_unexpected(self._tools.policy, self._tools.vm_name, plan)

    def _pull_changes(self, changes: tuple[Extent, ...]) -> None:
        self._trusted = True
        self._changed_bytes = total_bytes(changes)
        aligned = align(changes, SECTOR_BYTES, self._size_bytes)
        wanted = owed_extents(aligned, self._grid, self._size_bytes, self._stored.base_cost)
        sink = PatchedChunks(self._stored, self._grid, self._size_bytes)
        self._traffic.read(wanted, sink, want_chunk_digests=True)
        self._stored.note_put(changes)
        again = sorted({*sink.refused, *sink.take_unfinished()})
        if again:
            logger.warning(
                "disk %s: %d chunks are read whole, base and changes do not make them",
                self.plan.slot,
                len(again),
            )
            self._reread_chunks += len(again)
            chunks = (self._grid.extent(number, self._size_bytes) for number in again)
            self._pull_whole(align(chunks, self._grid.chunk_bytes, self._size_bytes))

    def _pull_differences(self) -> None:
        """Compare with the base and read what differs; hold a distrusted tracking against it."""
        claimed = self._evidence()
        ranges = ranges_to_compare(
            self._size_bytes, self._grid, self._allocated(), self._stored.base_extents()
        )
        untold: dict[int, bytes] = {}
        for found in self._traffic.differences(
            self._stored.settled, ranges, "compare", twice=claimed is not None
        ):
            self._changed_bytes += total_bytes(found)
            if claimed is not None:
                untold.update(self._stored.ids(subtract(found, claimed)))
            self._pull_whole(found)
        self._proved_bytes = self._size_bytes
        if untold:
            self._stored.settle()
            if count := self._replaced(untold):
                self._lied(count)

    def _evidence(self) -> tuple[Extent, ...] | None:
        """What a distrusted tracking claims to have changed, in whole chunks; None when it is not asked."""
        base = self.plan.base
        if self.plan.reason is not Reason.DISTRUSTED or base is None or base.rct_id is None:
            return None
        try:
            changes = self.reader.changes(base.rct_id, self._size_bytes)
        except TrackingUnusable:
            return None
        return align(changes, self._grid.chunk_bytes, self._size_bytes)

    def _pull_whole(self, chunks: tuple[Extent, ...], *, zeros_known: bool = False) -> None:
        if not chunks:
            return
        sink = WholeChunks(self._stored, self._grid, self._size_bytes, zeros_known=zeros_known)
        self._traffic.read(chunks, sink)
        if sink.unfinished:
            raise ProtocolViolation(
                self._tools.host_name, "Read-HvpsExtent", f"{sink.unfinished} chunks came only in part"
            )
        self._stored.note_put(chunks)

    # -- proving --------------------------------------------------------------------------------------

    def prove_whole(self, *, believe_allocation: bool = True) -> None:
        """Hold the whole stored disk against the frozen one; read and store what differs.

        Args:
            believe_allocation: leave out what the host's files hold no data for and nothing is stored of.
        """
        with self.reader.working():
            allocation = self._allocated() if believe_allocation else None
            self._prove(ranges_to_compare(self._size_bytes, self._grid, allocation, self._stored.extents()))
            self._proved_bytes = self._size_bytes

    def audit(self, turn: int) -> None:
        """Prove one part of the disk, another one each ``turn``; all of it when that finds a lie."""
        chunks = self._grid.count(self._size_bytes)
        part = -(-chunks // AUDIT_PARTS)
        first = turn % AUDIT_PARTS * part * self._grid.chunk_bytes
        if first >= self._size_bytes:
            return
        within = Extent(first, min(part * self._grid.chunk_bytes, self._size_bytes - first))
        with self.reader.working():
            ranges = ranges_to_compare(
                self._size_bytes, self._grid, self._allocated(), self._stored.extents(), within
            )
            self._prove(ranges)
            if self.lied_chunks:
                self.prove_whole()
            else:
                self._proved_bytes = within.length

    def _prove(self, ranges: tuple[Extent, ...]) -> None:
        started = time.monotonic()
        self._stored.settle()
        repaired: list[Extent] = []
        stored: dict[int, bytes] = {}
        for found in self._traffic.differences(self._stored.settled, ranges, "prove", twice=True):
            repaired.extend(found)
            stored.update(self._stored.ids(found))
            self._pull_whole(found)
        if repaired:
            self._stored.settle()
            if any(self._traffic.differences(self._stored.settled, tuple(repaired), "prove", twice=True)):
                raise ProtocolViolation(
                    self._tools.host_name,
                    "Get-HvpsDiskDigest",
                    f"frozen disk {self.plan.slot} does not read as its digests say",
                )
            count = self._replaced(stored)
            if count and self._trusted:
                self._lied(count)
            elif count:
                # Everything was read: what differs was read wrong, by the host or on its way to it.
                logger.error("disk %s: %d chunks were read wrong and are read again", self.plan.slot, count)
                self._reread_chunks += count
        self._seconds += time.monotonic() - started

    def _replaced(self, before: dict[int, bytes]) -> int:
        """How many chunks, by what they were, have another content in the tree as it is now.

        Digests of the host can be wrong on two looks; what was read is the third, and decides.
        """
        count = self._stored.count_replaced(before)
        if not count:
            logger.warning("disk %s: digests of the host differed, what is read does not", self.plan.slot)
        return count

    def _lied(self, chunks: int) -> None:
        self.lied_chunks += chunks
        self.plan = replace(
            self.plan,
            mode=Mode.COMPARE,
            reason=Reason.TRACKING_LIED,
            detail=f"{chunks} changed chunks were not reported",
        )
        logger.error("disk %s: %s", self.plan.slot, self.plan.why)

    # -- the end --------------------------------------------------------------------------------------

    def finish(self, run_id: UUID) -> ManifestDisk:
        """The disk's entry in the manifest; nothing is stored for it afterwards."""
        tree = self._stored.finish()
        base = self.plan.base
        return ManifestDisk(
            slot=self.plan.slot,
            disk_id=self.frozen.disk_id,
            size_bytes=self._size_bytes,
            sector_bytes=self.frozen.logical_sector_bytes,
            path=self.frozen.path,
            chain=self.frozen.chain,
            tree=tree,
            rct_id=self.frozen.rct_id if self.frozen.tracking_enabled else None,
            mode=self.plan.mode.value,
            reason=self.plan.reason.word,
            base=base.point_id if base is not None else None,
            stats=DiskStats(
                changed_bytes=self._changed_bytes,
                read_bytes=self._traffic.read_bytes,
                wire_bytes=self._traffic.wire_bytes,
                stored_bytes=self._stored.stored_bytes,
                new_chunks=self._stored.new_chunks,
                reread_chunks=self._reread_chunks,
                seconds=round(self._seconds, 3),
            ),
            proof=self._proof(run_id),
        )

    def _proof(self, run_id: UUID) -> Proof | None:
        """How much of the disk was held against the frozen one; None for nothing."""
        if not self._proved_bytes:
            return None
        return Proof(EQUAL, datetime.now(UTC), self._proved_bytes, run_id)

    def figures(self) -> DiskFigures:
        """What it took."""
        return DiskFigures(
            slot=self.plan.slot,
            size_bytes=self._size_bytes,
            mode=self.plan.mode,
            reason=self.plan.reason,
            reason_text=one_line(self.plan.why),
            changed_bytes=self._changed_bytes,
            read_bytes=self._traffic.read_bytes,
            wire_bytes=self._traffic.wire_bytes,
            stored_bytes=self._stored.stored_bytes,
            new_chunks=self._stored.new_chunks,
            reread_chunks=self._reread_chunks,
            resumed=self._traffic.resumed,
            proved_bytes=self._proved_bytes,
            lied_chunks=self.lied_chunks,
            seconds=round(self._seconds, 3),
        )

    def _allocated(self) -> tuple[Extent, ...] | None:
        if not self._allocation_known:
            self._allocation = self.reader.allocation(self.frozen.chain, self._size_bytes)
            self._allocation_known = True
        return self._allocation
