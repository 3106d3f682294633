"""Parameters and error ids that several operations have."""

from __future__ import annotations

from hvpsbridge.contract.operation import Parameter

VM = Parameter("VmId", "guid", "id of the VM")
CHECKPOINT = Parameter("CheckpointId", "guid", "id of a checkpoint of that VM")
PATH = Parameter("Path", "string", "file on the host")

DISK_ERRORS = ("Hvps.FileNotFound", "Hvps.DiskBusy", "Hvps.DiskUnreadable", "Hvps.ChainBroken")
JOB_ERRORS = (
    "Hvps.JobFailed",
    "Hvps.JobBusy",
    "Hvps.JobTimedOut",
    "Hvps.FileLocked",
    "Hvps.CommitForkFailed",
)
