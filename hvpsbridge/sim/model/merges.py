"""Merges of children into their parents: when they start, how long they take, what stands against them.

Rule: knows nothing of jobs. A child that a checkpoint made merges away once no checkpoint holds its parent
and nothing else grew from it; a file that somebody has attached stands against that
(docs/hyperv-facts.md#merge-after-removal).
"""

from __future__ import annotations

import random
from uuid import UUID

from hvpsbridge.sim.model.clock import Clock
from hvpsbridge.sim.model.disks import DiskShelf
from hvpsbridge.sim.model.faults import Faults
from hvpsbridge.sim.model.golden_image import KeptImages
from hvpsbridge.sim.model.handles import Handles
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import (
    Event,
    Layer,
    Merge,
    MergePhase,
    Vm,
    World,
)
from hvpsbridge.sim.model.tracking import Tracking

ADMIN_LOG = "Microsoft-Windows-Hyper-V-VMMS-Admin"
WORKER_LOG = "Microsoft-Windows-Hyper-V-Worker-Admin"


class Merges:
    """Merges, and what everything that happens by the clock shares. Callers hold the model's lock."""

    def __init__(
        self,
        world: World,
        knobs: Knobs,
        faults: Faults,
        clock: Clock,
        shelf: DiskShelf,
        tracking: Tracking,
        handles: Handles,
        kept: KeptImages,
    ) -> None:
        self._world = world
        self._knobs = knobs
        self._faults = faults
        self._clock = clock
        self._shelf = shelf
        self._tracking = tracking
        self._handles = handles
        self._kept = kept
        # The moment whatever happens now happens at: the clock's, or when a due thing became due.
        self._time = clock.now()

    def fresh_id(self) -> UUID:
        """A new id, the same in every run of one seed."""
        chance = random.Random(f"{self._world.seed}|id|{self._world.next()}")  # not a secret
        return UUID(int=chance.getrandbits(128), version=4)

    def log(self, log: str, event_id: int, vm: Vm, message: str) -> None:
        """Write an entry to an event log of the VM's host."""
        self._world.events.append(Event(log, event_id, self._time, vm.vm_id, vm.node, message))

    def text(self, key: str, **values: object) -> str:
        """A text in the host's language."""
        return text(self._knobs.language, key, **values)

    # -- merges -----------------------------------------------------------------------------------------

    def merging(self, vm: Vm) -> bool:
        """Whether a merge of the VM runs now."""
        return any(
            merge.vm_id == vm.vm_id and merge.phase is MergePhase.RUNNING
            for merge in self._world.merges.values()
        )

    def hurry_merges(self) -> None:
        """Let every running merge be due now, as it might have been a moment earlier."""
        for merge in self._world.merges.values():
            if merge.phase is MergePhase.RUNNING and merge.ends is not None:
                merge.ends = min(merge.ends, self._time)

    def plan_merges(self, vm: Vm) -> None:
        """Start the merges that nothing stands against, and drop children that nobody needs."""
        if not vm.merge_enabled:
            return
        held = {number for point in self._world.checkpoints.values() for number in point.disks.values()}
        live = {drive.layer for other in self._world.vms.values() for drive in other.drives.values()}
        self._drop_abandoned(held, live)
        for child in [layer for layer in self._world.layers.values() if self._of(layer, vm, held)]:
            if child.parent is None or child.parent in held or child.parent in live:
                continue
            if child.number in self._world.merges or not child.made_by_checkpoint:
                continue
            if len(self._shelf.children(self._world.layers[child.parent])) == 1:
                self._start_merge(child, vm)

    def _of(self, layer: Layer, vm: Vm, held: set[int]) -> bool:
        """Whether a layer is on a chain of the VM or of a checkpoint of it."""
        tops = [drive.layer for drive in vm.drives.values() if drive.layer is not None]
        for point in self._world.checkpoints.values():
            if point.vm_id == vm.vm_id:
                tops += list(point.disks.values())
        return any(
            member.number == layer.number
            for top in tops
            if top in self._world.layers
            for member in self._shelf.chain(self._world.layers[top])
        )

    def _drop_abandoned(self, held: set[int], live: set[int | None]) -> None:
        found = True
        while found:
            found = False
            for layer in list(self._world.layers.values()):
                needed = layer.number in held or layer.number in live or self._shelf.children(layer)
                if layer.made_by_checkpoint and not needed and not self._handles.locks(layer.number):
                    self._world.merges.pop(layer.number, None)
                    self._shelf.delete(layer)
                    found = True

    def _start_merge(self, child: Layer, vm: Vm) -> None:
        seconds = max(
            self._knobs.merge_seconds, self._shelf.stored_bytes(child) / self._knobs.merge_bytes_per_second
        )
        merge = Merge(child.number, vm.vm_id, MergePhase.RUNNING, self._time + seconds)
        self._world.merges[child.number] = merge
        self.log(ADMIN_LOG, 19070, vm, self.text("merge_started", path=child.path))

    def _finish_merge(self, merge: Merge) -> None:
        vm, child = self._world.vms.get(merge.vm_id), self._world.layers.get(merge.child)
        if vm is None or child is None or child.parent is None:
            del self._world.merges[merge.child]
            return
        parent = self._world.layers[child.parent]
        blocked = self._handles.locks(child.number) or self._handles.locks(parent.number)
        if blocked or self._faults.strikes("merge_fails"):
            merge.phase = MergePhase.FAILED
            merge.failures += 1
            retry = self._knobs.merge_retry_seconds
            merge.ends = self._time + retry if retry else None
            if merge.failures == 1:
                self.log(ADMIN_LOG, 19100, vm, self.text("merge_failed", vm=vm.name))
            return
        del self._world.merges[merge.child]
        self._shelf.merge(child, parent)
        self._tracking.merged(child, parent)
        self._replace(child.number, parent.number)
        self._shelf.delete(child)
        self.log(ADMIN_LOG, 19080, vm, self.text("merge_done", path=child.path))
        self.plan_merges(vm)

    def _replace(self, child: int, parent: int) -> None:
        self._world.merged[child] = parent
        for vm in self._world.vms.values():
            for drive in vm.drives.values():
                if drive.layer == child:
                    drive.layer = parent
        for point in self._world.checkpoints.values():
            for slot, number in point.disks.items():
                if number == child:
                    point.disks[slot] = parent
        for layer in self._world.layers.values():
            if layer.parent == child:
                layer.parent = parent
