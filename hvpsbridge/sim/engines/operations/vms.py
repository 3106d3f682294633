"""``Get-HvpsVm``: VMs with what decides whether they can be backed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hvpsbridge.contract import results
from hvpsbridge.sim.engines.failure import Failure, failure
from hvpsbridge.sim.engines.operations.context import Context, answers, utc
from hvpsbridge.sim.model import VMState
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import CheckpointType, Event, ReplicationMode, Vm

_STATES = {
    VMState.Running: results.VmState.RUNNING,
    VMState.Off: results.VmState.OFF,
    VMState.Saved: results.VmState.SAVED,
    VMState.Paused: results.VmState.PAUSED,
    VMState.Starting: results.VmState.STARTING,
    VMState.Stopping: results.VmState.STOPPING,
    VMState.Saving: results.VmState.SAVING,
    VMState.Reset: results.VmState.RESETTING,
    VMState.Pausing: results.VmState.PAUSING,
    VMState.Resuming: results.VmState.RESUMING,
    VMState.FastSaved: results.VmState.SAVED,
    VMState.FastSaving: results.VmState.SAVING,
    VMState.ForceShutdown: results.VmState.STOPPING,
    VMState.ForceReboot: results.VmState.RESETTING,
    VMState.Hibernated: results.VmState.SAVED,
    VMState.ComponentServicing: results.VmState.SERVICING,
    **{state: results.VmState.CRITICAL for state in VMState if state.name.endswith("Critical")},
}
_POLICIES = {
    CheckpointType.Disabled: results.CheckpointPolicy.DISABLED,
    CheckpointType.Production: results.CheckpointPolicy.PRODUCTION,
    CheckpointType.ProductionOnly: results.CheckpointPolicy.PRODUCTION_ONLY,
    CheckpointType.Standard: results.CheckpointPolicy.STANDARD,
}
_REPLICATION = {
    ReplicationMode.None_: results.ReplicationMode.NONE,
    ReplicationMode.Primary: results.ReplicationMode.PRIMARY,
    ReplicationMode.Replica: results.ReplicationMode.REPLICA,
    ReplicationMode.TestReplica: results.ReplicationMode.TEST_REPLICA,
    ReplicationMode.ExtendedReplica: results.ReplicationMode.EXTENDED_REPLICA,
}


def remove_saved_state(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsSavedState``."""
    vm = context.vm(given["VmId"])
    saved = vm.state is VMState.Saved
    if saved:
        context.cmdlet("Remove-VMSavedState", vm.vm_id)
        context.model.vms.set_state(vm.vm_id, "discard")
    yield results.Removal(saved)


def get_vm(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsVm``."""
    wanted = given.get("VmId")
    context.import_module()
    facts = _HostFacts(
        merge=answers(lambda: context.query("Msvm_DiskMergeSettingData", wanted or "")),
        security=answers(lambda: context.query("Msvm_SecuritySettingData", wanted or "")),
        forks=_fork_events(context) if given.get("ReadEvents") else None,
    )
    if wanted is not None:
        found = _vm_info(context, context.vm(wanted), facts)
        if found is None:
            raise failure("Hvps.VmNotFound", f"VM {wanted} does not exist")
        yield found
        return
    context.cmdlet("Get-VM")
    for vm in context.model.vms.all(context.node):
        found = _vm_info(context, vm, facts)
        if found is not None:
            yield found


@dataclass(frozen=True, slots=True)
class _HostFacts:
    """What one query answers for all VMs of a host.

    Attributes:
        merge: whether merge settings can be read.
        security: whether security settings can be read.
        forks: events 3216; None if they were not or cannot be read.
    """

    merge: bool
    security: bool
    forks: tuple[Event, ...] | None


def _fork_events(context: Context) -> tuple[Event, ...] | None:
    """Events 3216; None if they cannot be read (``Get-HvpsCommitFork``)."""
    try:
        context.cmdlet("Get-WinEvent")
    except CallRefused as err:
        return () if err.identifier.startswith(("NoMatchingEventsFound", "NoMatchingLogsFound")) else None
    return tuple(event for event in context.model.nodes.events(context.node) if event.event_id == 3216)


def _forks_since_start(context: Context, vm: Vm, events: tuple[Event, ...] | None) -> list[float] | None:
    """Times of the events of a VM since it was started."""
    if events is None:
        return None
    times = [event.time for event in events if event.vm_id == vm.vm_id]
    if not times:
        return times
    known = answers(lambda: context.query("Msvm_ComputerSystem", vm.vm_id)) and vm.started is not None
    known = known and answers(lambda: context.query("Win32_Process"))
    return [time for time in times if not known or vm.started is None or time >= vm.started]


def _secured(context: Context, vm: Vm, facts: _HostFacts) -> bool:
    """Whether the host tells the security settings of a VM (``Get-HvpsSecurity``)."""
    if facts.security and not context.model.knobs.no_security_settings:
        return True
    return answers(lambda: context.cmdlet("Get-VMSecurity", vm.vm_id))


def _left(context: Context, vm: Vm) -> bool:
    """Whether the VM has left the host."""
    try:
        context.vm(vm.vm_id)
    except Failure as err:
        return err.is_a("Hvps.VmNotFound")
    except CallRefused:
        return False
    return False


def _vm_info(context: Context, vm: Vm, facts: _HostFacts) -> results.VmInfo | None:
    model = context.model
    now = model.clock.now()
    if vm.unreadable and _left(context, vm):
        return None
    running = vm.state in (VMState.Running, VMState.Paused) and vm.started is not None and not vm.unreadable
    secured = _secured(context, vm, facts)
    forks = _forks_since_start(context, vm, facts.forks)
    return results.VmInfo(
        vm_id=vm.vm_id,
        name=vm.name,
        state=_STATES.get(vm.state, results.VmState.OTHER),
        operational_status=context.model.vms.status(vm.vm_id),
        generation=vm.generation,
        version=vm.version,
        checkpoint_policy=_POLICIES.get(vm.checkpoint_type, results.CheckpointPolicy.UNKNOWN),
        automatic_checkpoints=vm.automatic_checkpoints,
        parent_checkpoint_id=vm.parent_checkpoint,
        replication_mode=results.ReplicationMode.NONE if vm.unreadable else _REPLICATION[vm.replication_mode],
        is_clustered=vm.clustered,
        shielded=vm.shielded if secured else None,
        tpm_enabled=vm.tpm_enabled if secured else None,
        merge_enabled=vm.merge_enabled if facts.merge and not model.knobs.no_merge_settings else None,
        commit_fork_events=None if forks is None else len(forks),
        last_commit_fork=utc(max(forks)) if forks else None,
        configuration_path=vm.folder,
        checkpoint_path=vm.folder,
        uptime_seconds=int(now - vm.started) if running and vm.started is not None else 0,
        processor_count=vm.processor_count,
        memory_bytes=vm.memory_bytes,
        settings_error="the host does not tell ReplicationMode" if vm.unreadable else None,
    )
