"""Rows 1 and 3: find the VM, take its lease, wait for temporary conditions and make the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hvpsbridge.contract.results import (
    CheckpointInfo,
    DiskInfo,
    HostInfo,
    ReferencePointInfo,
    VmInfo,
    VolumeInfo,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import (
    AccessDenied,
    Gated,
    HostNoSpace,
    NotEligible,
    NothingToBackUp,
    OperationFailed,
    ScriptsRefused,
    VmNotFound,
)
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.lease import Lease
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.preflight import check_shares, note_duration
from hvpsbridge.tasks.backup.state import BackupState, step
from hvpsbridge.tasks.cleanup.ownership import has_ids_of, has_published_ids, own_reference_points
from hvpsbridge.tasks.host_records import build_of
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.build_trust import BuildTrust, trust_build
from hvpsbridge.tasks.planning.eligibility import (
    NO_DISK,
    Finding,
    cannot_be_frozen,
    examine,
    excluded_disks,
    included_disks,
    refusals,
    waits,
)
from hvpsbridge.tasks.planning.lineage import Lineage, read_lineage
from hvpsbridge.tasks.planning.plan import DiskFacts, VmPlan, plan_disks
from hvpsbridge.tasks.planning.space import child_growth, space_shortage
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.steps import Step


@dataclass(frozen=True, slots=True)
class Leased:
    """The VM's host, and the right to work on the VM.

    Attributes:
        info: the host as it describes itself.
        lease: on the VM; held while this value is used.
        journal: where what is done on the host is written down.
    """

    info: HostInfo
    lease: Lease
    journal: Journal


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan and what it was made from.

    Attributes:
        plan: what is done for each disk.
        lineage: the VM's recovery points so far.
        volumes: those the VM's disks are on.
        ignore_disks: whether the checkpoint must leave out disks that Hyper-V cannot freeze.
        trust: how far the host is trusted on its build of Windows.
    """

    plan: VmPlan
    lineage: Lineage
    volumes: tuple[VolumeInfo, ...]
    ignore_disks: bool
    trust: BuildTrust


@dataclass(frozen=True, slots=True)
class _Looked:
    """The VM and its drives; checkpoints is None before earlier runs are cleaned up after."""

    vm: VmInfo
    disks: tuple[DiskInfo, ...]
    checkpoints: tuple[CheckpointInfo, ...] | None = None
    reference_points: tuple[ReferencePointInfo, ...] = ()
    volumes: tuple[VolumeInfo, ...] = ()


# Errors that the host does not take back within moments.
_LASTING = (VmNotFound, ScriptsRefused, AccessDenied)


@contextlib.contextmanager
def resolve(context: BackupContext, state: BackupState) -> Iterator[Leased]:
    """Find the VM, refuse it if it cannot be backed up, and hold its lease while the block runs.

    Raises:
        VmNotFound: the host does not have it.
        NotEligible: it cannot be backed up.
        NothingToBackUp: it has no disk, and only a pattern matches it.
        RepositoryLocked: another run is working on it.
    """
    host, repository = context.host, context.repository
    with contextlib.ExitStack() as stack:
        with step(context, state, Step.RESOLVE):
            info = host.host_info()
            _refuse_early(context, state)
            vm_id = context.vm_id
            lease = stack.enter_context(repository.lease(vm_id, current_holder(context.run_id)))
            journal = Journal(repository.ledger(vm_id), context.run_id, vm_id, host.name)
            # From here on hvps has something on the host: this shell.
            journal.shell_opened(host.shell_id, info)
        yield Leased(info, lease, journal)


def plan(context: BackupContext, state: BackupState, info: HostInfo, *, wait: bool) -> Planned:
    """Plan each disk, once nothing prevents a backup, and report the plan to the observer.

    Args:
        context: the backup.
        state: of the attempt.
        info: the host.
        wait: wait for temporary conditions to pass; false for a run that only plans.

    Raises:
        NotEligible: the VM cannot be backed up.
        Gated: a temporary condition did not pass in time.
        HostNoSpace: a volume has no room for what the checkpoint may take.
    """
    looked = _look(context, state, wait=wait)
    vm, disks, volumes = looked.vm, looked.disks, looked.volumes
    lineage = read_lineage(context.repository, vm.vm_id)
    ours = own_reference_points((), lineage, looked.reference_points)
    _report_move(context, state, info, lineage, ours)
    exclude = context.options.disks.exclude
    drives, out = included_disks(disks, exclude), excluded_disks(disks, exclude)
    excluded = [disk for disk, _ in out]
    check_shares(context, state, drives)
    trust = _trust(context, info, lineage)
    decided = plan_disks(
        vm,
        map(DiskFacts.of_drive, drives),
        lineage,
        build=trust,
        reference_points=[point.instance_id for point in ours],
        force_compare=context.options.force_compare,
        excluded=excluded,
    )
    paths = {slot_of(drive): drive.path or "" for drive in drives}
    growth = child_growth(decided, paths, volumes, lineage, excluded)
    state.plan = VmPlan(
        vm,
        decided,
        growth,
        tuple(
            ExcludedDisk(slot_of(disk), disk.disk_id, disk.path, disk.size_bytes, pattern)
            for disk, pattern in out
        ),
    )
    context.observer.planned(context.vm, state.plan)
    if not wait:
        note_duration(context, state, drives, decided)
    shortage = space_shortage(volumes, context.options.limits.free_space_floor, growth)
    if shortage is not None:
        raise HostNoSpace(vm.name, shortage)
    return Planned(state.plan, lineage, volumes, any(map(cannot_be_frozen, excluded)), trust)


