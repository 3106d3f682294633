"""What the backup of one disk did, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from hvpsbridge.tasks.planning.modes import Mode, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFigures:
    """What the backup of one disk did. Sizes in bytes.

    Attributes:
        reason_text: reason and its figures in one line, for people.
        changed_bytes: as change tracking reported; what was read whole for a full or a compare.
        read_bytes: raw bytes taken from the frozen disk.
        wire_bytes: received for them, digests included.
        stored_bytes: added to the repository for this disk, as far as it can be told apart.
        proved_bytes: how much of the disk was proved equal to the frozen one before the commit.
        lied_chunks: chunks that tracking left out and the proof found; read and stored since.
        rate_bytes: raw bytes read a second; 0 when no time was taken.
    """

    slot: str
    size_bytes: int
    mode: Mode
    reason: Reason
    reason_text: str
    changed_bytes: int
    read_bytes: int
    wire_bytes: int
    stored_bytes: int
    new_chunks: int
    reread_chunks: int
    resumed: int
    proved_bytes: int
    lied_chunks: int
    seconds: float
    rate_bytes: float = field(init=False)

    def __post_init__(self) -> None:
        rate = self.read_bytes / self.seconds if self.seconds > 0 else 0.0
        object.__setattr__(self, "rate_bytes", round(rate, 1))
