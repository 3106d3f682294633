"""One disk's way from its frozen state into a point: pulled as planned, doubted when due, proved."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.errors import Damaged, ProtocolViolation, StoppedByPolicy, TrackingUnusable
from hvpsbridge.formats.extents import Extent, align, subtract, total_bytes
from hvpsbridge.formats.manifest import DiskStats, ManifestDisk, Proof
from hvpsbridge.formats.node import is_zero
from hvpsbridge.receiver.assembly import PatchedChunks, WholeChunks
from hvpsbridge.receiver.budget import ByteBudget
from hvpsbridge.receiver.gates import Gate
from hvpsbridge.receiver.pump import BlockSink, Pump
from hvpsbridge.repository import Repository
from hvpsbridge.repository.writer import DiskWriter, Writer
from hvpsbridge.tasks.compare import differing, ranges_to_compare, regions
from hvpsbridge.tasks.events import Meter, Progress
from hvpsbridge.tasks.lineage import EQUAL
from hvpsbridge.tasks.patching import FREE, LOCAL, REMOTE, BaseCost, owed_extents
from hvpsbridge.tasks.plan import DiskPlan, Mode, Reason, confirm
from hvpsbridge.tasks.policy import BackupPolicy, OnUnexpectedFull
from hvpsbridge.tasks.reader import DiskReader
from hvpsbridge.tasks.results import DiskFigures
from hvpsbridge.tasks.sharing import Sharing
from hvpsbridge.tasks.watch import Guard, ReadWatcher

_LOG = logging.getLogger(__name__)

# Reads are aligned to this: the largest sector a virtual disk can have.
SECTOR_BYTES = 4096
# The rotating audit looks at one part of the disk each run and is round in so many runs.
AUDIT_PARTS = 16


@dataclass(frozen=True, slots=True)
class Tools:
    """What the disks of one backup share.

    Attributes:
        gate: a permit to read the frozen disk of that path.
    """

    repository: Repository
    writer: Writer
    budget: ByteBudget
    guard: Guard
    policy: BackupPolicy
    vm_name: str
    host_name: str
    tell: Callable[[Progress], None]
    sharing: Sharing
    gate: Callable[[str], Gate]


class _Base:
    """A disk writer as the receiver's patch store: a base chunk that is damaged counts as not there."""

    def __init__(self, writer: DiskWriter) -> None:
        self._writer = writer

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        self._writer.put(number, data)

    def base_chunk(self, number: int) -> bytes | None:
        try:
            return self._writer.base_chunk(number)
        except Damaged as err:
            _LOG.warning("base chunk %d is read whole from the host: %s", number, err)
            return None


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
        self._writers: list[DiskWriter] = []
        self._disk = self._open_disk()
        self._trusted = False
        self._allocation: tuple[Extent, ...] | None = None
        self._allocation_known = False
        # What was put, in whole chunks; with the base's extents this is where the disk is not zero.
        self._put: tuple[Extent, ...] = ()
        self._changed_bytes = 0
        self._read_bytes = 0
        self._wire_bytes = 0
        self._reread_chunks = 0
        self._resumed = 0
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
            _LOG.warning("the base of %s cannot be read, reading the disk whole: %s", self.plan.slot, err)
            self._decide(
                replace(self.plan, mode=Mode.FULL, reason=Reason.BASE_DAMAGED, detail=err.name, base=None)
            )
            self._disk = self._open_disk()
            self._put = ()
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
                wanted = self._allocated() or ()
                if self._allocated() is None:
                    wanted = (Extent(0, self._size_bytes),)
                self._changed_bytes = total_bytes(wanted)
                self._pull_whole(align(wanted, self._grid.chunk_bytes, self._size_bytes), zeros_known=True)
        if self.plan.base is not None and (lacking := self._disk.lacking()):
            count = -(-total_bytes(lacking) // self._grid.chunk_bytes)
            _LOG.warning("disk %s: %d chunks of the base are bad and are read again", self.plan.slot, count)
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
        if not changes:
            self._decide(self.plan.doubted(Reason.EMPTY_ANSWER))
            return None
        return changes

    def _decide(self, plan: DiskPlan) -> None:
        _LOG.info("disk %s: %s, %s", plan.slot, plan.mode.value, plan.why)
        self.plan = plan
        if not plan.reason.expected and self._tools.policy.on_unexpected_full is OnUnexpectedFull.STOP:
            raise StoppedByPolicy(self._tools.vm_name, f"disk {plan.slot}: {plan.why}")

    def _pull_changes(self, changes: tuple[Extent, ...]) -> None:
        self._trusted = True
        self._changed_bytes = total_bytes(changes)
        aligned = align(changes, SECTOR_BYTES, self._size_bytes)
        wanted = owed_extents(aligned, self._grid, self._size_bytes, self._base_cost)
        sink = PatchedChunks(_Base(self._disk), self._grid, self._size_bytes)
        self._pump(wanted, sink, "read", want_chunk_digests=True)
        self._put = align(changes, self._grid.chunk_bytes, self._size_bytes)
        again = sorted({*sink.refused, *sink.take_unfinished()})
        if again:
            _LOG.warning(
                "disk %s: %d chunks are read whole, base and changes do not make them",
                self.plan.slot,
                len(again),
            )
            self._reread_chunks += len(again)
            chunks = (self._grid.extent(number, self._size_bytes) for number in again)
            self._pull_whole(align(chunks, self._grid.chunk_bytes, self._size_bytes))

    def _base_cost(self, number: int) -> BaseCost:
        """What reading the base of a chunk costs. Only where that is much is it worth a look at the tree."""
        if not self._tools.repository.remote:
            return LOCAL
        try:
            return FREE if is_zero(self._disk.base_id(number)) else REMOTE
        except Damaged:
            return REMOTE

    def _pull_differences(self) -> None:
        """Compare with the base and read what differs; hold a distrusted tracking against it."""
        claimed = self._evidence()
        ranges = ranges_to_compare(self._size_bytes, self._grid, self._allocated(), self._base_extents())
        untold: dict[int, bytes] = {}
        for found in self._differences(self._disk, ranges, "compare", twice=claimed is not None):
            self._changed_bytes += total_bytes(found)
            if claimed is not None:
                untold.update(self._base_ids(subtract(found, claimed)))
            self._pull_whole(found)
        self._proved_bytes = self._size_bytes
        if untold:
            self._settle_disk()
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
        sink = WholeChunks(self._disk, self._grid, self._size_bytes, zeros_known=zeros_known)
        self._pump(chunks, sink, "read")
        if sink.unfinished:
            raise ProtocolViolation(
                self._tools.host_name, "Read-HvpsExtent", f"{sink.unfinished} chunks came only in part"
            )
        self._put = align([*self._put, *chunks], self._grid.chunk_bytes, self._size_bytes)

    def _pump(
        self, wanted: tuple[Extent, ...], sink: BlockSink, activity: str, *, want_chunk_digests: bool = False
    ) -> None:
        tools = self._tools
        owed_bytes = total_bytes(wanted)
        meter = Meter(tools.tell, self.plan.slot, activity, owed_bytes)
        wish = tools.policy.tuning
        settings, search = tools.sharing.tuning.begin(tools.host_name, wish, owed_bytes)
        pump = Pump(
            self.reader.open,
            self._size_bytes,
            self._grid,
            host=tools.host_name,
            budget=tools.budget,
            watcher=ReadWatcher(tools.guard, meter),
            settings=settings,
            gate=self._gate,
            pace=tools.sharing.pace,
            want_chunk_digests=want_chunk_digests,
            patience=tools.policy.patience,
        )
        try:
            moved = pump.run(wanted, sink, search)
        finally:
            if search is not None:
                tools.sharing.tuning.end(tools.host_name, search, wish)
        self._read_bytes += moved.raw_bytes
        self._wire_bytes += moved.wire_bytes
        self._resumed += moved.resumed

    # -- proving --------------------------------------------------------------------------------------

    def prove_whole(self, *, believe_allocation: bool = True) -> None:
        """Hold the whole stored disk against the frozen one; read and store what differs.

        Args:
            believe_allocation: leave out what the host's files hold no data for and nothing is stored of.
        """
        with self.reader.working():
            allocation = self._allocated() if believe_allocation else None
            self._prove(ranges_to_compare(self._size_bytes, self._grid, allocation, self._stored_extents()))
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
                self._size_bytes, self._grid, self._allocated(), self._stored_extents(), within
            )
            self._prove(ranges)
            if self.lied_chunks:
                self.prove_whole()
            else:
                self._proved_bytes = within.length

    def _prove(self, ranges: tuple[Extent, ...]) -> None:
        started = time.monotonic()
        self._settle_disk()
        repaired: list[Extent] = []
        stored: dict[int, bytes] = {}
        for found in self._differences(self._disk, ranges, "prove", twice=True):
            repaired.extend(found)
            stored.update(self._base_ids(found))
            self._pull_whole(found)
        if repaired:
            self._settle_disk()
            if any(self._differences(self._disk, tuple(repaired), "prove", twice=True)):
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
                _LOG.error("disk %s: %d chunks were read wrong and are read again", self.plan.slot, count)
                self._reread_chunks += count
        self._seconds += time.monotonic() - started

    def _base_ids(self, chunks: tuple[Extent, ...]) -> dict[int, bytes]:
        return {number: self._disk.base_id(number) for number in self._grid.touched(chunks)}

    def _replaced(self, before: Mapping[int, bytes]) -> int:
        """How many chunks, by what they were, have another content in the tree as it is now.

        Digests of the host can be wrong on two looks; what was read is the third, and decides.
        """
        count = sum(self._disk.base_id(number) != was for number, was in before.items())
        if not count:
            _LOG.warning("disk %s: digests of the host differed, what is read does not", self.plan.slot)
        return count

    def _settle_disk(self) -> None:
        """Bring the tree as it is now to where it can be compared and patched."""
        root = self._disk.finish()
        self._tools.writer.flush()
        self._disk = self._tools.writer.disk(self._size_bytes, root)
        self._writers.append(self._disk)

    def _lied(self, chunks: int) -> None:
        self.lied_chunks += chunks
        self.plan = replace(
            self.plan,
            mode=Mode.COMPARE,
            reason=Reason.TRACKING_LIED,
            detail=f"{chunks} changed chunks were not reported",
        )
        _LOG.error("disk %s: %s", self.plan.slot, self.plan.why)

    def _differences(
        self, stored: DiskWriter, ranges: tuple[Extent, ...], activity: str, *, twice: bool = False
    ) -> Iterable[tuple[Extent, ...]]:
        """Whole chunks that differ, a region at a time; those that do so ``twice`` where that is asked.

        One wrong bit in one read of the host must not cost change tracking its name.
        """
        meter = Meter(self._tools.tell, self.plan.slot, activity, total_bytes(ranges))

        def told(compared_bytes: int, received_bytes: int) -> None:
            self._received(received_bytes)
            meter.moved(compared_bytes, received_bytes)

        gate, check, pace = self._gate(), self._tools.guard.check, self._tools.sharing.pace
        for region in regions(ranges):
            while (delay := pace.delay()) > 0:
                self._tools.guard.pause(delay)
            gate.enter(check)  # the host reads the whole region for its digests
            try:
                found = differing(self.reader.digests, region, stored, self._grid, check=check, told=told)
                if found and twice:
                    found = self._still_differing(stored, found)
            finally:
                gate.leave()
            yield found

    def _still_differing(self, stored: DiskWriter, found: tuple[Extent, ...]) -> tuple[Extent, ...]:
        def told(compared_bytes: int, received_bytes: int) -> None:
            self._received(received_bytes)

        check = self._tools.guard.check
        again = [
            extent
            for part in found
            for extent in differing(self.reader.digests, part, stored, self._grid, check=check, told=told)
        ]
        if total_bytes(again) < total_bytes(found):
            _LOG.warning("disk %s: digests of the host differ from one look to the next", self.plan.slot)
        return tuple(again)

    def _received(self, digest_bytes: int) -> None:
        self._wire_bytes += digest_bytes
        self._tools.sharing.pace.spent(digest_bytes)

    def _gate(self) -> Gate:
        return self._tools.gate(self.frozen.path)

    # -- the end --------------------------------------------------------------------------------------

    def finish(self, run_id: UUID) -> ManifestDisk:
        """The disk's entry in the manifest; nothing is stored for it afterwards."""
        tree = self._disk.finish()
        self._tools.writer.flush()  # only then are its figures whole
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
                self._changed_bytes,
                self._read_bytes,
                self._wire_bytes,
                sum(writer.stats.stored_bytes for writer in self._writers),
                sum(writer.stats.new_chunks for writer in self._writers),
                self._reread_chunks,
                round(self._seconds, 3),
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
            self.plan.slot,
            self._size_bytes,
            self.plan.mode,
            self.plan.reason,
            self.plan.detail,
            self._changed_bytes,
            self._read_bytes,
            self._wire_bytes,
            sum(writer.stats.stored_bytes for writer in self._writers),
            sum(writer.stats.new_chunks for writer in self._writers),
            self._reread_chunks,
            self._resumed,
            self._proved_bytes,
            self.lied_chunks,
            self._seconds,
        )

    def _open_disk(self) -> DiskWriter:
        base = None
        if self.plan.mode is not Mode.FULL and self.plan.base is not None:
            base = self.plan.base.tree
        writer = self._tools.writer.disk(self._size_bytes, base)
        self._writers.append(writer)
        return writer

    def _allocated(self) -> tuple[Extent, ...] | None:
        if not self._allocation_known:
            self._allocation = self.reader.allocation(self.frozen.chain, self._size_bytes)
            self._allocation_known = True
        return self._allocation

    def _base_extents(self) -> Iterable[Extent]:
        if self.plan.base is None:
            return ()
        return self._tools.repository.image_of(self.plan.base.tree).extents()

    def _stored_extents(self) -> Iterable[Extent]:
        """Where the disk as stored now may be other than zero."""
        return (*self._base_extents(), *self._put)
