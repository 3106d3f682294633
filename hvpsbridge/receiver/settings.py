"""Settings and limits of a pump."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hvpsbridge.units import KIB, MIB

# Raw bytes of a block. .NET keeps objects of 85,000 bytes and more in a heap that only full collections
# clean, so larger blocks cost memory on the host and gain nothing (docs/performance.md).
BLOCK_BYTES = 64 * KIB
# Raw bytes of one request. With a credit of two this bounds what a host buffers for a slow receiver
# (docs/hyperv-facts.md#slow-client), and keeps several readers within 256 MiB here.
WINDOW_BYTES = 4 * MIB
# Requests that a source may have unanswered: one is read while the other is on its way.
CREDIT = 2
# The smallest window under a rate limit; smaller ones would cost the host too many requests.
SMALLEST_WINDOW_BYTES = 64 * KIB
# Bytes on the wire per raw byte: base64 twice, and XML (docs/hyperv-facts.md#wire-factor).
WIRE_FACTOR = 1.8


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How one disk is read.

    Attributes:
        pipelines: parallel reader pipelines, all in the disk's one process on the host.
        deflate: whether the host may compress blocks that get smaller.
        block_bytes: raw bytes of one block.
        window_bytes: raw bytes of one request; each pipeline keeps two of them requested.
    """

    pipelines: int = 1
    deflate: bool = True
    block_bytes: int = BLOCK_BYTES
    window_bytes: int = WINDOW_BYTES

    def within(self, burst_bytes: int | None) -> ReadSettings:
        """These settings with windows so small that at most ``burst_bytes`` are requested on the wire.

        What is requested cannot be held back, so a rate limit can be exceeded by this much. None is no limit.
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
        resume_seconds: give up at a failure that comes later than this after the first one since the last new
            block. Losses are not counted, since a host that reboots refuses some connections at once and lets
            others time out. Ten minutes are enough for most reboots, and no checkpoint grows for much longer
            when a host does not come back.
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
