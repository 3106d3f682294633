"""Whether a VM can be backed up as it is. Pure: facts of the inventory in, findings out.

Every finding is one line with one remedy. A refusal ends the backup before anything is created; a wait is
checked again until it passes or the time is over; a note is only reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    CheckpointPolicy,
    DiskFormat,
    DiskInfo,
    VmInfo,
    VmState,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.tasks.planning.chains import is_child_file
from hvpsbridge.tasks.planning.claims import REPLICAS
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.planning.select import matching_pattern
from hvpsbridge.tasks.planning.vm_status import BUSY_STATUS, IGNORED_STATUS, NOTED_STATUS, is_busy
from hvpsbridge.text import counted


class Severity(StrEnum):
    """What follows from a finding."""

    REFUSE = "refuse"
    WAIT = "wait"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact that matters to a backup, and the one thing to do about it. The fields are keys of reports.

    Attributes:
        severity: what follows from it.
        text: the fact, one line.
        remedy: what to do.
        may_pass: whether it may pass within moments by itself.
    """

    severity: Severity
    text: str
    remedy: str
    may_pass: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


NO_DISK = Finding(Severity.REFUSE, "it has no virtual disk", "exclude the VM from the play")

# What hvps does about a finding that may or may not prevent a backup.
TRIED = "the backup is tried anyway"
ENABLE_CHECKPOINTS = "if the host refuses it, run Set-VM -CheckpointType Production"

_TEMPORARY_STATES = {
    VmState.PAUSED: "paused",
    VmState.STARTING: "starting",
    VmState.STOPPING: "stopping",
    VmState.SAVING: "being saved",
    VmState.PAUSING: "being paused",
    VmState.RESUMING: "being resumed",
    VmState.RESETTING: "being reset",
    VmState.SERVICING: "being serviced",
}


def examine(
    vm: VmInfo,
    disks: Sequence[DiskInfo],
    checkpoints: Sequence[CheckpointInfo] | None,
    repository_id: UUID,
    exclude: Sequence[str] = (),
    forks_known_until: datetime | None = None,
) -> tuple[Finding, ...]:
    """Everything about the VM that matters to a backup, most severe first.

    Args:
        vm: the VM.
        disks: its drives.
        checkpoints: all of its checkpoints; None before earlier runs are cleaned up after, because their
            checkpoints would explain what is found.
        repository_id: of this repository; checkpoints marked with it are leftovers, not findings.
        exclude: patterns of disks to exclude; these disks cannot keep the VM from being backed up.
        forks_known_until: events 3216 up to this time do not keep it from being backed up either.
    """
    findings = [*_event_findings(vm, forks_known_until), *_vm_findings(vm)]
    excluded = excluded_disks(disks, exclude)
    findings.extend(_excluded(disk, pattern) for disk, pattern in excluded)
    disks = [disk for disk in disks if disk not in [one for one, _ in excluded]]
    if checkpoints is not None:
        findings.extend(_checkpoint_findings(checkpoints, repository_id))
        if not checkpoints:
            # During a merge, a child without a checkpoint is the one being merged.
            merging = is_busy(vm.operational_status)
            findings.extend(_orphaned_child(disk) for disk in disks if _on_child(disk) and not merging)
    for disk in disks:
        findings.extend(_disk_findings(disk))
    if not included_disks(disks):
        text = "all of its disks are excluded" if excluded else NO_DISK.text
        findings.append(replace(NO_DISK, text=text))
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def included_disks(disks: Iterable[DiskInfo], exclude: Sequence[str] = ()) -> tuple[DiskInfo, ...]:
    """The disks to back up: all but empty drives and those that match a pattern of ``exclude``."""
    return tuple(
        disk
        for disk in disks
        if disk.path is not None
        and not disk.pass_through
        and matching_pattern(exclude, slot_of(disk), disk) is None
    )


def excluded_disks(disks: Iterable[DiskInfo], exclude: Sequence[str]) -> tuple[tuple[DiskInfo, str], ...]:
    """The disks that match a pattern of ``exclude``, each with that pattern; empty drives do not count."""
    return tuple(
        (disk, pattern)
        for disk in disks
        if (disk.path is not None or disk.pass_through)
        and (pattern := matching_pattern(exclude, slot_of(disk), disk)) is not None
    )


def cannot_be_frozen(disk: DiskInfo) -> bool:
    """Whether Hyper-V refuses a checkpoint because of this disk, unless told to ignore it."""
    return disk.pass_through or disk.shared or disk.format is DiskFormat.VHDSET


