"""Results of operations: a frozen dataclass for each kind of object that a script emits.

The PowerShell property of a field is its name in PascalCase (``VmId`` for ``vm_id``). On the wire a field is
text, bool, int (uint64), an array of those, or a non-empty byte array; null where the annotation allows None.
Guids are text (lower case, no braces), times are ISO 8601 UTC text, enums are words; ``host.binding``
converts them. Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class VmState(StrEnum):
    """State of a VM, from ``VMState`` integers; ``other`` for all others (docs/hyperv-facts.md#vm-states)."""

    RUNNING = "running"
    OFF = "off"
    SAVED = "saved"
    PAUSED = "paused"
    STARTING = "starting"
    STOPPING = "stopping"
    SAVING = "saving"
    PAUSING = "pausing"
    RESUMING = "resuming"
    RESETTING = "resetting"
    SERVICING = "servicing"
    CRITICAL = "critical"
    OTHER = "other"


class ControllerType(StrEnum):
    """Kind of disk controller."""

    IDE = "ide"
    SCSI = "scsi"
    PMEM = "pmem"


class DiskFormat(StrEnum):
    """File format of a virtual disk; ``unknown`` if the file could not be queried."""

    VHD = "vhd"
    VHDX = "vhdx"
    VHDSET = "vhdset"
    UNKNOWN = "unknown"


class DiskKind(StrEnum):
    """Layout of a virtual disk."""

    FIXED = "fixed"
    DYNAMIC = "dynamic"
    DIFFERENCING = "differencing"
    UNKNOWN = "unknown"


class CheckpointKind(StrEnum):
    """Kind of a checkpoint; ``recovery`` is the kind for backups."""

    STANDARD = "standard"
    RECOVERY = "recovery"
    PLANNED = "planned"
    REPLICA = "replica"
    OTHER = "other"


class Consistency(StrEnum):
    """Consistency of a checkpoint: guest applications flushed their data, or as after a power cut."""

    APPLICATION = "application"
    CRASH = "crash"
    UNKNOWN = "unknown"


class ReferencePointKind(StrEnum):
    """``rct`` is for change tracking, ``log`` for Hyper-V Replica."""

    RCT = "rct"
    LOG = "log"


class ReplicationMode(StrEnum):
    """Role of a VM in Hyper-V Replica."""

    NONE = "none"
    PRIMARY = "primary"
    REPLICA = "replica"
    TEST_REPLICA = "test_replica"
    EXTENDED_REPLICA = "extended_replica"


class CheckpointPolicy(StrEnum):
    """The VM's ``CheckpointType`` setting; ``unknown`` for numbers that hvps does not know."""

    DISABLED = "disabled"
    PRODUCTION = "production"
    PRODUCTION_ONLY = "production_only"
    STANDARD = "standard"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """A host, and the process of the session on it.

    Attributes:
        os_revision: revision of the build (UBR), which grows with each update; None if it cannot be read
            (docs/hyperv-facts.md#os-revision).
        machine_id: SMBIOS UUID; None if the machine reports none. Two machines can have the same
            (docs/hyperv-facts.md#machine-id).
        secure_boot_templates: names; empty if the host does not list them.
    """

    name: str
    fqdn: str | None
    machine_id: UUID | None
    os_version: str
    os_build: int
    os_revision: int | None
    powershell_version: str
    language_mode: str
    is_64bit: bool
    is_administrator: bool
    culture: str
    hyperv_module_version: str | None
    supported_vm_versions: tuple[str, ...]
    secure_boot_templates: tuple[str, ...]
    logical_processors: int
    memory_bytes: int
    cluster: str | None
    time: datetime
    boot_time: datetime
    process_id: int
    process_started: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VmInfo:
    """A VM, with what decides whether it can be backed up.

    Attributes:
        operational_status: ``VMOperationalStatus`` integers; 32772 is MergingDisks
            (docs/hyperv-facts.md#operational-status).
        shielded: whether its disks are encrypted on the host; None if that is unknown, like tpm_enabled.
        merge_enabled: false if disk merging is disabled for this VM; None if that is unknown
            (docs/hyperv-facts.md#export-disables-merging).
        commit_fork_events: how many events 3216 of this VM are in the Worker log since the VM was started;
            None if the log was not or could not be read (docs/hyperv-facts.md#commit-forks).
        last_commit_fork: time of the newest of them.
        uptime_seconds: 0 if it is off.
        settings_error: which of its settings could not be read; these have defaults.
    """

    vm_id: UUID
    name: str
    state: VmState
    operational_status: tuple[int, ...]
    generation: int
    version: str
    checkpoint_policy: CheckpointPolicy
    automatic_checkpoints: bool
    parent_checkpoint_id: UUID | None
    replication_mode: ReplicationMode
    is_clustered: bool
    shielded: bool | None
    tpm_enabled: bool | None
    merge_enabled: bool | None
    commit_fork_events: int | None
    last_commit_fork: datetime | None
    configuration_path: str
    checkpoint_path: str
    uptime_seconds: int
    processor_count: int
    memory_bytes: int
    settings_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInfo:
    """A disk drive of a VM, with what decides whether it can be backed up.

    Attributes:
        instance_id: ``InstanceID`` of the storage allocation, by which reference points identify disks; None
        for
            an empty or pass-through drive.
        path: top of the chain; None for an empty drive.
        chain: files from the top to the base, ``path`` first; empty if not readable.
        disk_id: VirtualDiskId of the file; disks cloned from a template have the same.
        error: why the file could not be queried, or None.
    """

    vm_id: UUID
    instance_id: str | None
    controller_type: ControllerType
    controller_number: int
    controller_location: int
    path: str | None
    chain: tuple[str, ...]
    pass_through: bool
    shared: bool
    format: DiskFormat
    kind: DiskKind
    size_bytes: int
    file_bytes: int
    logical_sector_bytes: int
    physical_sector_bytes: int
    block_bytes: int
    disk_id: UUID | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint of a VM.

    Attributes:
        name: its element name; those of hvps have a mark.
        disk_paths: frozen files, one per disk.
        name_error: why the host did not give a new one the name that was asked for; else None.
    """

    vm_id: UUID
    checkpoint_id: UUID
    name: str
    kind: CheckpointKind
    created: datetime
    parent_id: UUID | None
    disk_paths: tuple[str, ...]
    name_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenDisk:
    """A disk of a checkpoint.

    Attributes:
        path: the frozen file.
        chain: the frozen file and its parents.
        tracking_enabled: change tracking is on, as a handle for information reports it. :class:`DiskTracking`
            has the same from the handle that reads the disk, which counts for more.
        newer_changes: ``NewerChanges`` of that handle: there were writes after ``rct_id``.
        rct_id: its ``MostRecentId``; None if tracking is off.
        tracking_code: Windows's code if that handle does not report on tracking; else 0.
    """

    vm_id: UUID
    checkpoint_id: UUID
    controller_type: ControllerType
    controller_number: int
    controller_location: int
    path: str
    chain: tuple[str, ...]
    size_bytes: int
    logical_sector_bytes: int
    disk_id: UUID | None
    tracking_enabled: bool
    newer_changes: bool
    rct_id: str | None
    tracking_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTracking:
    """Size and change tracking of a frozen disk, as the handle that reads it reports them.

    Attributes:
        newer_changes: there were writes after ``rct_id``.
        rct_id: ``MostRecentId``; None if tracking is off.
        tracking_code: Windows's code if the handle does not report on tracking; else 0.
    """

    size_bytes: int
    logical_sector_bytes: int
    tracking_enabled: bool
    newer_changes: bool
    rct_id: str | None
    tracking_code: int


@dataclass(frozen=True, slots=True)
class VmDefinition:
    """Everything needed to create the VM again, as JSON text (docs/hyperv-facts.md#vm-definition)."""

    vm_id: UUID
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePointInfo:
    """A reference point.

    The two arrays are parallel if they are of one length; otherwise it is unknown which id belongs to which
    disk (docs/hyperv-facts.md#reference-point-ids). ``rct_ids`` are opaque.
    """

    vm_id: UUID
    instance_id: str
    kind: ReferencePointKind
    consistency: Consistency
    disk_instance_ids: tuple[str, ...]
    rct_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """Result of a removal; ``removed`` is false if the object did not exist."""

    removed: bool


@dataclass(frozen=True, slots=True)
class MergeState:
    """Whether disks of a VM are merging, and every file that its chains use.

    Attributes:
        merging: whether an operational status says that its disks may change (32768, 32769, 23769, 32770,
            32772, 32776).
        chain_paths: all files of all chains of the VM, as ``Get-VHD`` finds them.
        unread_paths: files of drives whose chain cannot be read now, such as those that a merge is switching.
    """

    vm_id: UUID
    merging: bool
    operational_status: tuple[int, ...]
    chain_paths: tuple[str, ...]
    unread_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """Space on a volume that has files of a VM."""

    root: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """An unfinished WMI job that affects a VM. ``state`` is its ``JobState`` (docs/hyperv-facts.md#jobs)."""

    vm_id: UUID
    instance_id: str
    job_type: int
    state: int
    percent: int
    description: str
