"""Results of operations: one frozen dataclass per kind of object a script emits.

A field's PowerShell property is its name in PascalCase (``vm_id`` is ``VmId``). On the wire a field is
text, bool, int (uint64), an array of those, or a non-empty byte array; null where the annotation allows
None. Guids travel as text (lower case, no braces), times as ISO 8601 UTC text, enums as words; the
binder in ``host`` makes :class:`~uuid.UUID`, :class:`~datetime.datetime` and the enums below from them.
Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class VmState(StrEnum):
    """A VM's state, from ``VMState`` integers; all others are ``other`` (docs/hyperv-facts.md#vm-states)."""

    RUNNING = "running"
    OFF = "off"
    SAVED = "saved"
    PAUSED = "paused"
    STARTING = "starting"
    STOPPING = "stopping"
    SAVING = "saving"
    CRITICAL = "critical"
    OTHER = "other"


class ControllerType(StrEnum):
    """Kind of disk controller."""

    IDE = "ide"
    SCSI = "scsi"
    PMEM = "pmem"


class DiskFormat(StrEnum):
    """File format of a virtual disk; ``unknown`` when the file could not be asked."""

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
    """What a checkpoint is for; ``recovery`` is the backup kind."""

    STANDARD = "standard"
    RECOVERY = "recovery"
    PLANNED = "planned"
    REPLICA = "replica"
    OTHER = "other"


class Consistency(StrEnum):
    """What a checkpoint's content is worth: guest applications flushed, or as after a power cut."""

    APPLICATION = "application"
    CRASH = "crash"
    UNKNOWN = "unknown"


class ReferencePointKind(StrEnum):
    """``rct`` is change tracking's, ``log`` is Hyper-V Replica's."""

    RCT = "rct"
    LOG = "log"


class ReplicationMode(StrEnum):
    """A VM's part in Hyper-V Replica."""

    NONE = "none"
    PRIMARY = "primary"
    REPLICA = "replica"
    TEST_REPLICA = "test_replica"
    EXTENDED_REPLICA = "extended_replica"


class CheckpointPolicy(StrEnum):
    """The VM's ``CheckpointType`` setting."""

    DISABLED = "disabled"
    PRODUCTION = "production"
    PRODUCTION_ONLY = "production_only"
    STANDARD = "standard"


@dataclass(frozen=True, slots=True)
class HostInfo:
    """A host and the session's own process on it."""

    name: str
    fqdn: str | None
    os_version: str
    os_build: int
    powershell_version: str
    language_mode: str
    is_64bit: bool
    is_administrator: bool
    culture: str
    hyperv_module_version: str | None
    supported_vm_versions: tuple[str, ...]
    logical_processors: int
    memory_bytes: int
    cluster: str | None
    time: datetime
    boot_time: datetime
    process_id: int
    process_started: datetime


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM with the facts that decide whether it can be backed up.

    Attributes:
        operational_status: ``VMOperationalStatus`` integers; 32772 is MergingDisks
            (docs/hyperv-facts.md#operational-status).
        merge_enabled: false when disk merging is switched off for this VM
            (docs/hyperv-facts.md#export-disables-merging).
        commit_fork_events: how often event 3216 is in the Worker log for this VM
            (docs/hyperv-facts.md#commit-forks).
        uptime_seconds: 0 when off.
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
    shielded: bool
    tpm_enabled: bool
    merge_enabled: bool
    commit_fork_events: int
    configuration_path: str
    checkpoint_path: str
    uptime_seconds: int
    processor_count: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """A disk drive of a VM with the facts that decide whether it can be backed up.

    Attributes:
        instance_id: ``InstanceID`` of the VM's storage allocation; reference points name disks by it.
            None for an empty or pass-through drive.
        path: top of the chain; None for an empty drive.
        chain: files from the top down to the base, ``path`` first; empty when not readable.
        disk_id: VirtualDiskId of the file; disks cloned from a template share it.
        error: why the file could not be asked, else None.
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


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint of a VM.

    Attributes:
        name: its element name; ours carry the mark.
        disk_paths: frozen files, one per disk.
    """

    vm_id: UUID
    checkpoint_id: UUID
    name: str
    kind: CheckpointKind
    created: datetime
    parent_id: UUID | None
    disk_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrozenDisk:
    """A disk of a checkpoint, as read from its frozen handle.

    Attributes:
        path: frozen file; chain: that file and its parents.
        rct_id: ``MostRecentId`` of the frozen handle, None when tracking is off.
        newer_changes: the handle's ``NewerChanges``: writes happened after ``rct_id`` was sealed.
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


@dataclass(frozen=True, slots=True)
class ExtentPage:
    """Part of an answer about extents (changed or allocated).

    Attributes:
        offset_bytes: where this page starts.
        processed_bytes: how much of the disk it speaks about.
        extents: packed u64 pairs (``formats.extents``), None when there are none.
    """

    offset_bytes: int
    processed_bytes: int
    extents: bytes | None


@dataclass(frozen=True, slots=True)
class DigestPage:
    """SHA-256 of consecutive whole chunks of a frozen disk, 32 bytes each, from ``first_chunk`` on."""

    first_chunk: int
    digests: bytes


@dataclass(frozen=True, slots=True)
class BlockMessage:
    """One block of a reader pipeline (``formats.wire``)."""

    block: bytes


@dataclass(frozen=True, slots=True)
class ReaderState:
    """Readers of this host process after a close: what is still attached."""

    open_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Part of a configuration file; a file's pieces come in order.

    Attributes:
        name: file name without folder.
        size_bytes: whole file.
        sha256: of ``data``, lower-case hex.
        data: None only for an empty file.
    """

    path: str
    name: str
    size_bytes: int
    offset_bytes: int
    sha256: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class VmDefinition:
    """Everything needed to build the VM anew, as JSON text (docs/hyperv-facts.md#vm-definition)."""

    vm_id: UUID
    json: str


@dataclass(frozen=True, slots=True)
class ReferencePointInfo:
    """A reference point; the two arrays are parallel. ``rct_ids`` are opaque text."""

    vm_id: UUID
    instance_id: str
    kind: ReferencePointKind
    consistency: Consistency
    disk_instance_ids: tuple[str, ...]
    rct_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal found; ``removed`` is false when there was nothing left to remove."""

    removed: bool


@dataclass(frozen=True, slots=True)
class MergeState:
    """Whether disks of a VM are still merging, and every file its disks' chains use now.

    Attributes:
        merging: an operational status of creating, deleting or merging (32768, 32770, 32772, 32776).
        chain_paths: all files of all chains of the VM, as ``Get-VHD`` walks them.
    """

    vm_id: UUID
    merging: bool
    operational_status: tuple[int, ...]
    chain_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """Space on a volume that holds files of a VM."""

    root: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """An unfinished WMI job that affects a VM. ``state`` is its ``JobState`` (docs/hyperv-facts.md#jobs)."""

    vm_id: UUID
    instance_id: str
    job_type: int
    state: int
    percent: int
    description: str


@dataclass(frozen=True, slots=True)
class ReaderCheck:
    """That the reader's C# compiled and its native library answers; a dry run's last question."""

    compiled: bool
    seconds: float
