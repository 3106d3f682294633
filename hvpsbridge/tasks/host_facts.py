"""Asks a host everything that ``hvps host check`` shows. Changes nothing there.

An answer that a host does not give is a row of the result, so that the others are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from hvpsbridge.contract.checks import DiskProbe, HostAccess, StorageInfo
from hvpsbridge.contract.results import DiskInfo, HostInfo, VmInfo
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import AccessDenied, HostError, Interrupted, ScriptsRefused
from hvpsbridge.formats.in_place import InPlaceDisk
from hvpsbridge.host.checks import RateSample
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.tasks import host_check
from hvpsbridge.tasks.host_check import CheckState, HostCheck, Reached
from hvpsbridge.tasks.host_limits import check_limits
from hvpsbridge.tasks.host_records import HostRecords
from hvpsbridge.tasks.hosts import host_error
from hvpsbridge.tasks.planning.eligibility import Finding, Severity, examine, included_disks, refusals
from hvpsbridge.tasks.planning.estimate import duration_finding, full_bytes
from hvpsbridge.tasks.planning.storage import share_findings, share_of, storage_findings
from hvpsbridge.tasks.policy import BackupLimits

T = TypeVar("T")

# A check opens no repository, so it takes no checkpoint for one of its own.
_NO_REPOSITORY = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedVm:
    """What was found about one VM.

    Attributes:
        findings: most severe first.
        storage: volumes and shares behind it; empty if they could not be listed.
        full_bytes: about how much a full reads.
        full_seconds: how long that takes at the measured rate; None if none was measured.
    """

    vm: VmInfo
    findings: tuple[Finding, ...]
    storage: tuple[StorageInfo, ...] = ()
    full_bytes: int = 0
    full_seconds: float | None = None

    @property
    def fit(self) -> bool:
        """Whether it can be backed up."""
        return not refusals(self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedHost:
    """What was found about a host.

    Attributes:
        info: None if the host refuses the scripts of hvps, or shows nothing to the account.
        checks: in the order in which a backup would meet them.
        problems: VMs that cannot be read.
    """

    info: HostInfo | None
    checks: tuple[HostCheck, ...]
    access: HostAccess | None = None
    limits: WinRmLimits | None = None
    rate: RateSample | None = None
    vms: tuple[CheckedVm, ...] = ()
    problems: tuple[HostError, ...] = ()

    @property
    def fit(self) -> bool:
        """Whether backups can run on the host at all."""
        return all(check.state is not CheckState.REFUSE for check in self.checks)


def examine_host(host: HyperVHost, reached: Reached, records: HostRecords) -> CheckedHost:
    """Everything that matters to backups on a host.

    Args:
        host: the host.
        reached: how it was reached.
        records: what is known about hosts.

    Raises:
        HostError: the host does not describe itself or list its VMs, and its reason is not known.
    """
    state = CheckedHost(info=None, checks=tuple(host_check.check_reached(reached)))
    try:
        info = host.host_info()
    except ScriptsRefused as err:
        return _add(state, host_check.scripts_refused(err.message))
    except AccessDenied:
        # Hyper-V shows nothing to this account. Its token may say why.
        access, _ = _ask(host, "Get-HvpsAccess", host.checks.access)
        if access is None or (rights := host_check.check_rights(access)).state is CheckState.GOOD:
            raise
        return replace(_add(state, rights), access=access)
    state = replace(state, info=info)
    state = _add(state, *host_check.check_system(info, datetime.now(UTC)))
    access, why = _ask(host, "Get-HvpsAccess", host.checks.access)
    if access is None:
        state = _add(state, host_check.check_elevation(info), host_check.not_found_out("protection", why))
    else:
        state = _add(state, host_check.check_rights(access), host_check.check_protection(access))
    state = replace(state, access=access)
    limits = host.checks.limits()
    state = replace(_add(state, *check_limits(limits)), limits=limits)
    known = records.load(info)
    state = _add(state, host_check.check_proof(known))
    state = _add(state, host_check.check_ids(known))
    if not state.fit:
        # The compiler, disks and rate would only repeat it.
        return _with_vms(state, host)
    reader, why = _ask(host, "Test-HvpsReader", host.check_reader)
    if reader is None:
        return _with_vms(_add(state, host_check.compiler_failed(why)), host)
    rate, why = _ask(host, "Read-HvpsSample", host.checks.measure_rate)
    measured = host_check.not_found_out("rate", why) if rate is None else host_check.check_rate(rate)
    state = replace(_add(state, host_check.check_compiler(reader), measured), rate=rate)
    return _with_vms(state, host)


def _with_vms(state: CheckedHost, host: HyperVHost) -> CheckedHost:
    listed, problems = host.list_vms(read_events=True)
    probes = _Probes(host, enabled=state.fit)
    vms = tuple(_checked_vm(host, vm, probes, state.rate) for vm in listed)
    state = replace(state, vms=vms, problems=problems)
    if probes.local is not None:
        state = _add(state, host_check.check_disk(probes.local))
    return state


class _Probes:
    """Disks that were opened for information: one on local storage, and one on each share.

    Attributes:
        local: the first that is on no share; None if there is none.
    """

    def __init__(self, host: HyperVHost, *, enabled: bool) -> None:
        self._host = host
        self._enabled = enabled
        self._shares: dict[str, DiskProbe] = {}
        self.local: DiskProbe | None = None

    def of(self, disks: tuple[DiskInfo, ...]) -> Iterator[DiskProbe]:
        """Results for the shares of these disks."""
        for disk in disks if self._enabled else ():
            path = disk.path or ""
            if (share := share_of(path)) is not None:
                if share not in self._shares:
                    self._shares[share] = self._host.checks.probe_disk(path)
                yield replace(self._shares[share], path=path)
            elif self.local is None and disk.error is None:
                self.local = self._host.checks.probe_disk(path)


def _checked_vm(host: HyperVHost, vm: VmInfo, probes: _Probes, rate: RateSample | None) -> CheckedVm:
    limits = BackupLimits()
    try:
        disks, checkpoints = host.disks(vm.vm_id), host.checkpoints(vm.vm_id)
        storage = host.checks.storage(vm.vm_id)
        included = included_disks(disks)
        findings = [
            *examine(vm, disks, checkpoints, _NO_REPOSITORY),
            *share_findings(probes.of(included)),
            *storage_findings(storage, limits.free_space_floor),
            *_open_restores(host, disks),
        ]
    except Interrupted:
        raise
    except Exception as err:  # noqa: BLE001 - whatever it is, it concerns this VM
        return CheckedVm(vm=vm, findings=(_unreadable(host, err),))
    size, seconds = full_bytes(included), None
    if rate is not None:
        seconds = size / max(rate.rate_bytes, 1.0)
        note = duration_finding(size, rate.rate_bytes, limits.checkpoint_age)
        findings += [] if note is None else [note]
    order = list(Severity)
    return CheckedVm(
        vm=vm,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        storage=storage,
        full_bytes=size,
        full_seconds=seconds,
    )


def _open_restores(host: HyperVHost, disks: Iterable[DiskInfo]) -> Iterator[Finding]:
    """Disks that are missing because a restore in place gave them another name."""
    for disk in disks:
        if disk.error is None or disk.path is None:
            continue
        written = InPlaceDisk.of(slot_of(disk), disk.path).written
        if host.checks.probe_disk(written).native is None:
            yield Finding(
                Severity.REFUSE,
                f"a restore into disk {slot_of(disk)} is at work or did not end: it is named {written}",
                "if none is at work, do it again to finish it, or use `hvps host undo`",
            )


def _unreadable(host: HyperVHost, err: Exception) -> Finding:
    text = f"cannot be examined: {host_error(host.name, 'Get-HvpsDisk', err).describe()}"
    return Finding(Severity.REFUSE, text, "see the event logs of the host")


def _ask(host: HyperVHost, operation: str, question: Callable[[], T]) -> tuple[T | None, str]:
    """The answer, or None and why there is none."""
    try:
        return question(), ""
    except Interrupted:
        raise
    except Exception as err:  # noqa: BLE001 - a row of the result says so
        return None, host_error(host.name, operation, err).describe()


def _add(state: CheckedHost, *checks: HostCheck) -> CheckedHost:
    return replace(state, checks=(*state.checks, *checks))
