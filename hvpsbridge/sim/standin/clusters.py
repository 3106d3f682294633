"""What the cmdlets of FailoverClusters show and do, as far as restores use them."""

from __future__ import annotations

from uuid import UUID, uuid5

from hvpsbridge.sim.model import HyperVError, Wmi
from hvpsbridge.sim.model.state import ResourceState, Role
from hvpsbridge.sim.standin.rows import Row, Rows

# Name of the resource that starts and stops a VM, and of the one that registers it.
VM_RESOURCE, CONFIGURATION_RESOURCE = "Virtual Machine", "Virtual Machine Configuration"


def cluster(rows: Rows) -> list[Row]:
    """``Get-Cluster``. An error on a host outside of a cluster."""
    _check(rows)
    return [{"Name": rows.host.cluster}]


def cluster_resources(rows: Rows, vm: str) -> list[Row]:
    """``Get-ClusterResource`` with ``-VMId``: that of the VM, and that of its configuration."""
    _check(rows)
    role = rows.model.clusters.role(UUID(vm), rows.node)
    return [
        _resource(rows, role, CONFIGURATION_RESOURCE, ResourceState.Online),
        _resource(rows, role, VM_RESOURCE, role.state),
    ]


def stop_resource(rows: Rows, vm: str) -> list[Row]:
    """``Stop-ClusterResource`` of the resource of a VM."""
    _check(rows)
    role = rows.model.clusters.take_offline(UUID(vm), rows.node)
    return [_resource(rows, role, VM_RESOURCE, role.state)]


def start_resource(rows: Rows, vm: str) -> list[Row]:
    """``Start-ClusterResource`` of the resource of a VM."""
    _check(rows)
    role = rows.model.clusters.bring_online(UUID(vm), rows.node)
    return [_resource(rows, role, VM_RESOURCE, role.state)]


def _check(rows: Rows) -> None:
    if rows.host.cluster is None:
        raise HyperVError(Wmi.FAILED, rows.text("failed"))


def _resource(rows: Rows, role: Role, kind: str, state: ResourceState) -> Row:
    vm = rows.model.vms.get(role.vm_id)
    return {
        "Vm": str(vm.vm_id),
        "Name": f"{kind} {vm.name}",
        "Id": str(uuid5(vm.vm_id, kind)),
        "ResourceType": kind,
        "OwnerGroup": vm.name,
        "OwnerNode": vm.node,
        "State": int(state),
    }
