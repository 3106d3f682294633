"""Records that the guest of the kit writes, as frozen disks show them.

The guest (``tools/conformance/linux/write-pattern``) writes one record after the other, round after round,
and flushes each. A record is 64 KiB of one line repeated: ``hvps ROUND RECORD HUNDREDTHS``. The last number
is the guest's uptime in hundredths of a second when it made the line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.errors import OperationTimedOut
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.units import KIB, MIB

RECORD_BYTES = 64 * KIB
# The smallest sector; a line is shorter.
HEAD_BYTES = 512
# Heads in one request: 2 MiB of answers.
HEADS = 4096
READ_SECONDS = 120.0
# The two clocks run equally fast within this, for as long as a checkpoint lasts here.
CLOCK_SECONDS = 1.0
_LINE = re.compile(rb"hvps (\d{10}) (\d{10}) (\d{10})\n")


@dataclass(frozen=True, slots=True, order=True)
class GuestRecord:
    """One record. Later ones are greater.

    Attributes:
        hundredths: the guest's uptime when it made the record.
    """

    round: int
    number: int
    hundredths: int


def read_records(host: HyperVHost, disk: FrozenDisk) -> dict[int, GuestRecord]:
    """Records on a frozen disk, by their offset in bytes.

    Raises:
        HostError: the disk cannot be read.
    """
    found = {}
    for offset, head in _heads(host, disk):
        record = parse_record(head)
        if record is not None:
            found[offset] = record
    return found


def parse_record(head: bytes) -> GuestRecord | None:
    """The record that begins with these bytes; None if they are something else."""
    line = _LINE.match(head)
    return None if line is None else GuestRecord(*map(int, line.groups()))


def written_within(
    before: Mapping[int, GuestRecord], after: Mapping[int, GuestRecord], seconds: float
) -> tuple[Extent, ...]:
    """What the guest wrote within a time after a freeze, and did not write again before the next freeze.

    The newest record that the first freeze has was made before it. So one that the guest made at most
    ``seconds`` later was made at most ``seconds`` after the freeze, and the record before it was flushed by
    then. The first one after the freeze may have been begun before.

    Args:
        before: records of the first frozen disk.
        after: records of the second one.
    """
    if not before:
        return ()
    newest = max(before.values())
    until = newest.hundredths + round((seconds - CLOCK_SECONDS) * 100)
    within = sorted(
        (record, offset)
        for offset, record in after.items()
        if record > newest and newest.hundredths <= record.hundredths <= until
    )
    return tuple(Extent(offset, RECORD_BYTES) for _, offset in within[1:-1])


def _heads(host: HyperVHost, disk: FrozenDisk) -> Iterator[tuple[int, bytes]]:
    """The first bytes of each place of a record, with their offset; zeros are left out."""
    offsets = range(0, disk.size_bytes - RECORD_BYTES + 1, RECORD_BYTES)
    source = host.open_reader(disk.path)
    try:
        for number, first in enumerate(range(0, len(offsets), HEADS)):
            request = Request(
                number=number,
                extents=tuple(Extent(offset, HEAD_BYTES) for offset in offsets[first : first + HEADS]),
                chunk_bytes=RECORD_BYTES,
                block_bytes=1 * MIB,
            )
            source.send(request.pack())
            deadline, last = time.monotonic() + READ_SECONDS, False
            while not last:
                if time.monotonic() > deadline:
                    raise OperationTimedOut(host.name, "Read-HvpsExtent", READ_SECONDS)
                for data in source.receive(1.0):
                    block = decode_block(data)
                    last = block.last
                    for piece in block.pieces:
                        if piece.data is not None:
                            yield piece.extent.offset, bytes(piece.data)
    finally:
        source.close()
