"""The steps of one backup, in order. Tests of crashes take the places to strike from this enumeration."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """A step, with the row of the table in ``docs/guarantees.md`` it belongs to and what it does.

    They run in the order they stand here. Between two of them a process may die; what that leaves on the
    host and in the repository, and how the next run settles it, is what the rows say.
    """

    row: int
    text: str

    RESOLVE = (1, "find the VM, read what makes it eligible, take the lease")
    SETTLE = (2, "settle what earlier runs left")
    PLAN = (3, "decide per disk: incremental, compare or full")
    INTEND_CHECKPOINT = (4, "write down that a checkpoint will be made")
    MAKE_CHECKPOINT = (4, "make the recovery checkpoint")
    RECORD_CHECKPOINT = (4, "write down the checkpoint's id")
    CHECK_FROZEN = (4, "see that the frozen disks are the planned ones")
    READ = (5, "pull what changed and store it")
    CONFIGURATION = (6, "store configuration files and the definition")
    PROVE = (7, "prove the disks against the frozen ones")
    COMMIT = (8, "make the recovery point durable")
    CLOSE_READERS = (9, "close the readers and see them closed")
    INTEND_CONVERSION = (9, "write down that the checkpoint will be converted")
    CONVERT = (9, "convert the checkpoint to a reference point")
    RECORD_REFERENCE_POINT = (9, "write down the reference point's id")
    PUBLISH_IDS = (9, "hold the ids against the manifest and publish them")
    RETIRE = (10, "destroy our older reference points")
    MERGE = (10, "see our child gone from every chain")
    CHECK_CLEAN = (10, "see that the host is clean")

    def __init__(self, row: int, text: str) -> None:
        self.row = row
        self.text = text

    @property
    def label(self) -> str:
        """Its name in reports: ``make checkpoint``."""
        return self.name.lower().replace("_", " ")
