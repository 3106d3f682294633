"""What happens around a backup: power loss, migration, dying hosts, other products, manual changes.

These are not faults of the simulator: people and machines do them to Hyper-V hosts. Each leaves the world in
a state that a real host can be in.
"""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.lifecycle import Lifecycle
from hvpsbridge.sim.model.state import (
    Consistency,
    MergePhase,
    ReferencePoint,
    Slot,
    Vm,
    VMState,
)
from hvpsbridge.sim.model.timeline import Timeline


class Incidents:
    """Things that people and machines do to hosts."""

    def __init__(self, core: Core, timeline: Timeline, lifecycle: Lifecycle) -> None:
        self._core = core
        self._timeline = timeline
        self._lifecycle = lifecycle

    # -- hosts ------------------------------------------------------------------------------------------

    def crash_host(self, node: str) -> None:
        """Power-cycle a host: its VMs are off, its jobs and handles are gone.

        Raises:
            ValueError: there is no such host.
        """
        with self._timeline.now():
            core = self._core
            if node not in core.world.nodes:
                raise ValueError(f"no host {node!r}")
            core.world.nodes[node].booted = core.clock.now()
            core.handles.close_node(node)
            for vm in self._on(node):
                self._lose_power(vm)
            core.notify()

    def kill_host(self, node: str) -> None:
        """Let a host die. It does not answer until it is revived. Clustered VMs move to another host of its
        cluster.

        Raises:
            ValueError: there is no such host.
        """
        with self._timeline.now():
            core, world = self._core, self._core.world
            if node not in world.nodes:
                raise ValueError(f"no host {node!r}")
            dead = world.nodes[node]
            dead.alive = False
            core.handles.close_node(node)
            for vm in self._on(node):
                was_running = vm.state is VMState.Running
                self._lose_power(vm)
                heirs = [
                    other.name
                    for other in world.nodes.values()
                    if other.alive and other.cluster is not None and other.cluster == dead.cluster
                ]
                if vm.clustered and heirs:
                    vm.node = heirs[0]
                    if was_running:
                        vm.state, vm.started = VMState.Running, core.clock.now()
            core.notify()

    def revive_host(self, node: str) -> None:
        """Boot a dead host. VMs that moved to other hosts stay there.

        Raises:
            ValueError: there is no such host.
        """
        with self._timeline.now():
            core, world = self._core, self._core.world
            if node not in world.nodes:
                raise ValueError(f"no host {node!r}")
            world.nodes[node].alive = True
            world.nodes[node].booted = core.clock.now()
            core.notify()

    def migrate(self, vm_id: UUID, node: str, *, seconds: float = 0.0) -> None:
        """Live-migrate a VM to another host. The VM is busy for ``seconds``.

        Raises:
            ValueError: there is no such host, or it is dead.
            HyperVError: the VM is busy.
        """
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            if node not in core.world.nodes or not core.world.nodes[node].alive:
                raise ValueError(f"no host {node!r} to migrate to")
            self._timeline.check_ready(vm)
            vm.migrating_to, vm.migrating_until = node, core.clock.now() + seconds
            self._timeline.advance()

    # -- disks ------------------------------------------------------------------------------------------

    def lose_tracking(self, vm_id: UUID, slot: Slot) -> None:
        """Delete or damage the disk's ``.rct``: all its ids become unknown.

        Until the next checkpoint a query fails with 0xC03A0030, after it with 0xC03A0029.
        """
        with self._timeline.now():
            core = self._core
            top = core.top(vm_id, slot)
            top.tracking_lost = True
            for layer in core.files.chain(top):
                core.tracking.forget(layer)

    def edit_offline(
        self, vm_id: UUID, slot: Slot, offset: int, data: bytes, *, tracked: bool = False
    ) -> None:
        """Write to the disk of a VM that is off, as Mount-VHD does (tracked) or a tool that bypasses RCT.

        Raises:
            HyperVError: the VM is not off.
        """
        with self._timeline.now():
            core = self._core
            if core.vm(vm_id).state is not VMState.Off:
                raise HyperVError(Wmi.INVALID_STATE, core.text("busy"))
            layer = core.top(vm_id, slot)
            core.files.write(layer, offset, data)
            core.golden.write(vm_id, slot, offset, data)
            if tracked:
                core.tracking.record(layer, offset, len(data))

    def break_sectors(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """Make a range of the disk's top file unreadable (error 1117). Length 0 repairs the disk."""
        with self._timeline.now():
            layer = self._core.top(vm_id, slot)
            if length:
                layer.unreadable.add(offset, offset + length)
            else:
                layer.unreadable.clear()

    def leave_children(self, vm_id: UUID) -> None:
        """Add child disks without a checkpoint, as a failed backup product leaves them."""
        with self._timeline.now():
            vm = self._core.vm(vm_id)
            for drive in vm.drives.values():
                if drive.layer is not None:
                    drive.layer = self._lifecycle.new_child(self._core.layer(drive)).number

    # -- other products ---------------------------------------------------------------------------------

    def add_reference_point(self, vm_id: UUID) -> str:
        """Add a reference point as another product would, without a checkpoint. Returns its InstanceID."""
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            point = ReferencePoint(
                instance_id=f"Microsoft:{str(vm_id).upper()}\\{str(core.fresh_id()).upper()}",
                vm_id=vm_id,
                consistency=Consistency.Crash,
                created=core.clock.now(),
                disks=[],
                rct_ids=[],
            )
            for drive in sorted(vm.drives.values(), key=lambda drive: drive.slot):
                if drive.layer is not None:
                    rct_id = core.tracking.seal(core.layer(drive))
                    if rct_id is not None:
                        point.disks.append(vm.instance_id(drive.slot))
                        point.rct_ids.append(rct_id)
            core.world.reference_points[point.instance_id] = point
            return point.instance_id

    def destroy_reference_points(self, vm_id: UUID) -> int:
        """Destroy all reference points of the VM, as another product would. Returns how many there were.

        Bareos does so on a full backup (docs/hyperv-facts.md#other-products).
        """
        with self._timeline.now():
            doomed = [p for p in self._core.world.reference_points.values() if p.vm_id == vm_id]
            for point in doomed:
                del self._core.world.reference_points[point.instance_id]
            return len(doomed)

    # -- inside -----------------------------------------------------------------------------------------

    def _on(self, node: str) -> list[Vm]:
        return [vm for vm in self._core.world.vms.values() if vm.node == node]

    def _lose_power(self, vm: Vm) -> None:
        """Power off a VM together with its VMMS."""
        core = self._core
        now = core.clock.now()
        if vm.state not in (VMState.Off, VMState.Saved):
            for drive in vm.drives.values():
                if drive.layer is not None:
                    for layer in core.files.chain(core.layer(drive)):
                        core.tracking.power_loss(layer)
            vm.state, vm.started = VMState.Off, None
        vm.migrating_to = vm.migrating_until = None
        for job in [job for job in core.world.jobs.values() if job.vm_id == vm.vm_id]:
            job.done, job.vanishes = True, now
            job.error_code = job.error_code or int(Wmi.FAILED)
        for merge in core.world.merges.values():
            if merge.vm_id == vm.vm_id:
                merge.phase = MergePhase.FAILED
                merge.ends = core.knobs.merge_retry_time(now)
