"""The host's side of a disk's backup: blocks and digests of the frozen disk, within the limits of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.receiver.protocols import BlockSink
from hvpsbridge.receiver.pump import Pump
from hvpsbridge.receiver.throttling import ReadPermit
from hvpsbridge.repository.disk import DiskWriter
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.planning.compare import differing, regions
from hvpsbridge.tasks.transfer.context import TransferContext
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.guard import ReadWatcher
from hvpsbridge.tasks.transfer.proof_time import ProofTime
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

# The start of an operation weighs less than a tenth in the time for so much.
MEASURABLE_BYTES = 256 * MIB


class HostSide:
    """Reads one frozen disk and has it hashed on the host; counts the bytes.

    Args:
        slot: of the disk, for messages.
        frozen: the disk.
        reader: its reader, which must be in use.
        context: what the disks of the backup share.

    Attributes:
        read_bytes: raw bytes read from the frozen disk.
        wire_bytes: bytes received for them, digests included.
        resumed: how often a lost reader was replaced.
        hashed_bytes: bytes that the host hashed.
        hash_seconds: how long that took.
    """

    def __init__(self, slot: str, frozen: FrozenDisk, reader: DiskReader, context: TransferContext) -> None:
        self.read_bytes = 0
        self.wire_bytes = 0
        self.resumed = 0
        self.hashed_bytes = 0
        self.hash_seconds = 0.0
        self._slot = slot
        self._frozen = frozen
        self._reader = reader
        self._context = context
        self._grid = context.repository.grid

    @property
    def name(self) -> str:
        """The host's name, for messages."""
        return self._context.host_name

    @property
    def hash_rate(self) -> float:
        """Bytes per second that the host hashed; 0 if it hashed too little to tell."""
        if self.hashed_bytes < MEASURABLE_BYTES or self.hash_seconds <= 0:
            return 0.0
        return self.hashed_bytes / self.hash_seconds

    def read(self, wanted: tuple[Extent, ...], sink: BlockSink, *, want_chunk_digests: bool = False) -> None:
        """Deliver ``wanted`` of the frozen disk to ``sink``.

        Args:
            wanted: a sorted set.
            sink: takes the blocks.
            want_chunk_digests: also have the host send the digest of each whole chunk touched.
        """
        context = self._context
        owed_bytes = total_bytes(wanted)
        meter = Meter(context.on_progress, self._slot, "read", owed_bytes)
        tuning = context.options.tuning
        settings, search = context.shared.tuning.begin(context.host_name, tuning, owed_bytes)
        pump = Pump(
            self._reader.open,
            self._frozen.size_bytes,
            self._grid,
            host=context.host_name,
            budget=context.budget,
            watcher=ReadWatcher(context.guard, meter),
            settings=settings,
            new_permit=self._permit,
            rate_limiter=context.shared.rate,
            want_chunk_digests=want_chunk_digests,
            retry_limits=context.options.retry_limits,
        )
        try:
            moved = pump.run(wanted, sink, search)
        finally:
            if search is not None:
                context.shared.tuning.end(context.host_name, search, tuning)
        self.read_bytes += moved.raw_bytes
        self.wire_bytes += moved.wire_bytes
        self.resumed += moved.resumed

    def differences(
        self,
        stored: DiskWriter,
        ranges: tuple[Extent, ...],
        activity: str,
        *,
        confirm: bool = False,
        proof_time: ProofTime | None = None,
    ) -> Iterator[tuple[Extent, ...]]:
        """Whole chunks that differ from ``stored``, one region of the disk at a time.

        Args:
            stored: what to compare the frozen disk with.
            ranges: where to compare, in whole chunks; a sorted set.
            activity: name of the work in progress reports.
            confirm: look a second time at what differs, and leave out what no longer does: one wrong bit
                in one read of the host must not discredit change tracking.
            proof_time: checked for each page.

        Raises:
            ProofLeftOutError: there is not enough time.
        """
        context = self._context
        meter = Meter(context.on_progress, self._slot, activity, total_bytes(ranges))

        def count(compared_bytes: int, received_bytes: int) -> None:
            self._received(received_bytes)
            meter.moved(compared_bytes, received_bytes)
            self.hashed_bytes += compared_bytes
            if proof_time is not None:
                proof_time.hashed(compared_bytes)
                proof_time.check()

        permit, check = self._permit(), context.guard.check
        for region in regions(ranges):
            while (delay := context.shared.rate.delay()) > 0:
                context.guard.pause(delay)
            permit.enter(check)  # the host reads the whole region for its digests
            started = time.monotonic()
            try:
                found = differing(
                    self._reader.digests, region, stored, self._grid, check=check, on_page=count
                )
                if found and confirm:
                    found = self._still_differing(stored, found)
            finally:
                permit.leave()
                self.hash_seconds += time.monotonic() - started
            yield found

    def _still_differing(self, stored: DiskWriter, found: tuple[Extent, ...]) -> tuple[Extent, ...]:
        def count(compared_bytes: int, received_bytes: int) -> None:
            self._received(received_bytes)

        check = self._context.guard.check
        again = [
            extent
            for part in found
            for extent in differing(
                self._reader.digests, part, stored, self._grid, check=check, on_page=count
            )
        ]
        if total_bytes(again) < total_bytes(found):
            logger.warning("disk %s: the host hashed the same data to different digests", self._slot)
        return tuple(again)

    def _received(self, digest_bytes: int) -> None:
        self.wire_bytes += digest_bytes
        self._context.shared.rate.consume(digest_bytes)

    def _permit(self) -> ReadPermit:
        return self._context.permit(self._frozen.path)
