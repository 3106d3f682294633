"""Records of the simulated world: nodes, VMs, checkpoints, reference points, jobs; ``stored`` has the files.

Mutable and without behaviour. They refer to one another by id, so that ``store`` can save the world. Integers
of enums are Hyper-V's own (docs/hyperv-facts.md#vm-states, docs/hyperv-facts.md#jobs).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

from hvpsbridge.sim.model.enums import (
    CheckpointType,
    Consistency,
    ControllerType,
    JobKind,
    JobState,
    MergePhase,
    Operational,
    ReplicationMode,
    ResourceState,
    SnapshotType,
    VhdFormat,
    VhdType,
    VMState,
)
from hvpsbridge.sim.model.stored import HostFile, HostFolder, Layer, Volume


@dataclass(slots=True, kw_only=True)
class Node:
    """A Hyper-V host. ``booted`` is a time of the model's clock, as all times here.

    Attributes:
        has_guardian: whether it has the certificates of the guardian that made key protectors of VMs.
    """

    name: str
    fqdn: str | None
    booted: float
    os_version: str = "10.0.20348"
    os_build: int = 20348
    os_revision: int | None = 2700
    supported_vm_versions: tuple[str, ...] = ("8.0", "9.0", "10.0")
    logical_processors: int = 16
    memory_bytes: int = 137438953472
    cluster: str | None = None
    alive: bool = True
    machine_id: UUID | None = field(default_factory=uuid4)
    switches: tuple[str, ...] = ("External",)
    secure_boot_templates: tuple[str, ...] = (
        "MicrosoftWindows",
        "MicrosoftUEFICertificateAuthority",
        "OpenSourceShieldedVM",
    )
    has_guardian: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """Slot of a disk: controller type, number and location."""

    controller_type: ControllerType
    controller_number: int
    controller_location: int

    def __str__(self) -> str:
        return f"{self.controller_type.name.lower()}{self.controller_number}:{self.controller_location}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A slot from text such as ``scsi0:1``.

        Raises:
            ValueError: the text names no slot.
        """
        head, _, location = text.partition(":")
        kind, number = head.rstrip("0123456789"), head[len(head.rstrip("0123456789")) :]
        try:
            return cls(ControllerType[kind.upper()], int(number), int(location))
        except (KeyError, ValueError):
            raise ValueError(f"{text!r} is not a disk slot; use for example scsi0:0 or ide0:1") from None


@dataclass(slots=True)
class Drive:
    """A disk drive of a VM. ``layer`` is None for an empty or a pass-through drive."""

    slot: Slot
    layer: int | None
    pass_through_number: int | None = None
    shared: bool = False


@dataclass(slots=True, kw_only=True)
class Vm:
    """A virtual machine.

    Attributes:
        primary_status: first value of ``OperationalStatus``.
        second_status: its second value when nothing happens; 0 for none.
        unreadable: some of its members fail when they are read, as if its storage were offline.
        started: when it was started or restored; None if it has no worker process.
        hardware: what cmdlets have set, by part (``memory``) and member; ``adapters`` is a list.
    """

    vm_id: UUID
    name: str
    node: str
    created: float
    state: VMState = VMState.Running
    started: float | None = None
    generation: int = 2
    version: str = "10.0"
    folder: str = ""
    checkpoint_type: CheckpointType = CheckpointType.Production
    automatic_checkpoints: bool = False
    replication_mode: ReplicationMode = ReplicationMode.None_
    clustered: bool = False
    shielded: bool = False
    tpm_enabled: bool = False
    merge_enabled: bool = True
    guest_backup: bool = True
    commit_fork_events: int = 0
    processor_count: int = 2
    memory_bytes: int = 4294967296
    notes: str = ""
    primary_status: int = int(Operational.Ok)
    second_status: int = 0
    unreadable: bool = False
    parent_checkpoint: UUID | None = None
    migrating_until: float | None = None
    migrating_to: str | None = None
    revision: int = 0
    drives: dict[str, Drive] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)

    def instance_id(self, slot: Slot, owner: UUID | None = None) -> str:
        """``InstanceID`` of a disk's storage allocation, in the settings of the VM or of a checkpoint."""
        controller = uuid5(self.vm_id, f"{slot.controller_type.name}{slot.controller_number}")
        settings = str(owner or self.vm_id).upper()
        return f"Microsoft:{settings}\\{str(controller).upper()}\\0\\{slot.controller_location}\\L"


