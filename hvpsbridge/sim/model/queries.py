"""Being VMMS, asked: hosts, VMs, drives, files, checkpoints, jobs, events, volumes."""

from __future__ import annotations

import time
from uuid import UUID

from hvpsbridge.sim.model import configuration
from hvpsbridge.sim.model.base import Base
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.state import (
    Checkpoint,
    Drive,
    Event,
    Job,
    JobKind,
    JobState,
    Layer,
    Node,
    Operational,
    ReferencePoint,
    Slot,
    Vm,
    VMState,
    Volume,
)


class Looking(Base):
    """Answers of a host that change nothing."""

    def node(self, name: str | None = None) -> Node:
        """A host; the first one without a name.

        Raises:
            KeyError: there is no such host.
        """
        with self._now():
            return self._world.nodes[name] if name else next(iter(self._world.nodes.values()))

    def nodes(self) -> tuple[Node, ...]:
        """All hosts."""
        with self._now():
            return tuple(self._world.nodes.values())

    def vms(self, node: str | None = None) -> tuple[Vm, ...]:
        """VMs on a host, by name."""
        with self._now():
            found = [vm for vm in self._world.vms.values() if node is None or vm.node == node]
            return tuple(sorted(found, key=lambda vm: (vm.name, str(vm.vm_id))))

    def vm(self, vm_id: UUID, node: str | None = None) -> Vm:
        """One VM.

        Raises:
            HyperVError: it is not on that host.
        """
        with self._now():
            return self._vm(vm_id, node)

    def operational_status(self, vm_id: UUID) -> tuple[int, ...]:
        """``OperationalStatus``: the primary value and, while something is under way, the secondary."""
        with self._now():
            vm = self._vm(vm_id)
            job = self._life.busy(vm)
            second: Operational | None = None
            if vm.migrating_until is not None:
                second = Operational.MigratingVirtualMachine
            elif job is not None:
                create = job.kind is JobKind.CreateCheckpoint
                second = Operational.CreatingSnapshot if create else Operational.DeletingSnapshot
            elif self._life.merging(vm):
                second = Operational.MergingDisks
            return (int(Operational.Ok), *(() if second is None else (int(second),)))

    def drives(self, vm_id: UUID, checkpoint_id: UUID | None = None) -> tuple[Drive, ...]:
        """Drives of a VM by slot, or of a checkpoint with its frozen layers."""
        with self._now():
            vm = self._vm(vm_id)
            if checkpoint_id is None:
                return tuple(sorted(vm.drives.values(), key=lambda drive: drive.slot))
            point = self._checkpoint(checkpoint_id)
            return tuple(
                sorted(
                    (Drive(Slot.parse(slot), number) for slot, number in point.disks.items()),
                    key=lambda drive: drive.slot,
                )
            )

    def layer(self, number: int) -> Layer:
        """A layer by number; the one it was merged into, when that has happened meanwhile.

        Raises:
            KeyError: it is gone.
        """
        with self._now():
            return self._world.layers[self._world.now_in(number)]

    def layer_at(self, path: str) -> Layer:
        """The virtual disk file at a Windows path.

        Raises:
            DiskError: there is none.
        """
        with self._now():
            self._maybe_end_merges()
            return self._shelf.by_path(path)

    def chain(self, number: int) -> tuple[Layer, ...]:
        """A layer and its ancestors, top first.

        Raises:
            DiskError: a parent is missing.
        """
        with self._now():
            if not self._still:
                self._maybe_end_merges()
            return tuple(self._shelf.chain(self._world.layers[self._world.now_in(number)]))

    def _maybe_end_merges(self) -> None:
        """Fault ``merge_ends``: who listed drives a moment ago now walks chains that are no more."""
        if any(self._life.merging(vm) for vm in self._world.vms.values()) and self.faults.strikes(
            "merge_ends"
        ):
            self._life.hurry_merges()
            self._life.advance()

    def file_bytes(self, number: int) -> int:
        """Size of a layer's file on its volume."""
        with self._now():
            return self._shelf.file_bytes(self._world.layers[self._world.now_in(number)])

    def in_use(self, number: int) -> bool:
        """``Attached``: a running VM has the layer on its chain, or somebody attached it."""
        with self._now():
            return self._handles.locks(number) or any(
                member.number == number
                for vm in self._world.vms.values()
                if vm.state is VMState.Running
                for drive in vm.drives.values()
                if drive.layer is not None
                for member in self._shelf.chain(self._world.layers[drive.layer])
            )

    def checkpoints(self, vm_id: UUID, *, hidden: bool = False) -> tuple[Checkpoint, ...]:
        """Checkpoints of a VM, oldest first; ``hidden`` with those that no cmdlet shows yet."""
        with self._now():
            now = self.clock.now()
            found = [
                point
                for point in self._world.checkpoints.values()
                if point.vm_id == vm_id and (hidden or point.visible <= now)
            ]
            return tuple(sorted(found, key=lambda point: point.order))

    def checkpoint(self, checkpoint_id: UUID) -> Checkpoint:
        """One checkpoint, visible to cmdlets or not.

        Raises:
            HyperVError: it is gone.
        """
        with self._now():
            return self._checkpoint(checkpoint_id)

    def reference_points(self, vm_id: UUID) -> tuple[ReferencePoint, ...]:
        """Reference points of a VM, oldest first."""
        with self._now():
            return tuple(point for point in self._world.reference_points.values() if point.vm_id == vm_id)

    def jobs(self, vm_id: UUID | None = None, *, unfinished: bool = False) -> tuple[Job, ...]:
        """Jobs that are still there."""
        with self._now():
            return tuple(
                job
                for job in self._world.jobs.values()
                if (vm_id is None or job.vm_id == vm_id) and not (unfinished and job.done)
            )

    def job(self, job_id: UUID) -> Job:
        """One job.

        Raises:
            HyperVError: it is gone; done jobs vanish after a time.
        """
        with self._now():
            found = self._world.jobs.get(job_id)
            if found is None:
                raise HyperVError(Wmi.NOT_FOUND, self._life.text("not_found"))
            return found

    def job_progress(self, job: Job) -> tuple[JobState, int]:
        """``JobState`` and ``PercentComplete`` now: 2, 3, 4, then 7 or 10."""
        with self._now():
            if job.done:
                good = JobState.CompletedWithWarnings if job.warned else JobState.Completed
                return (JobState.Exception if job.error_code else good), 100
            share = (self.clock.now() - job.started) / max(job.ends - job.started, 1e-9)
            state = JobState.New if share < 0.1 else JobState.Starting if share < 0.3 else JobState.Running
            return state, int(share * 100)

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        """The job once it is done; for callers that have nothing else to do.

        Raises:
            TimeoutError: it is not done in time.
        """
        end = time.monotonic() + seconds
        while True:
            with self._now():
                if job.done:
                    return job
            if time.monotonic() > end:
                raise TimeoutError(f"job {job.job_id} is not done after {seconds} s")
            time.sleep(min(0.02, self.knobs.job_seconds))

    def events(self, node: str | None = None) -> tuple[Event, ...]:
        """Event log entries of a host, oldest first."""
        with self._now():
            return tuple(event for event in self._world.events if node is None or event.node == node)

    def configuration(
        self, vm_id: UUID, checkpoint_id: UUID | None = None
    ) -> tuple[configuration.ConfigurationFile, ...]:
        """Configuration files of a VM's settings, or of a checkpoint's.

        Raises:
            HyperVError: VM or checkpoint is not there.
        """
        with self._now():
            point = None if checkpoint_id is None else self._checkpoint(checkpoint_id)
            return configuration.files(self._vm(vm_id), point)

    def volumes(self, vm_id: UUID | None = None) -> tuple[Volume, ...]:
        """Volumes; those that hold files of a VM when one is named."""
        with self._now():
            if vm_id is None:
                return tuple(self._world.volumes.values())
            vm = self._vm(vm_id)
            paths = [vm.folder]
            for drive in vm.drives.values():
                if drive.layer is not None:
                    paths += [layer.path for layer in self._shelf.chain(self._world.layers[drive.layer])]
            roots = {root for path in paths if (root := self._root(path)) is not None}
            return tuple(self._world.volumes[root] for root in sorted(roots))

    def free_bytes(self, root: str) -> int:
        """Free space of a volume; never below zero."""
        with self._now():
            return self._free(root)
