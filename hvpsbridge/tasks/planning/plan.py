"""The plan of a backup: per disk the mode and the reason. Pure: facts in, decisions out.

The law of this module is that doubt costs reading, never truth: an increment is planned only when every
check says that change tracking speaks of this very disk since this very point. Each failed check has its
own reason, which goes into the manifest, the report and the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from uuid import UUID

from hvpsbridge.contract.results import DiskFormat, DiskInfo, FrozenDisk, VmInfo
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.tasks.planning.lineage import KnownDisk, Lineage


class Mode(StrEnum):
    """How a disk is brought into the new point."""

    FULL = "full"
    INCREMENTAL = "incremental"
    COMPARE = "compare"


class Reason(Enum):
    """Why a disk has its mode: the word in manifests, the text for people, and whether it was to be
    expected. Unexpected reasons are warned of, and two in a row are an alarm."""

    word: str
    text: str
    expected: bool

    TRACKED = ("tracked", "change tracking knows what changed since the last point", True)
    FIRST_BACKUP = ("first_backup", "no point of this VM yet", True)
    NEW_DISK = ("new_disk", "no point has this disk yet", True)
    WAS_LEFT_OUT = ("was_left_out", "the last point was made without the disk", True)
    ASKED = ("asked", "asked for", True)
    NOT_TRACKED = ("not_tracked", "only VHDX files have change tracking", True)
    OLD_VM = ("old_vm", "the VM's configuration version has no change tracking", True)
    DUPLICATE_ID = ("duplicate_id", "another disk of the VM has the same VirtualDiskId", True)
    EMPTY_ANSWER = ("empty_answer", "tracking reports no change at all, which is not believed unseen", True)
    DISTRUSTED = ("distrusted", "tracking of this disk was wrong lately and has to prove itself", True)
    DISK_REPLACED = ("disk_replaced", "another disk hangs at this slot than in the last point", False)
    DISK_MOVED = ("disk_moved", "the disk hung at another slot in the last point", False)
    NO_DISK_ID = ("no_disk_id", "the disk's VirtualDiskId cannot be read", False)
    SIZE_CHANGED = ("size_changed", "the disk has another size than in the last point", False)
    SECTOR_CHANGED = ("sector_changed", "the disk has another sector size than in the last point", False)
    CHAIN_CHANGED = ("chain_changed", "the disk's chain of files is not the one of the last point", False)
    IDS_MISSING = ("ids_missing", "the last point has no usable change tracking ids", False)
    REFERENCE_POINT_GONE = ("reference_point_gone", "our reference point was destroyed by others", False)
    TRACKING_OFF = ("tracking_off", "change tracking is switched off for the disk", False)
    TRACKING_UNUSABLE = ("tracking_unusable", "change tracking cannot answer for the last point's id", False)
    TRACKING_LIED = ("tracking_lied", "a digest from the host contradicted change tracking", False)
    BASE_DAMAGED = ("base_damaged", "the base's tree in the repository cannot be read", False)

    def __init__(self, word: str, text: str, expected: bool) -> None:
        self.word = word
        self.text = text
        self.expected = expected


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What identifies a disk and its state, from the inventory or from its frozen handle."""

    slot: str
    disk_id: UUID | None
    size_bytes: int
    sector_bytes: int
    chain: tuple[str, ...]
    format: DiskFormat = DiskFormat.VHDX

    @classmethod
    def of_drive(cls, disk: DiskInfo) -> DiskFacts:
        """Facts of a drive as the inventory lists it."""
        return cls(
            slot_of(disk), disk.disk_id, disk.size_bytes, disk.logical_sector_bytes, disk.chain, disk.format
        )

    def frozen(self, disk: FrozenDisk) -> DiskFacts:
        """The same facts as the frozen handle tells them; the format stays what the drive's was."""
        return replace(
            self,
            disk_id=disk.disk_id,
            size_bytes=disk.size_bytes,
            sector_bytes=disk.logical_sector_bytes,
            chain=disk.chain,
        )


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """The decision for one disk.

    Attributes:
        facts: as known when it was taken.
        mode: how; reason: why; detail: the figures behind the reason, for people, may be empty.
        base: the point's disk that is patched or compared with; None for a full.
        proved: increments of this disk on this OS build that were proved whole.
    """

    facts: DiskFacts
    mode: Mode
    reason: Reason
    detail: str = ""
    base: KnownDisk | None = None
    proved: int = 0

    @property
    def slot(self) -> str:
        """Where the disk hangs."""
        return self.facts.slot

    @property
    def why(self) -> str:
        """Reason and detail in one line."""
        return f"{self.reason.text} ({self.detail})" if self.detail else self.reason.text

    def doubted(self, reason: Reason, detail: str = "") -> DiskPlan:
        """The same disk compared instead of trusted, for ``reason``; a full stays one."""
        if self.base is None:
            return replace(self, mode=Mode.FULL, reason=reason, detail=detail)
        return replace(self, mode=Mode.COMPARE, reason=reason, detail=detail)