@dataclass(slots=True, kw_only=True)
class PlannedVm:
    """A planned VM, which no cmdlet lists.

    Attributes:
        settings: as the configuration file has them (:mod:`configuration`).
        folder: where the VM will be; empty for what the configuration says.
        disconnected: indexes of adapters whose connection is disabled.
    """

    vm_id: UUID
    node: str
    created: float
    settings: dict[str, Any]
    folder: str = ""
    disconnected: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint.

    Attributes:
        configuration: settings of the VM when it was made, as JSON.
        visible: when ``Get-VMSnapshot`` begins to show it.
        disks: numbers of the frozen layers, by slot.
        sealed: ids of change tracking that were taken, by slot.
    """

    checkpoint_id: UUID
    vm_id: UUID
    name: str
    kind: SnapshotType
    consistency: Consistency
    created: float
    visible: float
    parent: UUID | None
    order: int
    disks: dict[str, int]
    sealed: dict[str, str | None]
    state: VMState = VMState.Off
    automatic: bool = False
    revision: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    configuration: str = ""


@dataclass(slots=True, kw_only=True)
class ReferencePoint:
    """A reference point. ``disks`` are ``InstanceID`` values of the VM's storage, parallel to ``rct_ids``."""

    instance_id: str
    vm_id: UUID
    consistency: Consistency
    created: float
    disks: list[str]
    rct_ids: list[str]
    kind: int = 2


@dataclass(slots=True, kw_only=True)
class Job:
    """A WMI job. It does its work at ``ends`` and disappears at ``vanishes``.

    Attributes:
        arguments: arguments of the work, as text.
        results: ids of what it created. WMI shows them through associations only.
    """

    job_id: UUID
    kind: JobKind
    vm_id: UUID
    started: float
    ends: float
    arguments: dict[str, str]
    done: bool = False
    vanishes: float | None = None
    error_code: int = 0
    error_text: str = ""
    warned: bool = False
    results: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Role:
    """What a cluster knows of a VM: the resource that starts and stops it.

    Attributes:
        due: when a pending state ends, a VM that stopped is noticed, or the resource comes online by itself.
    """

    vm_id: UUID
    state: ResourceState
    due: float | None = None


@dataclass(slots=True)
class Merge:
    """A child being merged into its parent. ``ends`` is None after a failure that is not tried again."""

    child: int
    vm_id: UUID
    phase: MergePhase
    ends: float | None
    failures: int = 0


@dataclass(slots=True, kw_only=True)
class Event:
    """An entry of a Hyper-V event log."""

    log: str
    event_id: int
    time: float
    vm_id: UUID | None
    node: str
    message: str


@dataclass(slots=True, kw_only=True)
class World:
    """All records of a world."""

    seed: int = 0
    counter: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    vms: dict[UUID, Vm] = field(default_factory=dict)
    planned: dict[UUID, PlannedVm] = field(default_factory=dict)
    layers: dict[int, Layer] = field(default_factory=dict)
    checkpoints: dict[UUID, Checkpoint] = field(default_factory=dict)
    reference_points: dict[str, ReferencePoint] = field(default_factory=dict)
    jobs: dict[UUID, Job] = field(default_factory=dict)
    merges: dict[int, Merge] = field(default_factory=dict)
    roles: dict[UUID, Role] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    host_files: dict[int, HostFile] = field(default_factory=dict)
    host_folders: dict[str, HostFolder] = field(default_factory=dict)
    # Merged layers, and the layer that each was merged into.
    merged: dict[int, int] = field(default_factory=dict)

    def now_in(self, number: int) -> int:
        """Number of the layer with the content of layer ``number``: itself, or what it was merged into."""
        while number in self.merged:
            number = self.merged[number]
        return number

    def next(self) -> int:
        """The next unused number."""
        self.counter += 1
        return self.counter


__all__ = [
    "Checkpoint",
    "CheckpointType",
    "Consistency",
    "ControllerType",
    "Drive",
    "Event",
    "Job",
    "JobKind",
    "JobState",
    "Merge",
    "MergePhase",
    "Node",
    "Operational",
    "PlannedVm",
    "ReferencePoint",
    "ReplicationMode",
    "ResourceState",
    "Role",
    "Slot",
    "SnapshotType",
    "VMState",
    "VhdFormat",
    "VhdType",
    "Vm",
    "World",
]