def _trust(context: BackupContext, info: HostInfo, lineage: Lineage) -> BuildTrust:
    """How far the host is trusted; once in a run a note if its build was not proved."""
    options = context.options
    record = context.shared.records.load(info)
    trust = trust_build(build_of(info), context.host.name, record, options.proved_builds, lineage)
    unproved = options.proof is ProofPolicy.AUTO and not trust.proved
    if unproved and context.shared.said.first(f"{context.host.name} {trust.build}"):
        why = "" if trust.build.revision else ", because the host does not say which update it has"
        context.note(
            f"Windows {trust.build} does not count as proved on {context.host.name}{why}, so each point is "
            "compared with its frozen disks; see docs/real-host.md#prove-a-host"
        )
    return trust


def _refuse_early(context: BackupContext, state: BackupState) -> None:
    """Refuse a VM that cannot be backed up before its lease is taken; what may pass is left to the plan."""
    host, vm_id = context.host, context.vm_id
    try:
        looked = _Looked(_read_vm(context, state, read_events=True), host.disks(vm_id))
    except OperationFailed as err:
        if isinstance(err, _LASTING):
            raise
        context.note(f"cannot be examined yet: {err}")
        return
    _refuse_unfit(context, state, looked, patient=True)


def _report_move(
    context: BackupContext,
    state: BackupState,
    info: HostInfo,
    lineage: Lineage,
    ours: Iterable[ReferencePointInfo],
) -> None:
    """Name both hosts if the VM is on another one than before: a warning, unless the move is confirmed.

    Any host can list any VM, so an unexpected move must be visible. It is confirmed if the old host was asked
    and does not list the VM any more, as in a cluster every night. A renamed host reports its old name, which
    any host could, and has the reference point of the newest point, which no other host can know.
    """
    now = context.host.name
    newest = lineage.points[-1].manifest if lineage.points else None
    if newest is None or newest.host.casefold() == now.casefold():
        return
    text = f"its newest point was made on {newest.host}, and now it is on {now}"
    own_names = {name.casefold() for name in (info.name, info.fqdn) if name}
    renamed = newest.host.casefold() in own_names and any(
        has_ids_of(newest, one) or has_published_ids(lineage.points[-1], one) for one in ours
    )
    if context.is_without(newest.host):
        context.note(text)
    elif renamed:
        context.note(f"{text}, which is the same host under another name")
    else:
        state.warn(text)


def _look(context: BackupContext, state: BackupState, *, wait: bool) -> _Looked:
    """The VM as the host describes it, once nothing prevents a backup and all of it can be read."""
    limits = context.options.limits
    until = context.clock() + (limits.wait if wait else 0)
    patient_until = context.clock() + (limits.held_merge_seconds if wait else 0)
    read_events, noted, waited = state.forks is None, False, False
    while True:
        patient = context.clock() < patient_until
        try:
            looked = _read_all(context, state, read_events=read_events)
            gates = _refuse_unfit(context, state, looked, patient=patient)
        except OperationFailed as err:
            if not patient or isinstance(err, _LASTING):
                raise
            reason = str(err)
        else:
            if not gates and not waited:
                return looked
            if not gates:
                # What ended meanwhile may have logged an event.
                read_events, waited = True, False
                continue
            lasting = [finding for finding in gates if not finding.may_pass]
            if lasting and context.clock() >= until:
                raise Gated(looked.vm.name, str(lasting[0]))
            reason = gates[0].text
        if not noted:
            context.note(f"waiting: {reason}")
        read_events, noted, waited = state.forks is None, True, True
        context.cancel.pause(limits.poll_seconds)


def _read_vm(context: BackupContext, state: BackupState, *, read_events: bool) -> VmInfo:
    """The VM. The event log is read when asked for; otherwise what it had before counts."""
    vm = context.host.vm(context.vm_id, read_events=read_events)
    if read_events or state.forks is None:
        state.forks = (vm.commit_fork_events, vm.last_commit_fork)
    count, last = state.forks
    return replace(vm, commit_fork_events=count, last_commit_fork=last)


def _read_all(context: BackupContext, state: BackupState, *, read_events: bool) -> _Looked:
    host, vm_id = context.host, context.vm_id
    return _Looked(
        _read_vm(context, state, read_events=read_events),
        host.disks(vm_id),
        host.checkpoints(vm_id),
        host.reference_points(vm_id),
        _read_volumes(context, state),
    )


def _read_volumes(context: BackupContext, state: BackupState) -> tuple[VolumeInfo, ...]:
    """The volumes; none if the host cannot tell them, since the guard asks again while disks are read."""
    try:
        return context.host.volumes(context.vm_id)
    except OperationFailed as err:
        state.warn(f"free space on the volumes of the VM is unknown: {err}")
        return ()


def _refuse_unfit(
    context: BackupContext, state: BackupState, looked: _Looked, *, patient: bool
) -> tuple[Finding, ...]:
    """What has to be waited for; with ``patient`` also refusals that may pass. Other refusals are raised."""
    vm = looked.vm
    state.findings = examine(
        vm,
        looked.disks,
        looked.checkpoints,
        context.repository.repository_id,
        context.options.disks.exclude,
        context.options.accept_event_3216_until,
    )
    refused = refusals(state.findings)
    if NO_DISK in refused and not context.named and not read_lineage(context.repository, vm.vm_id).points:
        raise NothingToBackUp(vm.name)
    passing = tuple(finding for finding in refused if patient and finding.may_pass)
    if len(refused) > len(passing):
        raise NotEligible(vm.name, str(next(one for one in refused if one not in passing)))
    return passing + waits(state.findings)