@dataclass(frozen=True, slots=True)
class VmPlan:
    """What a backup of a VM is going to do.

    Attributes:
        vm: as the host describes it.
        disks: in slot order; empty and left-out drives are not among them.
        excluded: disks that are left out on request, as the manifest will name them.
        child_bytes: estimated growth of the checkpoint's children, by volume root.
    """

    vm: VmInfo
    disks: tuple[DiskPlan, ...]
    child_bytes: dict[str, int]
    excluded: tuple[ExcludedDisk, ...] = ()

    @property
    def unexpected(self) -> tuple[DiskPlan, ...]:
        """Disks that have a base or had one, and are read or compared whole against expectation."""
        return tuple(disk for disk in self.disks if not disk.reason.expected)


# Below this configuration version nobody agrees on change tracking (docs/hyperv-facts.md#rct-requirements).
TRACKED_VERSION = (8, 0)


def slot_of(disk: DiskInfo | FrozenDisk) -> str:
    """Where a disk hangs, for example ``scsi 0:1``: the first half of its identity."""
    return f"{disk.controller_type.value} {disk.controller_number}:{disk.controller_location}"


def plan_disks(
    vm: VmInfo,
    drives: Iterable[DiskFacts],
    lineage: Lineage,
    *,
    os_build: int,
    reference_points: Sequence[str],
    force_compare: bool = False,
    excluded: Sequence[DiskInfo] = (),
) -> tuple[DiskPlan, ...]:
    """One decision per disk, in the order given.

    Args:
        vm: the VM.
        drives: its disks that take part.
        lineage: what the repository knows of the VM.
        os_build: of the host; trust is earned per build.
        reference_points: ``InstanceID`` of all that are on the host now.
        force_compare: the user wants every disk compared.
        excluded: disks of the VM that are left out; one of them may have the id of one that takes part.
    """
    disks = tuple(drives)
    ids = [*(disk.disk_id for disk in disks), *(disk.disk_id for disk in excluded)]
    shared = Counter(disk_id for disk_id in ids if disk_id is not None)
    plans = []
    for disk in disks:
        plan = _identify(disk, lineage)
        doubt = None
        if plan.mode is not Mode.FULL:
            doubt = _standing_doubt(vm, disk, shared, force_compare)
        if doubt is None and plan.mode is Mode.INCREMENTAL:
            doubt = _doubt(disk, plan.base, lineage, reference_points)
        if doubt is not None:
            plan = plan.doubted(*doubt)
        trust = lineage.trust(disk.slot, disk.disk_id, os_build)
        plans.append(replace(plan, proved=trust.proved_increments))
    return tuple(plans)


def confirm(plan: DiskPlan, frozen: FrozenDisk) -> DiskPlan:
    """The plan held against the frozen handle: kept, or changed with a reason. Never made bolder."""
    facts = plan.facts.frozen(frozen)
    plan = replace(plan, facts=facts)
    if plan.base is None:
        return plan
    if facts.size_bytes != plan.base.size_bytes:
        return replace(_resized(facts, plan.base), proved=plan.proved)
    if plan.mode is not Mode.INCREMENTAL:
        return plan
    if not frozen.tracking_enabled or frozen.rct_id is None:
        return plan.doubted(Reason.TRACKING_OFF)
    if facts.disk_id != plan.base.disk_id:
        return plan.doubted(Reason.DISK_REPLACED, f"{plan.base.disk_id} was there")
    if facts.sector_bytes != plan.base.sector_bytes:
        return plan.doubted(Reason.SECTOR_CHANGED)
    if not same_chain(facts.chain, plan.base.chain):
        return plan.doubted(Reason.CHAIN_CHANGED, _chain_text(plan.base.chain, facts.chain))
    return plan


