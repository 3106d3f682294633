"""What comes from the host for one disk: blocks and digests, within permits and rate, told and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.receiver.protocols import BlockSink
from hvpsbridge.receiver.pump import Pump
from hvpsbridge.receiver.throttling import ByteBudget, ReadPermit
from hvpsbridge.repository import Repository
from hvpsbridge.repository.writer import DiskWriter, Writer
from hvpsbridge.tasks.events import Meter, Progress
from hvpsbridge.tasks.planning.compare import differing, regions
from hvpsbridge.tasks.policy import BackupPolicy
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.guard import Guard, ReadWatcher
from hvpsbridge.tasks.transfer.limits import SharedLimits

logger = logging.getLogger(__name__)


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
    sharing: SharedLimits
    gate: Callable[[str], ReadPermit]


class Traffic:
    """Reads one frozen disk, and has it hashed, as what the readers of a run share allows.

    Args:
        slot: where the disk hangs, for people.
        frozen: the disk.
        reader: its reader; it must be working.
        tools: what the disks share.

    Attributes:
        read_bytes: raw bytes taken from the frozen disk.
        wire_bytes: received for them, digests included.
        resumed: how often a lost reader was replaced.
    """

    def __init__(self, slot: str, frozen: FrozenDisk, reader: DiskReader, tools: Tools) -> None:
        self.read_bytes = 0
        self.wire_bytes = 0
        self.resumed = 0
        self._slot = slot
        self._frozen = frozen
        self._reader = reader
        self._tools = tools
        self._grid = tools.repository.grid

    def read(self, wanted: tuple[Extent, ...], sink: BlockSink, *, want_chunk_digests: bool = False) -> None:
        """Bring ``wanted`` of the frozen disk into ``sink``.

        Args:
            wanted: a sorted set.
            sink: takes the blocks.
            want_chunk_digests: have the host send the digest of each whole chunk that is touched, too.
        """
        tools = self._tools
        owed_bytes = total_bytes(wanted)
        meter = Meter(tools.tell, self._slot, "read", owed_bytes)
        wish = tools.policy.tuning
        settings, search = tools.sharing.tuning.begin(tools.host_name, wish, owed_bytes)
        pump = Pump(
            self._reader.open,
            self._frozen.size_bytes,
            self._grid,
            host=tools.host_name,
            budget=tools.budget,
            watcher=ReadWatcher(tools.guard, meter),
            settings=settings,
            gate=self._gate,
            pace=tools.sharing.pace,
            want_chunk_digests=want_chunk_digests,
            retry_limits=tools.policy.retry_limits,
        )
        try:
            moved = pump.run(wanted, sink, search)
        finally:
            if search is not None:
                tools.sharing.tuning.end(tools.host_name, search, wish)
        self.read_bytes += moved.raw_bytes
        self.wire_bytes += moved.wire_bytes
        self.resumed += moved.resumed

    def differences(
        self, stored: DiskWriter, ranges: tuple[Extent, ...], activity: str, *, twice: bool = False
    ) -> Iterator[tuple[Extent, ...]]:
        """Whole chunks that differ, a region at a time; those that do so ``twice`` where that is asked.

        One wrong bit in one read of the host must not cost change tracking its name.

        Args:
            stored: what to compare the frozen disk with.
            ranges: where, in whole chunks; a sorted set.
            activity: what progress is told as.
            twice: look again at what differs.
        """
        meter = Meter(self._tools.tell, self._slot, activity, total_bytes(ranges))

        def told(compared_bytes: int, received_bytes: int) -> None:
            self._received(received_bytes)
            meter.moved(compared_bytes, received_bytes)

        gate, check, pace = self._gate(), self._tools.guard.check, self._tools.sharing.pace
        for region in regions(ranges):
            while (delay := pace.delay()) > 0:
                self._tools.guard.pause(delay)
            gate.enter(check)  # the host reads the whole region for its digests
            try:
                found = differing(self._reader.digests, region, stored, self._grid, check=check, told=told)
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
            for extent in differing(self._reader.digests, part, stored, self._grid, check=check, told=told)
        ]
        if total_bytes(again) < total_bytes(found):
            logger.warning("disk %s: digests of the host differ from one look to the next", self._slot)
        return tuple(again)

    def _received(self, digest_bytes: int) -> None:
        self.wire_bytes += digest_bytes
        self._tools.sharing.pace.consume(digest_bytes)

    def _gate(self) -> ReadPermit:
        return self._tools.gate(self._frozen.path)
