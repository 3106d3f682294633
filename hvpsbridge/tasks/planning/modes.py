"""How a disk is backed up, and why."""

from __future__ import annotations

from enum import Enum, StrEnum


class Mode(StrEnum):
    """How a disk is backed up."""

    FULL = "full"
    INCREMENTAL = "incremental"
    COMPARE = "compare"


class Reason(Enum):
    """Why a disk has its mode: the word in manifests, the text for people, and whether it is expected.

    hvps warns about unexpected reasons.
    """

    word: str
    text: str
    expected: bool

    TRACKED = ("tracked", "change tracking reports what changed since the last point", True)
    FIRST_BACKUP = ("first_backup", "no point of this VM yet", True)
    NEW_DISK = ("new_disk", "no point has this disk yet", True)
    WAS_LEFT_OUT = ("was_left_out", "the last point was made without this disk", True)
    ASKED = ("asked", "force_compare is set", True)
    NOT_TRACKED = ("not_tracked", "only VHDX files have change tracking", True)
    OLD_VM = ("old_vm", "the VM's configuration version has no change tracking", True)
    DUPLICATE_ID = ("duplicate_id", "another disk of the VM has the same VirtualDiskId", True)
    EMPTY_ANSWER = (
        "empty_answer",
        "change tracking reported no changes, so the disk is compared to make sure",
        True,
    )
    CHECKPOINTS_CHANGED = (
        "checkpoints_changed",
        "checkpoints of the VM were made, applied or removed since the last point",
        True,
    )
    RESTORED = ("restored", "the disk was restored since, so it is compared with the restored point", True)
    DISTRUSTED = ("distrusted", "change tracking of this disk was wrong recently", True)
    DISK_REPLACED = ("disk_replaced", "the slot has another disk than in the last point", False)
    DISK_MOVED = ("disk_moved", "the disk was at another slot in the last point", False)
    NO_DISK_ID = ("no_disk_id", "the VirtualDiskId of the disk cannot be read", False)
    SIZE_CHANGED = ("size_changed", "the disk was resized", False)
    SECTOR_CHANGED = ("sector_changed", "the sector size of the disk changed", False)
    CHAIN_CHANGED = ("chain_changed", "the disk has other files than in the last point", False)
    IDS_UNPROVED = (
        "ids_unproved",
        "the reference point has another RCT id than the frozen disk had, and was not proved to miss nothing",
        False,
    )
    IDS_LATE = (
        "ids_late",
        "the reference point's RCT id is later than its checkpoint: changes in between would be missed",
        False,
    )
    IDS_MISSING = ("ids_missing", "the last point has no usable RCT ids", False)
    REFERENCE_POINT_GONE = (
        "reference_point_gone",
        "the reference point of the last point was destroyed",
        False,
    )
    TRACKING_OFF = ("tracking_off", "change tracking is switched off for the disk", False)
    TRACKING_UNUSABLE = ("tracking_unusable", "change tracking cannot answer for the last point", False)
    TRACKING_LIED = ("tracking_lied", "a digest from the host contradicted change tracking", False)
    BASE_DAMAGED = ("base_damaged", "the disk's tree in the repository cannot be read", False)

    def __init__(self, word: str, text: str, expected: bool) -> None:
        self.word = word
        self.text = text
        self.expected = expected
