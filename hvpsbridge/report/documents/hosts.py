"""Documents about hosts: ``hvps host`` and ``hvps inventory``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from hvpsbridge.contract.checks import HostAccess, StorageInfo
from hvpsbridge.contract.results import DiskInfo, HostInfo, VmInfo
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.host.checks import RateSample
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.host.shown_certificate import ShownCertificate
from hvpsbridge.report.documents.document import Document
from hvpsbridge.report.documents.run import ConditionReport, condition
from hvpsbridge.report.values import INLINE
from hvpsbridge.tasks.cleanup.leftovers import HostObject, VmObjects
from hvpsbridge.tasks.cleanup.sweep import SweepResult
from hvpsbridge.tasks.host_check import CheckState, HostCheck
from hvpsbridge.tasks.host_facts import CheckedHost
from hvpsbridge.tasks.planning.eligibility import Finding, Severity
from hvpsbridge.text import one_line


@dataclass(frozen=True, slots=True)
class VmChecked:
    """What matters to a backup of one VM.

    Attributes:
        storage: volumes and shares behind it.
        full_bytes: about how much a full reads.
        full_seconds: how long that takes at the measured rate; null if none was measured.
    """

    vm: str
    vm_id: UUID
    findings: tuple[Finding, ...]
    storage: tuple[StorageInfo, ...]
    full_bytes: int
    full_seconds: float | None


@dataclass(frozen=True, slots=True)
class HostChecked(Document):
    """Whether a host and its VMs can be backed up.

    Attributes:
        host: null if the host refuses the scripts of hvps, or shows nothing to the account.
        findings: the checks that need attention, as findings.
        checks: everything that was checked.
        access: rights of the session; null if they could not be asked.
        limits: limits of WinRM; null for each that could not be read.
        rate: how fast one reader of the host sends; null if it was not measured.
        exit_code: exit code of the command.
        problems: VMs that cannot be read.
    """

    host: HostInfo | None
    findings: tuple[Finding, ...]
    vms: tuple[VmChecked, ...]
    exit_code: int
    problems: tuple[ConditionReport, ...]
    checks: tuple[HostCheck, ...]
    access: HostAccess | None
    limits: WinRmLimits | None
    rate: RateSample | None


@dataclass(frozen=True, slots=True)
class CertificateShown(Document):
    """The certificate of a host.

    Attributes:
        address: server and port.
        file: the file that pins the certificate now, if one was given, else null.
    """

    host: str
    address: str
    certificate: ShownCertificate
    file: Path | None


@dataclass(frozen=True, slots=True)
class InventoryDisk:
    """A disk of a VM.

    Attributes:
        slot: controller and position, as scsi 0:1.
    """

    slot: str
    disk: DiskInfo = field(metadata=INLINE)


@dataclass(frozen=True, slots=True)
class InventoryVm:
    """A VM with its disks.

    Attributes:
        findings: what matters to a backup of it.
        error: why its disks and findings are not known, else null.
    """

    vm: VmInfo = field(metadata=INLINE)
    disks: tuple[InventoryDisk, ...]
    findings: tuple[Finding, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class Inventory(Document):
    """VMs of a host.

    Attributes:
        problems: VMs that cannot be read.
    """

    host: HostInfo
    vms: tuple[InventoryVm, ...]
    problems: tuple[ConditionReport, ...]


@dataclass(frozen=True, slots=True)
class VmSwept:
    """What was found on the host for one VM, and what was done.

    Attributes:
        things: checkpoints, reference points and shells.
        unsettled_runs: runs that ended without cleaning up.
        done: what was removed or converted, one line each.
        left: what is still there and why, one line each.
        error: why it was not finished, else null.
    """

    vm: str
    vm_id: UUID
    things: tuple[HostObject, ...]
    unsettled_runs: tuple[UUID, ...]
    done: tuple[str, ...]
    left: tuple[str, ...]
    error: ConditionReport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSwept(Document):
    """Result of ``hvps host sweep`` or ``hvps host forget``.

    Attributes:
        dry_run: whether nothing was changed.
        exit_code: exit code of the command.
        problems: VMs that cannot be read.
    """

    command: Literal["sweep", "forget"]
    host: str
    dry_run: bool
    exit_code: int
    vms: tuple[VmSwept, ...]
    problems: tuple[ConditionReport, ...]


_SEVERITIES = {CheckState.REFUSE: Severity.REFUSE, CheckState.NOTE: Severity.NOTE}


def host_checked(found: CheckedHost, exit_code: ExitCode) -> HostChecked:
    """The document of ``hvps host check``."""
    return HostChecked(
        host=found.info,
        findings=tuple(
            Finding(_SEVERITIES[check.state], check.text, check.remedy)
            for check in found.checks
            if check.state in _SEVERITIES
        ),
        vms=tuple(
            VmChecked(one.vm.name, one.vm.vm_id, one.findings, one.storage, one.full_bytes, one.full_seconds)
            for one in found.vms
        ),
        exit_code=int(exit_code),
        problems=tuple(map(condition, found.problems)),
        checks=found.checks,
        access=found.access,
        limits=found.limits,
        rate=found.rate,
    )


def inventory_vm(
    vm: VmInfo, disks: Sequence[DiskInfo], findings: Sequence[Finding], error: HvpsError | None
) -> InventoryVm:
    """The entry of a VM in an inventory."""
    return InventoryVm(
        vm,
        tuple(InventoryDisk(slot_of(disk), disk) for disk in disks),
        tuple(findings),
        None if error is None else one_line(str(error)),
    )


def host_swept(
    command: Literal["sweep", "forget"],
    host: str,
    *,
    dry_run: bool,
    exit_code: ExitCode,
    swept: Sequence[SweepResult],
    problems: Sequence[HvpsError],
) -> HostSwept:
    """The document of a sweep.

    Args:
        swept: what was found and done, of every VM.
        problems: errors of VMs that cannot be read.
    """
    return HostSwept(
        command=command,
        host=host,
        dry_run=dry_run,
        exit_code=int(exit_code),
        vms=tuple(_vm_swept(one.found, one) for one in swept),
        problems=tuple(map(condition, problems)),
    )


def _vm_swept(there: VmObjects, result: SweepResult) -> VmSwept:
    return VmSwept(
        there.vm.name,
        there.vm.vm_id,
        there.objects,
        there.open_runs,
        result.done,
        result.left,
        None if result.error is None else condition(result.error),
    )