def refusals(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that end a backup."""
    return tuple(finding for finding in findings if finding.severity is Severity.REFUSE)


def waits(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that a backup waits for."""
    return tuple(finding for finding in findings if finding.severity is Severity.WAIT)


def _vm_findings(vm: VmInfo) -> list[Finding]:
    found: list[Finding] = []

    def refuse(text: str, remedy: str) -> None:
        found.append(Finding(Severity.REFUSE, text, remedy))

    def note(text: str, remedy: str) -> None:
        found.append(Finding(Severity.NOTE, text, remedy))

    if vm.settings_error is not None:
        found.append(
            Finding(
                Severity.REFUSE,
                f"its settings cannot be read: {vm.settings_error}",
                "see the event logs of the host",
                may_pass=True,
            )
        )
    if vm.checkpoint_policy is CheckpointPolicy.DISABLED:
        note(f"checkpoints are disabled; {TRIED}", ENABLE_CHECKPOINTS)
    if vm.checkpoint_policy is CheckpointPolicy.UNKNOWN:
        note(f"hvps does not know its CheckpointType; {TRIED}", ENABLE_CHECKPOINTS)
    if vm.replication_mode in REPLICAS:
        refuse("it is the target of a replication", "back up the primary VM, or complete the failover")
    if vm.shielded:
        refuse(
            "it is shielded: its disks cannot be restored without its guardian",
            "back it up from inside the VM",
        )
    if vm.shielded is None:
        note(f"the host does not tell whether it is shielded; {TRIED}", "look with Get-VMSecurity")
    if vm.merge_enabled is False:
        refuse(
            "merging of its disks is disabled",
            "find out what exported the VM, then enable merging with WMI ModifyDiskMergeSettings",
        )
    if vm.merge_enabled is None:
        note(
            f"the host does not tell whether merging of its disks is enabled; {TRIED}",
            "if its disks are not merged afterwards, look at Msvm_DiskMergeSettingData",
        )
    if vm.state is VmState.CRITICAL:
        refuse("its state is critical", "bring it to a normal state")
    if vm.state is VmState.OTHER:
        note(f"hvps does not know its state; {TRIED}", "if the backup fails, look at the state with Get-VM")
    for state, word in _TEMPORARY_STATES.items():
        if vm.state is state:
            found.append(Finding(Severity.WAIT, f"it is {word}", "try again later"))
    for status in dict.fromkeys(vm.operational_status):
        if text := BUSY_STATUS.get(status):
            found.append(Finding(Severity.WAIT, text, "try again later"))
        elif text := NOTED_STATUS.get(status):
            note(f"{text}; {TRIED}", "see the Hyper-V event logs of the host")
        elif status not in IGNORED_STATUS:
            note(f"hvps does not know its operational status {status}; {TRIED}", "look at it with Get-VM")
    return found


def _event_findings(vm: VmInfo, known_until: datetime | None) -> list[Finding]:
    count, last = vm.commit_fork_events, vm.last_commit_fork
    if count is None:
        text = "the Hyper-V Worker log cannot be read, so events 3216 would be missed"
        return [Finding(Severity.NOTE, f"{text}; {TRIED}", "give the account access to the event logs")]
    if count == 0:
        return []
    times = counted(count, "time")
    if last is not None:
        times += f", last at {last:%Y-%m-%d %H:%M:%S} UTC"
    # The whole second counts: a person copies the time from the text above.
    if known_until is not None and last is not None and last.replace(microsecond=0) <= known_until:
        return [
            Finding(
                Severity.NOTE,
                f"event 3216 was logged {times}, which the playbook accepts",
                "remove accept_event_3216_until once the VM was started again",
            )
        ]
    return [
        Finding(
            Severity.REFUSE,
            f"event 3216 was logged in the Hyper-V Worker log since the VM was started ({times}): "
            "the disk chain is at risk",
            "do not restart or migrate it; see docs/troubleshooting.md",
        )
    ]


def _excluded(disk: DiskInfo, pattern: str) -> Finding:
    file = "physical disk" if disk.path is None else disk.path
    return Finding(
        Severity.NOTE,
        f"disk {slot_of(disk)} ({file}) is excluded by {pattern!r}",
        "back it up by other means if needed",
    )


def _on_child(disk: DiskInfo) -> bool:
    return disk.path is not None and is_child_file(disk.path)


def _orphaned_child(disk: DiskInfo) -> Finding:
    return Finding(
        Severity.REFUSE,
        f"disk {slot_of(disk)} uses {disk.path}, but the VM has no checkpoint",
        "create and remove a checkpoint to merge that file, see docs/troubleshooting.md",
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
                    f"another product's recovery checkpoint {checkpoint.name!r} exists",
                    "wait for that backup to end, or remove the checkpoint if it is abandoned",
                )
            )
        elif mark.repository_id != repository_id:
            found.append(
                Finding(
                    Severity.WAIT,
                    f"a recovery checkpoint for hvps repository {mark.repository_id} exists",
                    "wait for that backup to end; if its run is dead, the next one removes the checkpoint",
                )
            )
    return found


def _disk_findings(disk: DiskInfo) -> list[Finding]:
    slot = slot_of(disk)
    if disk.pass_through:
        return [
            Finding(
                Severity.REFUSE,
                f"disk {slot} is a physical disk, which a checkpoint cannot hold",
                "exclude it, and back it up from inside the VM",
            )
        ]
    if disk.path is None:
        return []
    if cannot_be_frozen(disk):
        return [
            Finding(
                Severity.REFUSE,
                f"disk {slot} is shared between VMs, which a checkpoint cannot hold",
                "exclude it, and back it up from inside the VM",
            )
        ]
    if disk.error is not None:
        return [
            Finding(
                Severity.REFUSE,
                f"disk {slot} cannot be read: {disk.error}",
                "repair its file",
                # As while a merge or another program has the file (docs/hyperv-facts.md#get-vhd-in-use).
                may_pass=disk.error.startswith("Hvps.DiskBusy"),
            )
        ]
    if disk.format is DiskFormat.VHD:
        return [
            Finding(
                Severity.NOTE,
                f"disk {slot} is a VHD, which has no change tracking: every backup compares it",
                "convert it to VHDX with Convert-VHD",
            )
        ]
    return []
