"""Documents about repositories and their keys: ``hvps repo`` and ``hvps key``."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.report.documents.document import Document
from hvpsbridge.report.values import INLINE
from hvpsbridge.repository import RebuildReport, RepairReport
from hvpsbridge.repository.collect.report import CollectReport
from hvpsbridge.repository.keys import SlotInfo
from hvpsbridge.repository.probe import ProbeReport
from hvpsbridge.repository.refilling import RefillReport
from hvpsbridge.repository.upgrading import UpgradeReport


@dataclass(frozen=True, slots=True)
class RepositoryCreated(Document):
    """A repository that was created.

    Attributes:
        chunk_bytes: size of its chunks.
        sealed: whether it is encrypted.
    """

    repository_id: UUID
    url: str
    chunk_bytes: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class RepositoryUpgraded(Document):
    """Result of an upgrade of a repository.

    Attributes:
        check: whether nothing was changed.
    """

    repository_id: UUID
    url: str
    check: bool
    report: UpgradeReport


@dataclass(frozen=True, slots=True)
class StoreProbed(Document):
    """What a store was found to support.

    Attributes:
        fit: whether a repository can be kept there.
    """

    fit: bool
    report: ProbeReport


@dataclass(frozen=True, slots=True)
class IndexRebuilt(Document):
    """Result of rebuilding an index.

    Attributes:
        check: whether nothing was changed.
        whole: whether the new index covers every pack.
    """

    check: bool
    whole: bool
    report: RebuildReport


@dataclass(frozen=True, slots=True)
class Repaired(Document):
    """Result of a repair.

    Attributes:
        check: whether nothing was changed.
        whole: whether every chunk that a point needs exists, or would exist.
        refilled: what was taken from another copy, if one was named.
    """

    check: bool
    whole: bool
    report: RepairReport
    refilled: RefillReport | None = None


@dataclass(frozen=True, slots=True)
class Collected(Document):
    """Result of freeing space.

    Attributes:
        check: whether nothing was changed.
    """

    check: bool
    report: CollectReport


@dataclass(frozen=True, slots=True)
class KeySlots(Document):
    """Key slots of an encrypted repository.

    Attributes:
        exported: whether the key was ever exported.
    """

    exported: bool
    slots: tuple[SlotInfo, ...]


@dataclass(frozen=True, slots=True)
class KeySlotAdded(Document):
    """A key slot that was added."""

    slot: SlotInfo = field(metadata=INLINE)


@dataclass(frozen=True, slots=True)
class KeySlotRemoved(Document):
    """A key slot that was removed.

    Attributes:
        removed: its id.
    """

    removed: UUID
