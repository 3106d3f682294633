"""What a pump works with: a sink for blocks, a watcher that may stop it, and a tuner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.formats.wire import Block
from hvpsbridge.receiver.settings import ReadSettings


class BlockSink(Protocol):
    """Takes verified blocks. Called from several threads at the same time, for different windows."""

    def deliver(self, block: Block) -> None:
        """Take ``block``. The sink owns the pieces and their buffer."""
        ...


class Watcher(Protocol):
    """Watches a pump. Called from any of its threads."""

    def check(self) -> None:
        """Raise to stop the pump: cancelled, out of space, too old."""
        ...

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """Add raw bytes that were delivered and bytes that came over the wire. Never raises."""
        ...


class Tuner(Protocol):
    """Finds out by trials how to read. Used by one pump."""

    @property
    def settings(self) -> ReadSettings:
        """How to read when there is nothing more to try."""
        ...

    @property
    def trial_seconds(self) -> float:
        """How long a trial lasts from its first blocks on."""
        ...

    def trial(self) -> ReadSettings | None:
        """The settings to try next; None when it is decided."""
        ...

    def measured(self, data_bytes: int, seconds: float) -> None:
        """Record a finished trial: bytes that are not zero, and how long they took."""
        ...


@dataclass(frozen=True, slots=True)
class PumpStatistics:
    """Totals of a pump.

    Attributes:
        raw_bytes: bytes of the disk that were delivered.
        wire_bytes: bytes received for them.
        resumed: how often a lost source was replaced.
    """

    raw_bytes: int
    wire_bytes: int
    resumed: int
