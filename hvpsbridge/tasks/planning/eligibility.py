"""Whether a VM can be backed up as it is. Pure: facts of the inventory in, findings out.

Every finding is one line with one remedy. A refusal ends the backup before anything is made; a wait is
looked at again until the gate opens or its time is over; a note is only told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    CheckpointPolicy,
    DiskFormat,
    DiskInfo,
    ReplicationMode,
    VmInfo,
    VmState,
)
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.planning.plan import slot_of
from hvpsbridge.tasks.planning.select import leaving_out


class Severity(StrEnum):
    """What a finding leads to."""

    REFUSE = "refuse"
    WAIT = "wait"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact that matters to a backup, and the one thing to do about it.

    Attributes:
        may_pass: whether it may be gone in a moment, without anybody doing anything.
    """

    severity: Severity
    text: str
    remedy: str
    may_pass: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


# Operational states in which a VM's chains are being changed (docs/hyperv-facts.md#operational-status).
BUSY_STATUS = {
    32768: "a checkpoint is being made",
    32770: "a checkpoint is being deleted",
    32771: "a checkpoint is being applied",
    32772: "its disks are being merged",
    32776: "a checkpoint is being converted",
}

_PASSING = {
    VmState.PAUSED: "paused",
    VmState.STARTING: "starting",
    VmState.STOPPING: "stopping",
    VmState.SAVING: "being saved",
}


