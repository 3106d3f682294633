"""How a pump reads: the figures that a host, a link and a disk decide between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hvpsbridge.units import KIB, MIB

# Raw bytes of a block. .NET keeps objects from 85,000 bytes on in the heap that only full collections clean:
# larger blocks cost the host memory and bring nothing (docs/performance.md).
BLOCK_BYTES = 64 * KIB
# Raw bytes of one request. With a credit of two this bounds what a host buffers for a slow receiver
# (reference, transport: windows of 4 to 16 MiB); the smaller end keeps several readers within 256 MiB.
WINDOW_BYTES = 4 * MIB
# Requests a source may have unanswered: one being read while the other travels.
CREDIT = 2
# Where little may be under way: below this the host is asked more often than is good for it.
SMALLEST_WINDOW_BYTES = 64 * KIB
# Bytes on the wire for a raw one: base64 twice, and XML (docs/hyperv-facts.md#wire-factor).
WIRE_FACTOR = 1.8


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How one disk is read.

    Attributes:
        pipelines: reader pipelines at once, all in the disk's one process on the host.
        deflate: whether the host may deflate blocks where a sample pays.
        block_bytes: raw bytes of one answering block.
        window_bytes: raw bytes of one request; each pipeline keeps two of them asked for.
    """

    pipelines: int = 1
    deflate: bool = True
    block_bytes: int = BLOCK_BYTES
    window_bytes: int = WINDOW_BYTES

    def within(self, burst_bytes: int | None) -> ReadSettings:
        """These settings with windows so small that no more than ``burst_bytes`` are under way on the wire.

        What was asked for cannot be held back, so this is what a rate is passed by at most. None is no bound.
        """
        if burst_bytes is None:
            return self
        share = int(burst_bytes / WIRE_FACTOR) // (CREDIT * self.pipelines)
        window_bytes = max(min(self.window_bytes, share), SMALLEST_WINDOW_BYTES)
        return replace(self, window_bytes=window_bytes, block_bytes=min(self.block_bytes, window_bytes))


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long a pump keeps trying while the host does not deliver.

    Attributes:
        resume_seconds: give up after this long without a single new block.
        stall_seconds: replace a source that has been silent for this long; less than the 120 s after
            which the host's watchdog closes the disk.
        first_pause_seconds: pause before the first new source; doubles up to ``longest_pause_seconds``.
        longest_pause_seconds: upper bound of a pause.
        violations: give up at this many unusable blocks in a row.
    """

    resume_seconds: float = 600.0
    stall_seconds: float = 90.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    violations: int = 4
