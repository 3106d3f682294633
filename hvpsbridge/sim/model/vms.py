"""VMs: listing them, their status and configuration, starting and stopping them."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model import configuration
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.roles import check_files
from hvpsbridge.sim.model.state import JobKind, Operational, Vm, VMState
from hvpsbridge.sim.model.timeline import Timeline

# State of the VM after each action of set_state.
_ACTIONS = {
    "start": VMState.Running,
    "stop": VMState.Off,
    "save": VMState.Saved,
    "pause": VMState.Paused,
    "resume": VMState.Running,
    "power_off": VMState.Off,
    "discard": VMState.Off,
}


class Vms:
    """The VMs of a world."""

    def __init__(self, core: Core, timeline: Timeline, merges: Merges) -> None:
        self._core = core
        self._timeline = timeline
        self._merges = merges

    def all(self, node: str | None = None) -> tuple[Vm, ...]:
        """VMs of a host, or of all hosts, by name."""
        with self._timeline.now():
            found = [vm for vm in self._core.world.vms.values() if node is None or vm.node == node]
            return tuple(sorted(found, key=lambda vm: (vm.name, str(vm.vm_id))))

    def get(self, vm_id: UUID, node: str | None = None) -> Vm:
        """One VM.

        Raises:
            HyperVError: it does not exist, or not on that host.
        """
        with self._timeline.now():
            return self._core.vm(vm_id, node)

    def status(self, vm_id: UUID) -> tuple[int, ...]:
        """``OperationalStatus``: the primary value, then a second one if there is one."""
        with self._timeline.now():
            vm = self._core.vm(vm_id)
            job = self._timeline.running_job(vm)
            second = vm.second_status or self._core.knobs.operational_status
            if vm.migrating_until is not None:
                second = Operational.MigratingVirtualMachine
            elif job is not None:
                second = {
                    JobKind.CreateCheckpoint: int(Operational.CreatingSnapshot),
                    JobKind.ApplyCheckpoint: int(Operational.ApplyingSnapshot),
                    JobKind.ConvertCheckpoint: self._core.knobs.conversion_status,
                }.get(job.kind, int(Operational.DeletingSnapshot))
            elif self._merges.merging(vm):
                second = Operational.MergingDisks
            return (vm.primary_status, *((int(second),) if second else ()))

    def configuration(
        self, vm_id: UUID, checkpoint_id: UUID | None = None
    ) -> tuple[configuration.ConfigurationFile, ...]:
        """Configuration files of a VM, or of one of its checkpoints.

        Raises:
            HyperVError: the VM or the checkpoint does not exist.
        """
        with self._timeline.now():
            point = None if checkpoint_id is None else self._core.checkpoint(checkpoint_id)
            return configuration.files(self._core.vm(vm_id), self._core.world.layers, point)

    def set_state(self, vm_id: UUID, action: str) -> None:
        """``start``, ``stop``, ``save``, ``pause``, ``resume``, ``power_off`` or ``discard`` (what is saved).

        Stopping and saving flush change tracking; powering off loses what was only in memory.

        Raises:
            ValueError: unknown action.
            HyperVError: the VM is busy.
        """
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            after = _ACTIONS.get(action)
            if after is None:
                raise ValueError(f"unknown action {action!r}; use one of {', '.join(sorted(_ACTIONS))}")
            self._timeline.check_ready(vm)
            if action == "discard" and vm.state is not VMState.Saved:
                raise HyperVError(Wmi.INVALID_STATE, core.text("busy"))
            if action == "start":
                check_files(core, vm)
            for drive in vm.drives.values():
                if drive.layer is not None and action in ("stop", "save"):
                    core.tracking.flush(core.layer(drive))
                elif drive.layer is not None and action == "power_off":
                    core.tracking.power_loss(core.layer(drive))
            if after is VMState.Running and vm.started is None:
                vm.started = core.clock.now()
            elif action in ("stop", "power_off", "save"):
                vm.started = None
            vm.state = after
            if action == "start" and core.knobs.guest_stops:
                vm.state, vm.started = VMState.Off, None
            elif action == "start":
                self._merges.retry(vm)