def same_chain(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two chains name the same files in the same order, as Windows compares paths."""
    return [path.casefold() for path in left] == [path.casefold() for path in right]


def _identify(disk: DiskFacts, lineage: Lineage) -> DiskPlan:
    """The disk's base, if it has one; an increment as far as identity goes."""
    base = lineage.newest(disk.slot, disk.disk_id)
    if base is None:
        moved = lineage.newest_elsewhere(disk.disk_id)
        if moved is not None and moved.size_bytes == disk.size_bytes:
            return DiskPlan(disk, Mode.COMPARE, Reason.DISK_MOVED, f"was {moved.slot}", moved)
        here = lineage.newest_at(disk.slot)
        if here is None:
            reason = Reason.NEW_DISK if lineage.points else Reason.FIRST_BACKUP
            return DiskPlan(disk, Mode.FULL, reason)
        if disk.disk_id is None and here.size_bytes == disk.size_bytes:
            return DiskPlan(disk, Mode.COMPARE, Reason.NO_DISK_ID, base=here)
        return DiskPlan(disk, Mode.FULL, Reason.DISK_REPLACED, f"{here.disk_id} was there")
    if base.size_bytes != disk.size_bytes:
        return _resized(disk, base)
    if disk.disk_id is None:
        return DiskPlan(disk, Mode.COMPARE, Reason.NO_DISK_ID, base=base)
    if lineage.left_out(disk.slot):
        # Its id went with the reference point of the last point that has it.
        return DiskPlan(disk, Mode.COMPARE, Reason.WAS_LEFT_OUT, base=base)
    tracked = lineage.newest_with_ids(disk.slot, disk.disk_id)
    if tracked is None:
        return DiskPlan(disk, Mode.COMPARE, Reason.IDS_MISSING, base.id_fault, base)
    if tracked.size_bytes != disk.size_bytes:
        return DiskPlan(disk, Mode.COMPARE, Reason.IDS_MISSING, "since the disk was resized", base)
    return DiskPlan(disk, Mode.INCREMENTAL, Reason.TRACKED, base=tracked)


def _resized(disk: DiskFacts, base: KnownDisk) -> DiskPlan:
    return DiskPlan(disk, Mode.FULL, Reason.SIZE_CHANGED, f"{base.size_bytes} became {disk.size_bytes} bytes")


def _standing_doubt(
    vm: VmInfo, disk: DiskFacts, shared: Counter[UUID], force_compare: bool
) -> tuple[Reason, str] | None:
    """Why tracking would not be used for this disk whatever the last point says."""
    if force_compare:
        return Reason.ASKED, ""
    if disk.format is not DiskFormat.VHDX:
        return Reason.NOT_TRACKED, disk.format.value
    if _version(vm.version) < TRACKED_VERSION:
        return Reason.OLD_VM, vm.version
    if disk.disk_id is not None and shared[disk.disk_id] > 1:  # docs/hyperv-facts.md#disk-identity
        return Reason.DUPLICATE_ID, str(disk.disk_id)
    return None


def _doubt(
    disk: DiskFacts, base: KnownDisk | None, lineage: Lineage, reference_points: Sequence[str]
) -> tuple[Reason, str] | None:
    """The first reason not to trust what tracking says since ``base``, if there is one."""
    assert base is not None
    if disk.sector_bytes != base.sector_bytes:
        return Reason.SECTOR_CHANGED, f"{base.sector_bytes} became {disk.sector_bytes} bytes"
    if not same_chain(disk.chain, base.chain):
        return Reason.CHAIN_CHANGED, _chain_text(base.chain, disk.chain)
    if base.reference_point not in reference_points:
        return Reason.REFERENCE_POINT_GONE, ""
    if lineage.distrusted(disk.slot, disk.disk_id):
        return Reason.DISTRUSTED, ""
    return None


def _chain_text(before: Sequence[str], now: Sequence[str]) -> str:
    """What differs between two chains, by file name; one line."""
    return f"{' < '.join(map(_file_name, before))} became {' < '.join(map(_file_name, now))}"


def _file_name(path: str) -> str:
    return path.replace("/", "\\").rsplit("\\", 1)[-1]


def _version(text: str) -> tuple[int, ...]:
    """``10.0`` as (10, 0); (0,) for what is no version."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else (0,)
