"""The steps of one backup, in order. The crash tests are generated from this enumeration."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """A step, with its row in the table of ``docs/guarantees.md`` and what it does.

    Steps run in this order. The process may die between any two of them; the rows say what that leaves on
    the host and in the repository, and how the next run cleans it up.
    """

    row: int
    text: str

    RESOLVE = (1, "find the VM, check that it can be backed up, take the lease")
    SETTLE = (2, "clean up after earlier runs")
    PLAN = (3, "decide for each disk: incremental, compare or full")
    INTEND_CHECKPOINT = (4, "record that a checkpoint will be created")
    MAKE_CHECKPOINT = (4, "create the recovery checkpoint")
    RECORD_CHECKPOINT = (4, "record the checkpoint's id")
    CHECK_FROZEN = (4, "check that the frozen disks are the planned ones")
    READ = (5, "read and store what changed")
    CONFIGURATION = (6, "store configuration files")
    PROVE = (7, "compare the stored disks with the frozen ones")
    COMMIT = (8, "make the recovery point durable")
    CLOSE_READERS = (9, "close the readers")
    INTEND_CONVERSION = (9, "record that the checkpoint will be converted")
    CONVERT = (9, "convert the checkpoint to a reference point")
    RECORD_REFERENCE_POINT = (9, "record the reference point's id")
    PUBLISH_IDS = (9, "check the ids against the manifest and publish them")
    RETIRE = (10, "destroy older reference points")
    MERGE = (10, "wait for the merge")
    CHECK_CLEAN = (10, "check that the host is clean")

    def __init__(self, row: int, text: str) -> None:
        self.row = row
        self.text = text

    @property
    def label(self) -> str:
        """Its name in reports: ``make checkpoint``."""
        return self.name.lower().replace("_", " ")
