"""What is known of a frozen disk's change tracking, from the handles that were asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hvpsbridge.contract.results import DiskTracking, FrozenDisk


@dataclass(frozen=True, slots=True)
class Tracking:
    """Change tracking of a frozen disk.

    Attributes:
        rct_id: the newest id; None if tracking is off, or no handle reports on it.
        enabled: whether tracking is on, even if no id is shown.
        refusal: the Windows codes of the handles that do not, for people; empty if one does.
    """

    rct_id: str | None
    refusal: str = ""
    enabled: bool = False


def tracking_of(reading: DiskTracking, listed: FrozenDisk) -> Tracking:
    """What the handle that reads the disk reports; what a handle for information reported if it does not.

    Which handles answer is not documented (docs/hyperv-facts.md#tracking-handle).
    """
    for state in (reading, listed):
        if not state.tracking_code:
            enabled = state.tracking_enabled
            return Tracking(state.rct_id if enabled else None, enabled=enabled)
    codes = dict.fromkeys(f"0x{state.tracking_code:08X}" for state in (reading, listed))
    return Tracking(None, f"the host does not report on tracking: {' and '.join(codes)}")
