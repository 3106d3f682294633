"""Operations about the cluster resource of a VM (``lib/Cluster.ps1``)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from hvpsbridge.contract.restoring import ClusterRole, RoleState
from hvpsbridge.sim.engines.failure import failure
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import HyperVError
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import ResourceState

_STATES = {
    ResourceState.Online: RoleState.ONLINE,
    ResourceState.Offline: RoleState.OFFLINE,
    ResourceState.Failed: RoleState.FAILED,
    ResourceState.OnlinePending: RoleState.PENDING,
    ResourceState.OfflinePending: RoleState.PENDING,
}
_SECONDS = 120


def get_role(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsClusterRole``."""
    context.import_module()
    yield _role(context, given["VmId"])


def set_role(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Set-HvpsClusterRole``."""
    context.import_module()
    vm_id, online = given["VmId"], bool(given.get("Online"))
    seconds = _SECONDS if given.get("Seconds") is None else given["Seconds"]
    wanted = RoleState.ONLINE if online else RoleState.OFFLINE
    end, asked = time.monotonic() + seconds, False
    while True:
        role = _role(context, vm_id)
        if role.state is wanted:
            yield role
            return
        if asked and role.state is not RoleState.PENDING:
            raise failure("Hvps.JobFailed", f"cluster resource {role.name} is {role.state} and not {wanted}")
        if time.monotonic() > end:
            raise failure(
                "Hvps.JobTimedOut", f"cluster resource {role.name} is {role.state} and not {wanted}"
            )
        if not asked and role.state is not RoleState.PENDING:
            asked = _ask(context, vm_id, online=online)
            if asked:
                continue
        context.pause()


def _ask(context: Context, vm_id: UUID, *, online: bool) -> bool:
    """Ask the cluster; false if it is busy."""
    clusters = context.model.clusters
    try:
        context.cmdlet("Start-ClusterResource" if online else "Stop-ClusterResource", vm_id)
    except CallRefused as err:
        if err.category != "ResourceBusy":
            raise
        return False
    (clusters.bring_online if online else clusters.take_offline)(vm_id, context.node)
    return True


def _role(context: Context, vm_id: UUID) -> ClusterRole:
    context.cmdlet("Get-ClusterResource", vm_id)
    try:
        role = context.model.clusters.role(vm_id, context.node)
        name = context.model.vms.get(vm_id, context.node).name
    except HyperVError as err:
        raise CallRefused(err.code, err.message) from err
    return ClusterRole(vm_id, f"Virtual Machine {name}", _STATES[role.state])
