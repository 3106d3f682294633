"""What the cluster of a host answers about its VMs."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.roles import Roles
from hvpsbridge.sim.model.state import Role
from hvpsbridge.sim.model.timeline import Timeline


class Clusters:
    """Clusters of a world. A VM is asked about on the host that has it."""

    def __init__(self, core: Core, timeline: Timeline, roles: Roles) -> None:
        self._core = core
        self._timeline = timeline
        self._roles = roles

    def role(self, vm_id: UUID, node: str | None = None) -> Role:
        """The resource of a VM.

        Raises:
            HyperVError: the VM is not on the host, or in no cluster.
        """
        with self._timeline.now():
            return self._roles.of(self._core.vm(vm_id, node))

    def take_offline(self, vm_id: UUID, node: str | None = None) -> Role:
        """``Stop-ClusterResource``. A VM that runs is saved.

        Raises:
            HyperVError: the VM is not on the host, or in no cluster.
        """
        with self._timeline.now():
            role = self.role(vm_id, node)
            self._roles.offline(role)
            return role

    def bring_online(self, vm_id: UUID, node: str | None = None) -> Role:
        """``Start-ClusterResource``, which starts the VM. A VM that cannot start makes the resource fail.

        Raises:
            HyperVError: the VM is not on the host, or in no cluster.
        """
        with self._timeline.now():
            role = self.role(vm_id, node)
            self._roles.online(role)
            return role
