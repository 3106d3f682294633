"""The backup of one disk: read as planned, compared where tracking is in doubt, and proved."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from uuid import UUID

from hvpsbridge.contract.results import DiskFormat, FrozenDisk
from hvpsbridge.errors import (
    Damaged,
    OperationFailed,
    ProtocolViolation,
    TrackingUnusable,
)
from hvpsbridge.formats.extents import Extent, align, subtract, total_bytes
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.manifest import ManifestDisk, Proof
from hvpsbridge.receiver.assembly import PatchedChunks, WholeChunks
from hvpsbridge.tasks.planning.compare import ranges_to_compare
from hvpsbridge.tasks.planning.lineage import EQUAL
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.patching import owed_extents
from hvpsbridge.tasks.planning.plan import DiskPlan, confirm, confirm_tracking, stop_if_unexpected
from hvpsbridge.tasks.planning.tracking import Tracking, tracking_of
from hvpsbridge.tasks.transfer.context import TransferContext
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.figures import DiskCounts, DiskFigures
from hvpsbridge.tasks.transfer.host_side import HostSide
from hvpsbridge.tasks.transfer.proof_time import RESERVE, ProofTime
from hvpsbridge.tasks.transfer.proving import audited_part, count_replaced, prove
from hvpsbridge.tasks.transfer.repository_side import RepositorySide

logger = logging.getLogger(__name__)

# Reads are aligned to the largest sector a virtual disk can have.
SECTOR_BYTES = 4096


class DiskBackup:
    """The backup of one disk, from the frozen disk to its entry in the manifest.

    Args:
        plan: what was planned for the disk.
        frozen: the disk in the checkpoint.
        reader: reads it.
        context: what the disks of the backup share.

    Attributes:
        plan: as confirmed by the frozen disk; changes when change tracking or the base turn out unusable.
        tracking: of the frozen disk; None before it was asked.
        proof_left_out: why a proof that was due was left out; empty if it was not.
    """

    def __init__(
        self, plan: DiskPlan, frozen: FrozenDisk, reader: DiskReader, context: TransferContext
    ) -> None:
        self.plan = confirm(plan, frozen)
        self.frozen = frozen
        self.reader = reader
        self.proof_left_out = ""
        self._context = context
        self._grid = context.repository.grid
        self._size_bytes = frozen.size_bytes
        base = self.plan.base
        self._stored = RepositorySide(
            context.repository, context.writer, self._size_bytes, None if base is None else base.tree
        )
        self.tracking: Tracking | None = None
        self._host = HostSide(self.plan.slot, frozen, reader, context)
        # Whether only what tracking reported was read.
        self._trusted = False
        self._counts = DiskCounts()

    # -- reading --------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Bring the disk's content into the repository as planned, or as doubt demands.

        Raises:
            StoppedByPolicy: the disk must unexpectedly be compared or read whole, and the options forbid
                that.
        """
        with self.reader.in_use(), self._counts.timed():
            self._ask_tracking()
            try:
                self._pull()
            except Damaged as err:
                if self.plan.base is None:
                    raise
                logger.warning("disk %s: cannot read the base, reading all of it: %s", self.plan.slot, err)
                self._decide(
                    replace(self.plan, mode=Mode.FULL, reason=Reason.BASE_DAMAGED, detail=err.name, base=None)
                )
                self._stored.start_over()
                self._pull()

    def _ask_tracking(self) -> None:
        """Attach the disk, and check the plan against its change tracking."""
        state, frozen = self.reader.tracking(), self.frozen
        if (state.size_bytes, state.logical_sector_bytes) != (frozen.size_bytes, frozen.logical_sector_bytes):
            raise ProtocolViolation(
                self._context.host_name,
                "Get-HvpsDiskTracking",
                f"frozen disk {self.plan.slot} has another size or sector size than it was listed with",
            )
        self.tracking = tracking_of(state, frozen)
        if (plan := confirm_tracking(self.plan, self.tracking)) != self.plan:
            self._decide(plan)

    def _pull(self) -> None:
        if not self._size_bytes:
            return
        changes = self._changes() if self.plan.mode is Mode.INCREMENTAL else None
        if changes is not None:
            self._pull_changes(changes)
        elif self.plan.mode is Mode.COMPARE:
            self._pull_differences()
        else:
            self._pull_allocated()
        if self.plan.base is not None and (bad := self._stored.bad_base_chunks()):
            count = -(-total_bytes(bad) // self._grid.chunk_bytes)
            logger.warning(
                "disk %s: %d chunks of the base are bad, reading them again", self.plan.slot, count
            )
            self._counts.reread_chunks += count
            self._pull_whole(bad)

    def _changes(self) -> tuple[Extent, ...] | None:
        """What tracking reports; None if the plan was changed to a compare."""
        base = self.plan.base
        assert base is not None
        assert base.rct_id is not None
        try:
            changes = self.reader.changes(base.rct_id, self._size_bytes)
        except TrackingUnusable as err:
            self._decide(self.plan.doubted(Reason.TRACKING_UNUSABLE, err.id_and_code))
            return None
        if not changes:  # docs/hyperv-facts.md#empty-answers
            self._decide(self.plan.doubted(Reason.EMPTY_ANSWER))
            return None
        return changes

    def _decide(self, plan: DiskPlan) -> None:
        logger.info("disk %s: %s, %s", plan.slot, plan.mode.value, plan.why)
        self.plan = plan
        stop_if_unexpected(self._context.options, self._context.vm_name, plan)

    def _pull_changes(self, changes: tuple[Extent, ...]) -> None:
        self._trusted = True
        self._counts.changed_bytes = total_bytes(changes)
        aligned = align(changes, SECTOR_BYTES, self._size_bytes)
        wanted = owed_extents(aligned, self._grid, self._size_bytes, self._stored.base_cost)
        sink = PatchedChunks(self._stored, self._grid, self._size_bytes)
        self._host.read(wanted, sink, want_chunk_digests=True)
        self._stored.note_put(changes)
        again = sorted({*sink.refused, *sink.take_unfinished()})
        if again:
            logger.warning(
                "disk %s: %d chunks do not match their digests after patching, reading them whole",
                self.plan.slot,
                len(again),
            )
            self._counts.reread_chunks += len(again)
            chunks = (self._grid.extent(number, self._size_bytes) for number in again)
            self._pull_whole(align(chunks, self._grid.chunk_bytes, self._size_bytes))

    def _pull_allocated(self) -> None:
        """Read everything that the frozen files hold data for, or the whole disk."""
        wanted = (Extent(0, self._size_bytes),) if self._allocation is None else self._allocation
        self._counts.changed_bytes = total_bytes(wanted)
        self._pull_whole(align(wanted, self._grid.chunk_bytes, self._size_bytes), zeros_known=True)

    def _pull_differences(self) -> None:
        """Compare with the base and read what differs; check a distrusted tracking against it."""
        reported = self._reported_for_evidence()
        ranges = ranges_to_compare(
            self._size_bytes, self._grid, self._allocation, self._stored.base_extents()
        )
        unreported: dict[int, bytes] = {}
        for found in self._host.differences(
            self._stored.comparable, ranges, "compare", confirm=reported is not None
        ):
            self._counts.changed_bytes += total_bytes(found)
            if reported is not None:
                unreported.update(self._stored.ids(subtract(found, reported)))
            self._pull_whole(found)
        self._counts.proved_bytes = self._size_bytes
        if unreported:
            self._stored.make_comparable()
            if count := count_replaced(self.plan.slot, self._stored, unreported):
                self._missed(count)

    def _reported_for_evidence(self) -> tuple[Extent, ...] | None:
        """What doubted tracking reports, in whole chunks; None if it is not asked or cannot tell."""
        base = self.plan.base
        doubted = self.plan.reason in (Reason.DISTRUSTED, Reason.IDS_UNPROVED)
        if not doubted or base is None or base.rct_id is None:
            return None
        try:
            changes = self.reader.changes(base.rct_id, self._size_bytes)
        except TrackingUnusable:
            return None
        return align(changes, self._grid.chunk_bytes, self._size_bytes)

    def _pull_whole(self, chunks: tuple[Extent, ...], *, zeros_known: bool = False) -> None:
        if not chunks:
            return
        sink = WholeChunks(self._stored.comparable, self._grid, self._size_bytes, zeros_known=zeros_known)
        self._host.read(chunks, sink)
        if sink.unfinished:
            raise ProtocolViolation(
                self._context.host_name, "Read-HvpsExtent", f"{sink.unfinished} chunks arrived incomplete"
            )
        self._stored.note_put(chunks)

    # -- proving --------------------------------------------------------------------------------------

    def prove_whole(self, *, believe_allocation: bool = True) -> None:
        """Compare the whole stored disk with the frozen one; read and store what differs.

        Args:
            believe_allocation: leave out ranges for which the host's files hold no data and nothing is
                stored.
        """
        with self.reader.in_use():
            allocation = self._allocation if believe_allocation else None
            ranges = ranges_to_compare(self._size_bytes, self._grid, allocation, self._stored.extents())
            proved = self._prove(ranges)
            if self.lied_chunks and not proved:
                proved = self._prove(ranges)
            if proved:
                self._counts.proved_bytes = self._size_bytes

    def audit(self, turn: int) -> None:
        """Prove one part of the disk, another one in each ``turn``; all of it if tracking was wrong there."""
        within = audited_part(self._grid, self._size_bytes, turn)
        if within is None:
            return
        with self.reader.in_use():
            ranges = ranges_to_compare(
                self._size_bytes, self._grid, self._allocation, self._stored.extents(), within
            )
            proved = self._prove(ranges)
            if self.lied_chunks:
                self.prove_whole()
            elif proved:
                self._counts.proved_bytes = within.length

    def _prove(self, ranges: tuple[Extent, ...]) -> bool:
        """Prove ``ranges``, and say who is to blame for what was wrong.

        Returns:
            False if there was not enough time. Once tracking was wrong there is no such limit: a point that
            may be wrong must not be committed.
        """
        guard, limits = self._context.guard, self._context.options.limits
        time_left = ProofTime(
            total_bytes(ranges),
            lambda: guard.seconds_left - RESERVE * limits.checkpoint_age,
            self._host.hash_rate or self._context.hash_bytes,
        )
        limit = None if self.lied_chunks else time_left
        with self._counts.timed():
            found = prove(self.plan.slot, self._host, self._stored, ranges, self._pull_whole, limit)
        self.proof_left_out = found.left_out
        if found.replaced and self._trusted:
            self._lied(found.replaced)
        elif found.replaced:
            # Everything had been read, so the host or its storage returned wrong data the first time.
            logger.error(
                "disk %s: %d chunks were read wrong and were read again", self.plan.slot, found.replaced
            )
            self._counts.reread_chunks += found.replaced
        return not found.left_out

    def _missed(self, chunks: int) -> None:
        """Doubted tracking did not report changed chunks: it lied, or was asked with a late id."""
        if self.plan.reason is Reason.IDS_UNPROVED:
            self.plan = replace(
                self.plan, reason=Reason.IDS_LATE, detail=f"{chunks} changed chunks would have been missed"
            )
            logger.warning("disk %s: %s", self.plan.slot, self.plan.why)
        else:
            self._lied(chunks)

    def _lied(self, chunks: int) -> None:
        self._counts.lied_chunks += chunks
        self.plan = replace(
            self.plan,
            mode=Mode.COMPARE,
            reason=Reason.TRACKING_LIED,
            detail=f"{chunks} changed chunks were not reported",
        )
        logger.error("disk %s: %s", self.plan.slot, self.plan.why)

    # -- results --------------------------------------------------------------------------------------

    def finish(self, run_id: UUID) -> ManifestDisk:
        """The disk's entry in the manifest; nothing is stored for it afterwards."""
        tree = self._stored.finish()
        base, tracking, proved = self.plan.base, self.tracking, self._counts.proved_bytes
        return ManifestDisk(
            slot=self.plan.slot,
            disk_id=self.frozen.disk_id,
            size_bytes=self._size_bytes,
            sector_bytes=self.frozen.logical_sector_bytes,
            path=self.frozen.path,
            chain=self.frozen.chain,
            tree=tree,
            rct_id=None if tracking is None else tracking.rct_id,
            mode=self.plan.mode.value,
            reason=self.plan.reason.word,
            base=base.point_id if base is not None else None,
            stats=self._counts.stats(self._host, self._stored),
            proof=Proof(EQUAL, datetime.now(UTC), proved, run_id) if proved else None,
            way=(IdWay.FROZEN if base is None else base.way).value,
            tracked_without_id=tracking is not None and tracking.enabled and tracking.rct_id is None,
        )

    @property
    def lied_chunks(self) -> int:
        """Changed chunks that tracking did not report, found by a digest."""
        return self._counts.lied_chunks

    @property
    def hash_rate(self) -> float:
        """Bytes per second that the host hashed; 0 if unknown."""
        return self._host.hash_rate

    def figures(self) -> DiskFigures:
        """What the backup of the disk took."""
        return self._counts.figures(self.plan, self._size_bytes, self._host, self._stored)

    @cached_property
    def _allocation(self) -> tuple[Extent, ...] | None:
        """Where the frozen files hold data; None if the host cannot tell."""
        try:
            return self.reader.allocation(self.frozen.chain, self._size_bytes)
        except OperationFailed as err:  # docs/hyperv-facts.md#frozen-file-sharing
            logger.warning("disk %s: it is unknown where its files hold data: %s", self.plan.slot, err)
            if self.plan.facts.format is DiskFormat.VHDX:  # others are read whole by design
                self.plan = self.plan.noted(f"it is unknown where its files hold data: {err.id_and_code}")
            return None
