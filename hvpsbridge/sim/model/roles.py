"""Resources of clustered VMs: how they follow their VMs, and what a cluster does by itself.

A VM that runs is online, one that is off or saved is offline (docs/hyperv-facts.md#cluster-resources).
"""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.state import ResourceState, Role, Vm, VMState

_STOPPED = (VMState.Off, VMState.Saved)


class Roles:
    """Roles of a world. Hold the core's lock."""

    def __init__(self, core: Core, merges: Merges) -> None:
        self._core = core
        self._merges = merges

    def of(self, vm: Vm) -> Role:
        """The role of a VM.

        Raises:
            HyperVError: the VM or its host is in no cluster.
        """
        if not self._clustered(vm):
            raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
        return self._role(vm)

    def offline(self, role: Role) -> None:
        """Begin to take a role offline."""
        if role.state is ResourceState.Offline:
            return
        if self._core.knobs.role_seconds:
            role.state, role.due = (
                ResourceState.OfflinePending,
                self._core.time + self._core.knobs.role_seconds,
            )
        else:
            self._went_offline(role, self._core.time)

    def online(self, role: Role) -> None:
        """Begin to bring a role online."""
        if role.state is ResourceState.Online:
            return
        role.state = ResourceState.OnlinePending
        role.due = self._core.time + self._core.knobs.role_seconds
        self._act(role, self._core.time)

    def advance(self, now: float) -> None:
        """Let roles follow their VMs, and do what is due."""
        for vm in self._vms():
            role = self._role(vm)
            if vm.state not in _STOPPED:
                if role.state is not ResourceState.OfflinePending:
                    role.state, role.due = ResourceState.Online, None
            elif role.state is ResourceState.Online and role.due is None:
                role.due = now + self._core.knobs.role_notices_seconds
            self._act(role, now)

    # -- inside ---------------------------------------------------------------------------------------

    def _act(self, role: Role, now: float) -> None:
        if role.due is None or role.due > now:
            return
        role.due = None
        if role.state in (ResourceState.Online, ResourceState.OfflinePending):
            self._went_offline(role, now)
        else:
            self._started(role, now)

    def _went_offline(self, role: Role, now: float) -> None:
        vm = self._core.world.vms[role.vm_id]
        if vm.state not in _STOPPED:
            # OfflineAction is Save, unless somebody changes it.
            for drive in vm.drives.values():
                if drive.layer is not None:
                    self._core.tracking.flush(self._core.layer(drive))
            vm.state, vm.started = VMState.Saved, None
        role.state, role.due = ResourceState.Offline, self._return(now)

    def _started(self, role: Role, now: float) -> None:
        vm = self._core.world.vms[role.vm_id]
        try:
            check_files(self._core, vm)
        except HyperVError:
            role.state, role.due = ResourceState.Failed, self._return(now)
            return
        vm.state, vm.started = VMState.Running, now
        role.state = ResourceState.Online
        self._merges.retry(vm)

    def _return(self, now: float) -> float | None:
        seconds = self._core.knobs.role_returns_seconds
        return now + seconds if seconds else None

    def _role(self, vm: Vm) -> Role:
        found = self._core.world.roles.get(vm.vm_id)
        if found is None:
            state = ResourceState.Offline if vm.state in _STOPPED else ResourceState.Online
            found = self._core.world.roles[vm.vm_id] = Role(vm.vm_id, state)
        return found

    def _vms(self) -> Iterator[Vm]:
        return (vm for vm in self._core.world.vms.values() if self._clustered(vm))

    def _clustered(self, vm: Vm) -> bool:
        return vm.clustered and self._core.world.nodes[vm.node].cluster is not None


def check_files(core: Core, vm: Vm) -> None:
    """Refuse to start a VM whose disk is missing, attached by the host, or not for it.

    Raises:
        HyperVError: it cannot start.
    """
    for drive in vm.drives.values():
        if drive.layer is None:
            continue
        layer = core.layer(drive)
        if layer.vm_path is not None:
            raise HyperVError(Wmi.FAILED, core.text("no_file", vm=vm.name, path=layer.vm_path), 0x80070002)
        if core.handles.locks(layer.number):
            raise HyperVError(Wmi.IN_USE, core.text("file_in_use", vm=vm.name, path=layer.path), 0x80070020)
        if layer.folder_rights:
            raise HyperVError(
                Wmi.ACCESS_DENIED, core.text("no_right", vm=vm.name, path=layer.path), 0x80070005
            )
        if layer.beside:
            # Without its files beside it, change tracking starts anew.
            core.tracking.forget(layer)