def examine(
    vm: VmInfo,
    disks: Sequence[DiskInfo],
    checkpoints: Sequence[CheckpointInfo] | None,
    repository_id: UUID,
    exclude: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Everything about the VM that a backup has to heed, gravest first.

    Args:
        vm: the VM.
        disks: its drives.
        checkpoints: all of its checkpoints; None while leftovers of ours are not settled, which would
            explain what they show.
        repository_id: ours; checkpoints marked with it are leftovers to settle, not findings.
        exclude: patterns of disks that are left out; nothing about those stands in the way.
    """
    findings = _vm_findings(vm)
    out = left_out(disks, exclude)
    findings.extend(_left_out(disk, pattern) for disk, pattern in out)
    disks = [disk for disk in disks if disk not in [one for one, _ in out]]
    if checkpoints is not None:
        findings.extend(_checkpoint_findings(checkpoints, repository_id))
        if not checkpoints:
            # While a merge is under way a child without a checkpoint is what it is merging.
            merging = bool(BUSY_STATUS.keys() & set(vm.operational_status))
            findings.extend(_childless(disk) for disk in disks if _on_child(disk) and not merging)
    for disk in disks:
        findings.extend(_disk_findings(disk))
    if not takes_part(disks):
        what = "every disk of it is left out" if out else "it has no virtual disk"
        findings.append(Finding(Severity.REFUSE, what, "leave it out of the play"))
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def takes_part(disks: Iterable[DiskInfo], exclude: Sequence[str] = ()) -> tuple[DiskInfo, ...]:
    """The drives that are backed up: all but empty ones and those that fit a pattern of ``exclude``."""
    return tuple(
        disk
        for disk in disks
        if disk.path is not None
        and not disk.pass_through
        and leaving_out(exclude, slot_of(disk), disk) is None
    )


def left_out(disks: Iterable[DiskInfo], exclude: Sequence[str]) -> tuple[tuple[DiskInfo, str], ...]:
    """The disks that are left out on request, each with the pattern it fits; empty drives are no disks."""
    return tuple(
        (disk, pattern)
        for disk in disks
        if (disk.path is not None or disk.pass_through)
        and (pattern := leaving_out(exclude, slot_of(disk), disk)) is not None
    )


def no_checkpoint_holds(disk: DiskInfo) -> bool:
    """Whether Hyper-V refuses a checkpoint because of this disk, unless told to leave it out."""
    return disk.pass_through or disk.shared or disk.format is DiskFormat.VHDSET


def refusals(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that end a backup."""
    return tuple(finding for finding in findings if finding.severity is Severity.REFUSE)


def waits(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that pass by themselves."""
    return tuple(finding for finding in findings if finding.severity is Severity.WAIT)


def _vm_findings(vm: VmInfo) -> list[Finding]:
    found: list[Finding] = []

    def refuse(text: str, remedy: str) -> None:
        found.append(Finding(Severity.REFUSE, text, remedy))

    if vm.commit_fork_events:
        refuse(
            f"event 3216 stands {vm.commit_fork_events} times in its Worker log: its chain is at risk",
            "do not restart or migrate it; see docs/troubleshooting.md",
        )
    if vm.checkpoint_policy is CheckpointPolicy.DISABLED:
        refuse("checkpoints are disabled", "Set-VM -CheckpointType Production")
    if vm.replication_mode in (ReplicationMode.REPLICA, ReplicationMode.TEST_REPLICA):
        refuse("it is the target of a replication", "back up the primary")
    if vm.shielded:
        refuse("it is shielded: its disks cannot be restored without its guardian", "back it up from inside")
    if not vm.merge_enabled:
        refuse(
            "merging of its disks is disabled",
            "find who exported it, then enable merging with WMI ModifyDiskMergeSettings",
        )
    if vm.state in (VmState.CRITICAL, VmState.OTHER):
        refuse(f"its state is {vm.state.value}", "bring it into a normal state")
    for state, word in _PASSING.items():
        if vm.state is state:
            found.append(Finding(Severity.WAIT, f"it is {word}", "try again when that is over"))
    for status in vm.operational_status:
        if status in BUSY_STATUS:
            found.append(Finding(Severity.WAIT, BUSY_STATUS[status], "try again when that is over"))
    return found


def _left_out(disk: DiskInfo, pattern: str) -> Finding:
    what = "physical disk" if disk.path is None else disk.path
    return Finding(
        Severity.NOTE,
        f"disk {slot_of(disk)} ({what}) is left out by {pattern!r}",
        "back it up by other means if it matters",
    )


def _on_child(disk: DiskInfo) -> bool:
    return disk.path is not None and disk.path.lower().endswith((".avhdx", ".avhd"))


def _childless(disk: DiskInfo) -> Finding:
    return Finding(
        Severity.REFUSE,
        f"disk {slot_of(disk)} runs on {disk.path} though no checkpoint is there",
        "take and remove a checkpoint to have it merged, see docs/troubleshooting.md",
        may_pass=True,
    )


def _checkpoint_findings(checkpoints: Sequence[CheckpointInfo], repository_id: UUID) -> list[Finding]:
    found: list[Finding] = []
    for checkpoint in checkpoints:
        if checkpoint.kind is not CheckpointKind.RECOVERY:
            continue
        mark = parse_mark(checkpoint.name)
        if mark is None:
            found.append(
                Finding(
                    Severity.WAIT,
                    f"another product's recovery checkpoint {checkpoint.name!r} is there",
                    "let that backup end, or remove the checkpoint when it is abandoned",
                )
            )
        elif mark.repository_id != repository_id:
            found.append(
                Finding(
                    Severity.WAIT,
                    f"a recovery checkpoint of hvps repository {mark.repository_id} is there",
                    "let that backup end; its next run removes what a dead one left",
                )
            )
    return found


def _disk_findings(disk: DiskInfo) -> list[Finding]:
    slot = slot_of(disk)
    if disk.pass_through:
        return [
            Finding(
                Severity.REFUSE,
                f"disk {slot} is a physical disk, which no checkpoint holds",
                "use a VHDX, or back it up from inside",
            )
        ]
    if disk.path is None:
        return []
    if no_checkpoint_holds(disk):
        return [
            Finding(
                Severity.REFUSE,
                f"disk {slot} is shared between VMs, which no checkpoint holds",
                "back it up from inside",
            )
        ]
    if disk.error is not None:
        return [Finding(Severity.REFUSE, f"disk {slot} cannot be read: {disk.error}", "repair its file")]
    if disk.format is DiskFormat.VHD:
        return [
            Finding(
                Severity.NOTE,
                f"disk {slot} is a VHD, which has no change tracking: it is compared each time",
                "convert it with Convert-VHD",
            )
        ]
    return []
