"""Merges of child disks into their parents: when they start, how long they take, what blocks them.

A child that a checkpoint made is merged into its parent once no checkpoint needs the parent and nothing
else depends on it. A file that is attached somewhere blocks that
(docs/hyperv-facts.md#merge-after-removal).
"""

from __future__ import annotations

from hvpsbridge.sim.model.core import ADMIN_LOG, Core
from hvpsbridge.sim.model.state import Merge, MergePhase, Vm
from hvpsbridge.sim.model.stored import Layer


class Merges:
    """Merges of one world. Hold the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def merging(self, vm: Vm) -> bool:
        """Whether a merge of the VM is running."""
        return any(
            merge.vm_id == vm.vm_id and merge.phase is MergePhase.RUNNING
            for merge in self._core.world.merges.values()
        )

    def works_on(self, number: int) -> bool:
        """Whether a running merge reads or writes that layer."""
        layers = self._core.world.layers
        return any(
            merge.phase is MergePhase.RUNNING
            and merge.child in layers
            and number in (merge.child, layers[merge.child].parent)
            for merge in self._core.world.merges.values()
        )

    def hurry(self) -> None:
        """Make every running merge due now."""
        for merge in self._core.world.merges.values():
            if merge.phase is MergePhase.RUNNING and merge.ends is not None:
                merge.ends = min(merge.ends, self._core.time)

    def plan(self, vm: Vm) -> None:
        """Start the merges that nothing blocks, and delete children that nothing needs."""
        core, world = self._core, self._core.world
        if not vm.merge_enabled:
            return
        held = {number for point in world.checkpoints.values() for number in point.disks.values()}
        live = {drive.layer for other in world.vms.values() for drive in other.drives.values()}
        self._drop_abandoned(held, live)
        for child in [layer for layer in world.layers.values() if self._of(layer, vm, held)]:
            if child.parent is None or child.parent in held or child.parent in live:
                continue
            if child.number in world.merges or not child.made_by_checkpoint:
                continue
            if len(core.files.children(world.layers[child.parent])) == 1:
                self._start(child, vm)

    def _of(self, layer: Layer, vm: Vm, held: set[int]) -> bool:
        """Whether a layer is on a chain of the VM or of one of its checkpoints."""
        core, world = self._core, self._core.world
        tops = [drive.layer for drive in vm.drives.values() if drive.layer is not None]
        for point in world.checkpoints.values():
            if point.vm_id == vm.vm_id:
                tops += list(point.disks.values())
        return any(
            member.number == layer.number
            for top in tops
            if top in world.layers
            for member in core.files.chain(world.layers[top])
        )

    def _drop_abandoned(self, held: set[int], live: set[int | None]) -> None:
        core = self._core
        found = True
        while found:
            found = False
            for layer in list(core.world.layers.values()):
                needed = layer.number in held or layer.number in live or core.files.children(layer)
                if layer.made_by_checkpoint and not needed and not core.handles.locks(layer.number):
                    core.world.merges.pop(layer.number, None)
                    core.files.delete(layer)
                    found = True

    def retry(self, vm: Vm) -> None:
        """Run failed merges of the VM again that nothing else retries, as when it is started."""
        for merge in self._core.world.merges.values():
            if merge.vm_id == vm.vm_id and merge.phase is MergePhase.FAILED and merge.ends is None:
                merge.ends = self._core.time

    def _start(self, child: Layer, vm: Vm) -> None:
        core = self._core
        merge = Merge(child.number, vm.vm_id, MergePhase.WAITING, core.time + core.knobs.merge_delay_seconds)
        core.world.merges[child.number] = merge
        if not core.knobs.merge_delay_seconds:
            self._run(merge, child, vm)

    def _run(self, merge: Merge, child: Layer, vm: Vm) -> None:
        core = self._core
        seconds = max(
            core.knobs.merge_seconds, core.files.stored_bytes(child) / core.knobs.merge_bytes_per_second
        )
        merge.phase, merge.ends = MergePhase.RUNNING, core.time + seconds
        core.log(ADMIN_LOG, 19070, vm, core.text("merge_started", path=child.path))

    def finish(self, merge: Merge) -> None:
        """Begin or complete a merge that is due. Fails if a file is in use, or with fault ``merge_fails``."""
        core, world = self._core, self._core.world
        vm, child = world.vms.get(merge.vm_id), world.layers.get(merge.child)
        if vm is None or child is None or child.parent is None:
            del world.merges[merge.child]
            return
        if merge.phase is MergePhase.WAITING:
            self._run(merge, child, vm)
            return
        parent = world.layers[child.parent]
        blocked = core.handles.locks(child.number) or core.handles.locks(parent.number)
        if blocked or core.faults.fires("merge_fails"):
            merge.phase = MergePhase.FAILED
            merge.failures += 1
            merge.ends = core.knobs.merge_retry_time(core.time)
            if merge.failures == 1:
                core.log(ADMIN_LOG, 19100, vm, core.text("merge_failed", vm=vm.name))
            return
        del world.merges[merge.child]
        core.files.merge(child, parent)
        core.tracking.merged(child, parent)
        self._replace(child.number, parent.number)
        core.files.delete(child)
        core.log(ADMIN_LOG, 19080, vm, core.text("merge_done", path=child.path))
        self.plan(vm)

    def _replace(self, child: int, parent: int) -> None:
        world = self._core.world
        world.merged[child] = parent
        for vm in world.vms.values():
            for drive in vm.drives.values():
                if drive.layer == child:
                    drive.layer = parent
        for point in world.checkpoints.values():
            for slot, number in point.disks.items():
                if number == child:
                    point.disks[slot] = parent
        for layer in world.layers.values():
            if layer.parent == child:
                layer.parent = parent
