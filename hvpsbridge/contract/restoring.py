"""Results of operations that restore onto a host; the rules of ``contract.results`` apply."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderInfo:
    """A folder for restored disks.

    Attributes:
        free_bytes: where it is, or would be.
        compressed: new files there would be compressed.
        encrypted: new files there would be encrypted.
        found: those of the files that are there.
    """

    path: str
    exists: bool
    free_bytes: int
    compressed: bool
    encrypted: bool
    found: tuple[str, ...]


class RoleState(StrEnum):
    """What a cluster does with a VM: state of its resource (docs/hyperv-facts.md#cluster-resources)."""

    ONLINE = "online"
    OFFLINE = "offline"
    FAILED = "failed"
    PENDING = "pending"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ClusterRole:
    """The cluster resource that starts and stops a VM."""

    vm_id: UUID
    name: str
    state: RoleState


@dataclass(frozen=True, slots=True)
class SwitchInfo:
    """A virtual switch of a host."""

    name: str
    switch_id: UUID


@dataclass(frozen=True, slots=True)
class FileMade:
    """A new file, and the folders that were made for it, the outermost first."""

    path: str
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """What one request wrote into a file."""

    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class FileClosed:
    """Whether the process had the file open."""

    closed: bool


@dataclass(frozen=True, slots=True)
class FileMoved:
    """The new path of a file."""

    path: str


@dataclass(frozen=True, slots=True)
class FileCopied:
    """The path of a copy."""

    path: str


@dataclass(frozen=True, slots=True)
class DiskEnlarged:
    """The size of a disk now, and whether it was changed."""

    size_bytes: int
    enlarged: bool


@dataclass(frozen=True, slots=True)
class FilesRemoved:
    """Files and folders that were removed; those that were gone are not here."""

    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmMade:
    """A new VM, off.

    Attributes:
        path: folder of its configuration.
        warnings: settings that the host refused, one line each.
    """

    vm_id: UUID
    name: str
    path: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVm:
    """A planned VM, which no cmdlet lists.

    Attributes:
        notes: of a restore that has not ended, its mark.
    """

    vm_id: UUID
    name: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVmMade:
    """A new planned VM.

    Attributes:
        notes: what its configuration has.
        disk_paths: files of its disks, as its configuration has them.
        checkpoints: how many checkpoints its configuration refers to.
    """

    vm_id: UUID
    notes: str
    disk_paths: tuple[str, ...]
    checkpoints: int


@dataclass(frozen=True, slots=True)
class VmStarted:
    """Whether a VM runs after it was started."""

    vm_id: UUID
    running: bool


@dataclass(frozen=True, slots=True)
class VmHeartbeat:
    """Whether a VM runs, and its heartbeat.

    Attributes:
        heartbeat: number of ``Microsoft.HyperV.PowerShell.VMHeartbeatStatus``; null if there is none.
    """

    vm_id: UUID
    running: bool
    heartbeat: int | None
