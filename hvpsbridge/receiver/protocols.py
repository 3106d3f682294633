"""On what terms a pump works: who takes what it brings, who may stop it, who tunes it, what it bears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.formats.wire import Block
from hvpsbridge.receiver.settings import ReadSettings


class BlockSink(Protocol):
    """Takes verified blocks; called from several threads at once, for different windows."""

    def deliver(self, block: Block) -> None:
        """Take ``block``. Its pieces may be kept; nobody else uses their buffer."""
        ...


class Watcher(Protocol):
    """Looks on while a pump works. May be called from any of its threads."""

    def check(self) -> None:
        """Raise to stop the pump: cancelled, out of space, too old."""
        ...

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """``raw_bytes`` more of what was owed are stored, ``wire_bytes`` more came over the wire."""
        ...


class Tuner(Protocol):
    """Decides how to read by what trials bring; used by one pump."""

    @property
    def settings(self) -> ReadSettings:
        """How to read when there is nothing (more) to try."""
        ...

    @property
    def trial_seconds(self) -> float:
        """How long a trial reads, from its first block on."""
        ...

    def trial(self) -> ReadSettings | None:
        """What to try next; None when it is decided."""
        ...

    def measured(self, data_bytes: int, seconds: float) -> None:
        """The trial brought so many bytes that are not zero, in so long, and came to its end."""
        ...


@dataclass(frozen=True, slots=True)
class PumpStatistics:
    """What a pump moved: bytes asked for, bytes on the wire, and how often a source was replaced."""

    raw_bytes: int
    wire_bytes: int
    resumed: int
