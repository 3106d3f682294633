"""The guest of the conformance kit: it writes numbered records, one after the other.

As ``tools/conformance/linux/write-pattern`` does, on a simulated disk and one record at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from hvpsbridge.units import KIB

RECORD_BYTES = 64 * KIB


class PatternWriter:
    """Writes records over a disk, round after round.

    Args:
        write: the guest's write of bytes at an offset.
        start_bytes: where the first record of a round is.
        records: how many a round has.
    """

    def __init__(self, write: Callable[[int, bytes], None], *, start_bytes: int = 0, records: int) -> None:
        self._write = write
        self._start_bytes = start_bytes
        self._records = records
        self._next = 0

    def write_record(self, uptime_seconds: float) -> None:
        """Write the next record, flushed.

        Args:
            uptime_seconds: of the guest.
        """
        number, record = divmod(self._next, self._records)
        self._next += 1
        line = b"hvps %010d %010d %010d\n" % (number + 1, record, int(uptime_seconds * 100))
        data = line * (RECORD_BYTES // len(line) + 1)
        self._write(self._start_bytes + record * RECORD_BYTES, data[:RECORD_BYTES])
