"""Keeps the cluster of a VM from starting it while its disks are written.

Only the resource that starts and stops the VM is taken offline. With that of its configuration the host would
not know the VM any more (docs/hyperv-facts.md#cluster-resources).
"""

from __future__ import annotations

from dataclasses import replace

from hvpsbridge.contract.restoring import RoleState
from hvpsbridge.contract.results import VmInfo, VmState
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.formats.in_place import InPlaceRestore
from hvpsbridge.host.hyperv import HyperVHost


def role_problems(host: HyperVHost, vm: VmInfo) -> list[str]:
    """What about the role of a VM is in the way, one line each.

    Raises:
        HostError: the cluster cannot be asked.
    """
    if not vm.is_clustered:
        return []
    role = host.restoring.cluster_role(vm.vm_id)
    if role.state in (RoleState.PENDING, RoleState.OTHER):
        return [f"its cluster resource {role.name} is {role.state}; wait until it is offline"]
    return []


def with_role(host: HyperVHost, vm: VmInfo, restore: InPlaceRestore) -> InPlaceRestore:
    """The restore with the role that is to be brought online again, before it is taken offline.

    Raises:
        HostError: the cluster cannot be asked.
    """
    if not vm.is_clustered or restore.role:
        return restore
    role = host.restoring.cluster_role(vm.vm_id)
    return replace(restore, role=role.name) if role.state is RoleState.ONLINE else restore


def take_offline(host: HyperVHost, vm: VmInfo) -> None:
    """Take the role of a VM offline; a VM without one is left alone.

    Raises:
        HostError: the cluster does not do it.
    """
    if vm.is_clustered:
        host.restoring.set_cluster_role(vm.vm_id, online=False)


def check_still_off(host: HyperVHost, vm: VmInfo) -> None:
    """Check that the cluster did not start the VM again.

    Raises:
        ConfigurationError: it did.
        HostError: the host cannot be asked.
    """
    if vm.is_clustered and host.vm(vm.vm_id).state is not VmState.OFF:
        raise ConfigurationError(
            f"restore onto {host.name}",
            f"the cluster started VM {vm.name} again, although its resource was taken offline; remove the VM "
            "from the cluster (Remove-ClusterGroup) and add it again afterwards, or restore it as a copy",
        )


def bring_back(host: HyperVHost, restore: InPlaceRestore) -> tuple[str, ...]:
    """Bring the role online again if it had been; a line about it.

    Raises:
        HostError: the cluster does not do it.
    """
    if not restore.role:
        return ()
    host.restoring.set_cluster_role(restore.vm_id, online=True)
    return (f"cluster resource {restore.role} is online again, as before",)
