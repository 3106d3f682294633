"""The plan of a backup: the mode of each disk, and the reason. Pure: facts in, decisions out.

When in doubt, read more: an increment is planned only if every check says that change tracking covers this
very disk since that very point. Each failed check has its own reason, which goes into the manifest, the
report and the log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from hvpsbridge.contract.results import DiskFormat, DiskInfo, FrozenDisk, VmInfo
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import StoppedByPolicy
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.tasks.planning.build_trust import BuildTrust
from hvpsbridge.tasks.planning.chains import chain_text, differ_by_checkpoints, same_chain
from hvpsbridge.tasks.planning.lineage import KnownDisk, Lineage
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.tracking import Tracking
from hvpsbridge.tasks.policy import BackupOptions, OnUnexpectedFull


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What identifies a disk and its state, from the inventory or from the frozen disk."""

    slot: str
    disk_id: UUID | None
    size_bytes: int
    sector_bytes: int
    chain: tuple[str, ...]
    format: DiskFormat = DiskFormat.VHDX

    @classmethod
    def of_drive(cls, disk: DiskInfo) -> DiskFacts:
        """The facts of a drive in the inventory."""
        return cls(
            slot_of(disk), disk.disk_id, disk.size_bytes, disk.logical_sector_bytes, disk.chain, disk.format
        )

    def frozen(self, disk: FrozenDisk) -> DiskFacts:
        """The facts of the frozen disk; the format stays that of the drive."""
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
        facts: as known at the time.
        mode: how to back it up.
        reason: why.
        detail: figures behind the reason, for people; may be empty.
        base: the disk of a point that is patched or compared with; None for a full.
        proved: how many increments of the disk on this OS build were proved whole.
    """

    facts: DiskFacts
    mode: Mode
    reason: Reason
    detail: str = ""
    base: KnownDisk | None = None
    proved: int = 0

    @property
    def slot(self) -> str:
        """The slot of the disk."""
        return self.facts.slot

    @property
    def why(self) -> str:
        """Reason and detail in one line."""
        return f"{self.reason.text} ({self.detail})" if self.detail else self.reason.text

    def doubted(self, reason: Reason, detail: str = "") -> DiskPlan:
        """The plan to compare the disk instead, for ``reason``; a full stays a full."""
        if self.base is None:
            return replace(self, mode=Mode.FULL, reason=reason, detail=detail)
        return replace(self, mode=Mode.COMPARE, reason=reason, detail=detail)

    def noted(self, detail: str) -> DiskPlan:
        """The plan with more detail."""
        return replace(self, detail=f"{self.detail}; {detail}" if self.detail else detail)


@dataclass(frozen=True, slots=True)
class VmPlan:
    """What a backup of a VM is going to do.

    Attributes:
        vm: as the host describes it.
        disks: those to back up, in slot order.
        child_bytes: estimated growth of the checkpoint's children, by volume root.
        excluded: disks that are excluded, as the manifest will name them.
    """

    vm: VmInfo
    disks: tuple[DiskPlan, ...]
    child_bytes: dict[str, int]
    excluded: tuple[ExcludedDisk, ...] = ()

    @property
    def unexpected(self) -> tuple[DiskPlan, ...]:
        """Disks that have or had a base, but are unexpectedly read or compared whole."""
        return tuple(disk for disk in self.disks if not disk.reason.expected)


# VMs of older configuration versions have no change tracking (docs/hyperv-facts.md#rct-requirements).
TRACKED_VERSION = (8, 0)


def plan_disks(
    vm: VmInfo,
    drives: Iterable[DiskFacts],
    lineage: Lineage,
    *,
    build: BuildTrust,
    reference_points: Sequence[str],
    force_compare: bool = False,
    excluded: Sequence[DiskInfo] = (),
) -> tuple[DiskPlan, ...]:
    """One decision per disk, in the order given.

    Args:
        vm: the VM.
        drives: the disks to back up.
        lineage: the VM's points in the repository.
        build: what the host is trusted with; trust in tracking of a disk is earned per build.
        reference_points: ``InstanceID`` of all that are on the host.
        force_compare: compare every disk.
        excluded: disks that are excluded; one of them may share its id with a disk to back up.
    """
    disks = tuple(drives)
    ids = [*(disk.disk_id for disk in disks), *(disk.disk_id for disk in excluded)]
    shared = Counter(disk_id for disk_id in ids if disk_id is not None)
    plans = []
    for disk in disks:
        plan = _identify(disk, lineage)
        doubt = None
        if plan.mode is not Mode.FULL:
            doubt = _general_doubt(vm, disk, shared, force_compare)
        if doubt is None and plan.mode is Mode.INCREMENTAL:
            doubt = _doubt(disk, plan.base, lineage, reference_points, build)
        if doubt is not None:
            plan = plan.doubted(*doubt)
        way = IdWay.FROZEN if plan.base is None else plan.base.way
        trust = lineage.trust(disk.slot, disk.disk_id, build.build, way)
        plans.append(replace(plan, proved=trust.proved_increments))
    return tuple(plans)


def confirm(plan: DiskPlan, frozen: FrozenDisk) -> DiskPlan:
    """The plan checked against the frozen disk: kept, or changed to read more, with a reason."""
    facts = plan.facts.frozen(frozen)
    plan = replace(plan, facts=facts)
    if plan.base is None:
        return plan
    if facts.size_bytes != plan.base.size_bytes:
        return replace(_resized(facts, plan.base), proved=plan.proved)
    if plan.mode is not Mode.INCREMENTAL:
        return plan
    if facts.disk_id != plan.base.disk_id:
        return plan.doubted(Reason.DISK_REPLACED, f"was {plan.base.disk_id}")
    if facts.sector_bytes != plan.base.sector_bytes:
        return plan.doubted(Reason.SECTOR_CHANGED)
    if not same_chain(facts.chain, plan.base.chain):
        return plan.doubted(*_chain_doubt(plan.base.chain, facts.chain))
    return plan


def confirm_tracking(plan: DiskPlan, tracking: Tracking) -> DiskPlan:
    """The plan checked against change tracking of the frozen disk.

    What the host refused to say is in the detail of the plan, whatever the mode: without tracking the point
    cannot be a base.
    """
    # An id of a reference point does not need one of the frozen disk.
    by_reference = plan.base is not None and plan.base.way is IdWay.REFERENCE and tracking.enabled
    if plan.mode is Mode.INCREMENTAL and tracking.rct_id is None and not by_reference:
        reason = Reason.TRACKING_UNUSABLE if tracking.refusal else Reason.TRACKING_OFF
        return plan.doubted(reason, tracking.refusal)
    return plan.noted(tracking.refusal) if tracking.refusal else plan


def may_be_tracked(vm: VmInfo, disk: DiskFacts) -> bool:
    """Whether Hyper-V can track the changes of a disk of its kind."""
    return disk.format is DiskFormat.VHDX and _version(vm.version) >= TRACKED_VERSION


def stop_if_unexpected(options: BackupOptions, vm_name: str, plan: DiskPlan) -> None:
    """Return if a disk may be backed up as planned.

    Raises:
        StoppedByPolicy: it would be read or compared whole unexpectedly, and the options forbid that.
    """
    if not plan.reason.expected and options.on_unexpected_full is OnUnexpectedFull.STOP:
        raise StoppedByPolicy(vm_name, f"disk {plan.slot}: {plan.why}")


def _identify(disk: DiskFacts, lineage: Lineage) -> DiskPlan:
    """The plan as far as the identity of the disk and its base goes."""
    base = lineage.newest(disk.slot, disk.disk_id)
    if lineage.was_restored(disk.slot):
        held = lineage.restored_disk(disk.slot) or base
        if held is not None and held.size_bytes == disk.size_bytes:
            return DiskPlan(disk, Mode.COMPARE, Reason.RESTORED, base=held)
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
        return DiskPlan(disk, Mode.FULL, Reason.DISK_REPLACED, f"was {here.disk_id}")
    if base.size_bytes != disk.size_bytes:
        return _resized(disk, base)
    if disk.disk_id is None:
        return DiskPlan(disk, Mode.COMPARE, Reason.NO_DISK_ID, base=base)
    if lineage.has_excluded(disk.slot):
        # Its id was lost with the reference point of the last point that has the disk.
        return DiskPlan(disk, Mode.COMPARE, Reason.WAS_LEFT_OUT, base=base)
    tracked = lineage.newest_with_ids(disk.slot, disk.disk_id)
    if tracked is None:
        return DiskPlan(disk, Mode.COMPARE, Reason.IDS_MISSING, base.id_fault, base)
    if tracked.size_bytes != disk.size_bytes:
        return DiskPlan(disk, Mode.COMPARE, Reason.IDS_MISSING, "none since the disk was resized", base)
    return DiskPlan(disk, Mode.INCREMENTAL, Reason.TRACKED, base=tracked)


def _resized(disk: DiskFacts, base: KnownDisk) -> DiskPlan:
    return DiskPlan(
        disk, Mode.FULL, Reason.SIZE_CHANGED, f"from {base.size_bytes} to {disk.size_bytes} bytes"
    )


def _general_doubt(
    vm: VmInfo, disk: DiskFacts, shared: Counter[UUID], force_compare: bool
) -> tuple[Reason, str] | None:
    """Why tracking cannot be used for the disk, whatever the last point says."""
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
    disk: DiskFacts,
    base: KnownDisk | None,
    lineage: Lineage,
    reference_points: Sequence[str],
    build: BuildTrust,
) -> tuple[Reason, str] | None:
    """The first reason not to trust what tracking reports since ``base``; None if there is none."""
    assert base is not None
    if disk.sector_bytes != base.sector_bytes:
        return Reason.SECTOR_CHANGED, f"from {base.sector_bytes} to {disk.sector_bytes} bytes"
    if not same_chain(disk.chain, base.chain):
        return _chain_doubt(base.chain, disk.chain)
    if base.way is IdWay.REFERENCE and (missing := build.doubt_of(base)):
        return Reason.IDS_UNPROVED, missing
    if base.reference_point not in reference_points:
        return Reason.REFERENCE_POINT_GONE, ""
    if lineage.distrusted(disk.slot, disk.disk_id):
        return Reason.DISTRUSTED, ""
    return None


def _chain_doubt(before: Sequence[str], now: Sequence[str]) -> tuple[Reason, str]:
    """Why a disk with other files is compared: expected if checkpoints explain them."""
    reason = Reason.CHECKPOINTS_CHANGED if differ_by_checkpoints(before, now) else Reason.CHAIN_CHANGED
    return reason, f"was {chain_text(before)}, is {chain_text(now)}"


_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")


def _version(text: str) -> tuple[int, ...]:
    """``10.0`` as (10, 0); (0,) if it is not a version."""
    return tuple(map(int, text.split("."))) if _VERSION.fullmatch(text) else (0,)
