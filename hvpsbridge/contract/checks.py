"""Results of operations that check a host or gather evidence; the rules of ``contract.results`` apply."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class GroupState(StrEnum):
    """Whether a group is in the token of a session; ``deny_only`` groups give no rights."""

    ENABLED = "enabled"
    DENY_ONLY = "deny_only"
    ABSENT = "absent"


class StorageKind(StrEnum):
    """What holds the files of a VM."""

    NTFS = "ntfs"
    REFS = "refs"
    CSV = "csv"
    SMB = "smb"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccess:
    """What the session may do on the host, and what protects the host from it.

    Attributes:
        administrators: the group S-1-5-32-544 (docs/hyperv-facts.md#administrators).
        hyperv_administrators: whether the token has the group S-1-5-32-578.
        volume_privilege: whether the token has SeManageVolumePrivilege, which attaching a disk needs.
        defender_active: whether Microsoft Defender scans in real time; None if unknown.
        defender_rules: attack surface reduction rules that are set, as ``<id>=<action>``
            (docs/hyperv-facts.md#attack-surface-rules).
    """

    administrators: GroupState
    hyperv_administrators: bool
    volume_privilege: bool
    defender_active: bool | None
    defender_rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageInfo:
    """A volume or share that has files of a VM.

    Attributes:
        root: mount point, or ``\\\\server\\share``.
        file_system: name of the file system; None for a share.
        free_bytes: None for a share, and where it is not known.
    """

    vm_id: UUID
    root: str
    kind: StorageKind
    file_system: str | None
    free_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskProbe:
    """Result of opening a virtual disk for information only; it is never attached.

    Attributes:
        native: why it could not be opened, else None.
        size_bytes: size of the disk; 0 if it could not be opened.
    """

    path: str
    native: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInfo:
    """An entry of an event log of the host.

    Attributes:
        level: 1 critical, 2 error, 3 warning, 4 information.
        text: in the language of the host, cut to a bounded length.
    """

    log: str
    event_id: int
    level: int
    time: datetime
    text: str
