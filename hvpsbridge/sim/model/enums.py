"""Enums of the simulated world. Integers are Hyper-V's own (docs/hyperv-facts.md#vm-states and others)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class VMState(IntEnum):
    """``Microsoft.HyperV.PowerShell.VMState``."""

    Other = 1
    Running = 2
    Off = 3
    Stopping = 4
    Saved = 6
    Paused = 9
    Starting = 10
    Reset = 11
    Saving = 32773
    Pausing = 32776
    Resuming = 32777
    RunningCritical = 32785
    OffCritical = 32786
    PausedCritical = 32789


class Operational(IntEnum):
    """``VMOperationalStatus`` values that the model uses."""

    Ok = 2
    CreatingSnapshot = 32768
    DeletingSnapshot = 32770
    MergingDisks = 32772
    MigratingVirtualMachine = 32774
    BackingUpVirtualMachine = 32776
    CriticalIoError = 32795


class ControllerType(IntEnum):
    """``ControllerType`` of a disk drive."""

    IDE = 0
    SCSI = 1
    PMEM = 2


class VhdFormat(IntEnum):
    """``Microsoft.Vhd.PowerShell.VhdFormat``."""

    Unknown = 0
    VHD = 2
    VHDX = 3
    VHDSet = 4


class VhdType(IntEnum):
    """``Microsoft.Vhd.PowerShell.VhdType``."""

    Unknown = 0
    Fixed = 2
    Dynamic = 3
    Differencing = 4


class SnapshotType(IntEnum):
    """``Microsoft.HyperV.PowerShell.SnapshotType``."""

    Standard = 0
    Recovery = 1
    Planned = 2
    Missing = 5
    Replica = 6
    AppConsistentReplica = 7
    SyncedReplica = 8


class CheckpointType(IntEnum):
    """``CheckpointType`` of a VM."""

    Disabled = 2
    Production = 3
    ProductionOnly = 4
    Standard = 5


class ReplicationMode(IntEnum):
    """``VMReplicationMode``."""

    None_ = 0
    Primary = 1
    Replica = 2
    TestReplica = 3
    ExtendedReplica = 4


class Consistency(IntEnum):
    """``ConsistencyLevel`` of checkpoints and reference points."""

    Unknown = 0
    Application = 1
    Crash = 2


class JobState(IntEnum):
    """``Msvm_ConcreteJob.JobState`` (docs/hyperv-facts.md#jobs)."""

    New = 2
    Starting = 3
    Running = 4
    Completed = 7
    Terminated = 8
    Exception = 10
    CompletedWithWarnings = 32768


class JobKind(IntEnum):
    """``Msvm_ConcreteJob.JobType``. The numbers of conversion and removal are this model's choice."""

    MergeDisks = 50
    CreateCheckpoint = 70
    ApplyCheckpoint = 71
    RemoveCheckpoint = 72
    ConvertCheckpoint = 90
    RemoveReferencePoint = 91


class MergePhase(StrEnum):
    """Phase of a merge that is not complete."""

    RUNNING = "running"
    FAILED = "failed"
