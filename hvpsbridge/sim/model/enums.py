"""Enums of the simulated world. Integers are Hyper-V's own (docs/hyperv-facts.md#vm-states and others)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class VMState(IntEnum):
    """``Microsoft.HyperV.PowerShell.VMState`` (docs/hyperv-facts.md#vm-states)."""

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
    FastSaved = 32779
    FastSaving = 32780
    ForceShutdown = 32781
    ForceReboot = 32782
    Hibernated = 32783
    ComponentServicing = 32784
    RunningCritical = 32785
    OffCritical = 32786
    StoppingCritical = 32787
    SavedCritical = 32788
    PausedCritical = 32789
    StartingCritical = 32790
    ResetCritical = 32791
    SavingCritical = 32792
    PausingCritical = 32793
    ResumingCritical = 32794
    FastSavedCritical = 32795
    FastSavingCritical = 32796


class Operational(IntEnum):
    """``VMOperationalStatus`` (docs/hyperv-facts.md#operational-status).

    Windows documents 32769 for ApplyingSnapshot; the PowerShell module has 23769.
    """

    Ok = 2
    Degraded = 3
    PredictiveFailure = 5
    Stopped = 10
    InService = 11
    Dormant = 15
    SupportingEntityInError = 16
    ApplyingSnapshotOfModule = 23769
    CreatingSnapshot = 32768
    ApplyingSnapshot = 32769
    DeletingSnapshot = 32770
    WaitingToStart = 32771
    MergingDisks = 32772
    ExportingVirtualMachine = 32773
    MigratingVirtualMachine = 32774
    BackingUpVirtualMachine = 32776
    ModifyingUpVirtualMachine = 32777
    StorageMigrationPhaseOne = 32778
    StorageMigrationPhaseTwo = 32779
    MigratingPlannedVm = 32780
    CheckingCompatibility = 32781
    ApplicationCriticalState = 32782
    CommunicationTimedOut = 32783
    CommunicationFailed = 32784
    NoIommu = 32785
    NoIovSupportInNic = 32786
    SwitchNotInIovMode = 32787
    IovBlockedByPolicy = 32788
    IovNoAvailResources = 32789
    IovGuestDriversNeeded = 32790
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
    """``CheckpointType`` of a VM; ``Unlisted`` is for one that a later Windows may add."""

    Disabled = 2
    Production = 3
    ProductionOnly = 4
    Standard = 5
    Unlisted = 6


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
    """``Msvm_ConcreteJob.JobType``. The last number is this model's choice, for it is not documented."""

    MergeDisks = 50
    CreateCheckpoint = 70
    ApplyCheckpoint = 71
    RemoveCheckpoint = 72
    ConvertCheckpoint = 200
    RemoveReferencePoint = 202
    ModifySettings = 2
    DestroySystem = 3
    ModifyResources = 31
    RemoveResources = 32
    ImportDefinition = 61
    ValidatePlanned = 140
    RealizePlanned = 141
    GetDiskChanges = 60000


class ResourceState(IntEnum):
    """``ClusterResourceState`` of the module FailoverClusters (docs/hyperv-facts.md#cluster-resources)."""

    Online = 2
    Offline = 3
    Failed = 4
    OnlinePending = 129
    OfflinePending = 130


class MergePhase(StrEnum):
    """Phase of a merge that is not complete."""

    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
