"""The simulated world as others use it: build it, be its guests, be VMMS and the virtual disk driver.

Law: the one door to the model. Every public method takes the lock, lets what is due happen
(:mod:`lifecycle`), then answers. Methods that a host would answer take ``node``: the host that is asked;
None asks the world. Records returned are the model's own (:mod:`state`): read them, do not change them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.model import configuration, store
from hvpsbridge.sim.model.clock import Clock, SystemClock
from hvpsbridge.sim.model.disks import DiskShelf, Piece, normal_path
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Win32, Wmi, vm_not_found
from hvpsbridge.sim.model.faults import Faults
from hvpsbridge.sim.model.handles import DiskHandle, Handles
from hvpsbridge.sim.model.kept import KeptImages
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.lifecycle import ADMIN_LOG, Lifecycle
from hvpsbridge.sim.model.state import (
    Checkpoint,
    Consistency,
    ControllerType,
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
    SnapshotType,
    VhdFormat,
    VhdType,
    Vm,
    VMState,
    Volume,
    World,
)
from hvpsbridge.sim.model.tracking import Answer, Tracking
from hvpsbridge.units import MIB, TIB

STATE_FILE = "state.json"
FIRST_NODE = "HV01"
_FIRST_SLOT = Slot(ControllerType.SCSI, 0, 0)
# What each action of set_state leads to.
_ACTIONS = {
    "start": VMState.Running,
    "stop": VMState.Off,
    "save": VMState.Saved,
    "pause": VMState.Paused,
    "resume": VMState.Running,
    "power_off": VMState.Off,
}


class Model:
    """A Hyper-V world in a folder.

    Args:
        folder: where state and disks are kept; a world found there is taken up again.
        clock: time; the machine's own by default.
        seed: of everything that is left to chance, for a new world.
        keep_images: whether flat images are kept apart for comparison.

    Attributes:
        knobs: behaviour; change it through :meth:`set_knob` or directly.
        faults: what goes wrong next.
        kept: the images kept apart.
    """

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, seed: int = 0, keep_images: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.clock: Clock = clock or SystemClock()
        self._lock = threading.RLock()
        if (folder / STATE_FILE).exists():
            self._world, self.knobs = store.load(folder / STATE_FILE)
        else:
            self._world, self.knobs = World(seed=seed), Knobs()
        self.faults = Faults()
        self._watchers: list[Callable[[], None]] = []
        self._chance = random.Random(f"{self._world.seed}|reads")
        self.kept = KeptImages(folder / "kept", enabled=keep_images)
        self._shelf = DiskShelf(folder / "disks", self._world)
        self._tracking = Tracking(self._world, self.knobs)
        self._handles = Handles(self._world, self._shelf, self.faults)
        self._life = Lifecycle(
            self._world,
            self.knobs,
            self.faults,
            self.clock,
            self._shelf,
            self._tracking,
            self._handles,
            self.kept,
        )
        if not self._world.nodes:
            self.add_node(FIRST_NODE)
            self._world.volumes["C:\\"] = Volume("C:\\", 4 * TIB)

    def close(self) -> None:
        """Save the world and give every file back."""
        self.save()
        with self._lock:
            self._shelf.close()

    def save(self) -> None:
        """Write the world to its folder, in one step."""
        with self._now():
            store.save(self.folder / STATE_FILE, self._world, self.knobs)

    @contextmanager
    def _now(self) -> Iterator[None]:
        with self._lock:
            self._life.advance()
            yield

    # -- building -----------------------------------------------------------------------------------

    def add_node(self, name: str, *, cluster: str | None = None) -> Node:
        """A further host."""
        with self._lock:
            now = self.clock.now()
            node = Node(name, f"{name.lower()}.example.net", booted=now - 86400.0, cluster=cluster)
            self._world.nodes[name] = node
            return node

    def add_volume(self, root: str, total_bytes: int, used_elsewhere_bytes: int = 0) -> Volume:
        """A volume such as ``D:\\``, or another size for one that is there."""
        with self._now():
            volume = Volume(root, total_bytes, used_elsewhere_bytes)
            self._world.volumes[root] = volume
            return volume

    def create_vm(
        self,
        name: str,
        *,
        vm_id: UUID | None = None,
        node: str = FIRST_NODE,
        folder: str | None = None,
        state: VMState = VMState.Running,
        **settings: object,
    ) -> Vm:
        """A new VM without disks. ``settings`` are fields of :class:`~state.Vm`.

        Raises:
            ValueError: the id is taken, the node is unknown, or there is no such setting.
        """
        with self._now():
            vm_id = vm_id or self._life.fresh_id()
            if vm_id in self._world.vms or node not in self._world.nodes:
                raise ValueError(f"VM {vm_id} exists, or node {node} does not")
            now = self.clock.now()
            where = folder or f"C:\\VMs\\{name}"
            vm = Vm(vm_id, name, node, created=now, folder=where)
            self._world.vms[vm_id] = vm
            self.change_vm(vm_id, **settings)
            vm.revision = 0
            vm.state, vm.started = state, (now if state is VMState.Running else None)
            return vm

    def change_vm(self, vm_id: UUID, **settings: object) -> None:
        """Change fields of a VM, as an administrator would.

        Raises:
            ValueError: there is no such setting.
        """
        with self._now():
            vm = self._vm(vm_id)
            for name, value in settings.items():
                if name not in Vm.__dataclass_fields__ or name in ("vm_id", "drives"):
                    raise ValueError(f"a VM has no setting {name!r}")
                setattr(vm, name, value)
            vm.revision += 1

    def add_disk(
        self,
        vm_id: UUID,
        slot: Slot = _FIRST_SLOT,
        *,
        image: Path | None = None,
        size_bytes: int | None = None,
        path: str | None = None,
        disk_id: UUID | None = None,
        logical_sector_bytes: int = 512,
        block_bytes: int = 32 * MIB,
        format: VhdFormat = VhdFormat.VHDX,  # Hyper-V's word
        kind: VhdType = VhdType.Dynamic,
        shared: bool = False,
    ) -> Slot:
        """A new disk at ``slot``, holding a raw image's bytes or nothing.

        Args:
            size_bytes: virtual size; the image's by default. A multiple of the sector size.
            path: Windows path of the file; one in the VM's folder by default.
            disk_id: VirtualDiskId; a fresh one by default. Clones of a template share it.

        Raises:
            ValueError: the slot or path is taken, or the size does not fit.
        """
        with self._now():
            vm = self._vm(vm_id)
            size = size_bytes if size_bytes is not None else image.stat().st_size if image else 0
            if size <= 0 or size % logical_sector_bytes:
                raise ValueError(f"a disk of {size} bytes has no whole number of sectors")
            if str(slot) in vm.drives and vm.drives[str(slot)].layer is not None:
                raise ValueError(f"slot {slot} of {vm.name} is taken")
            suffix = "vhd" if format is VhdFormat.VHD else "vhds" if format is VhdFormat.VHDSet else "vhdx"
            name = f"{vm.name}-{str(slot).replace(':', '-')}.{suffix}"
            where = path or f"{vm.folder}\\Virtual Hard Disks\\{name}"
            if any(normal_path(other.path) == normal_path(where) for other in self._world.layers.values()):
                raise ValueError(f"{where} exists")
            layer = Layer(
                number=self._world.next(),
                path=where,
                size_bytes=size,
                disk_id=disk_id or self._life.fresh_id(),
                logical_sector_bytes=logical_sector_bytes,
                block_bytes=block_bytes,
                format=format,
                kind=kind,
            )
            self._shelf.new_base(layer, image)
            vm.drives[str(slot)] = Drive(slot, layer.number, shared=shared)
            vm.revision += 1
            self.kept.add(vm_id, slot, size, image)
            return slot

    def add_pass_through(self, vm_id: UUID, slot: Slot, number: int) -> None:
        """A physical disk of the host given to the VM."""
        with self._now():
            vm = self._vm(vm_id)
            vm.drives[str(slot)] = Drive(slot, None, pass_through_number=number)
            vm.revision += 1

    def add_empty_drive(self, vm_id: UUID, slot: Slot) -> None:
        """A disk drive without a disk."""
        with self._now():
            vm = self._vm(vm_id)
            vm.drives[str(slot)] = Drive(slot, None)
            vm.revision += 1

    def remove_disk(self, vm_id: UUID, slot: Slot) -> None:
        """Take a drive off the VM; its file goes too unless a checkpoint needs it."""
        with self._now():
            vm = self._vm(vm_id)
            drive = vm.drives.pop(str(slot))
            vm.revision += 1
            self.kept.remove(vm_id, slot)
            number = drive.layer
            while number is not None:
                layer = self._world.layers[number]
                held = any(number in point.disks.values() for point in self._world.checkpoints.values())
                if held or self._shelf.children(layer):
                    break
                number = layer.parent
                self._shelf.delete(layer)

    def resize_disk(self, vm_id: UUID, slot: Slot, size_bytes: int) -> None:
        """``Resize-VHD`` on the VM's disk."""
        with self._now():
            layer = self._top(vm_id, slot)
            self._shelf.resize(layer, size_bytes)
            self.kept.resize(vm_id, slot, size_bytes)

    # -- being a guest ------------------------------------------------------------------------------

    def write(self, vm_id: UUID, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        """The guest writes. Offset and length are whole sectors.

        Raises:
            ValueError: it is not aligned, or past the end.
            HyperVError: the VM does not run, or its volume is full (the VM is paused then).
        """
        with self._now():
            vm = self._running(vm_id)
            self._put(vm, slot, offset, data)

    def unmap(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """The guest trims a range, which reads as zeros afterwards.

        Raises:
            ValueError: it is not aligned, or past the end.
            HyperVError: the VM does not run.
        """
        with self._now():
            self._running(vm_id)
            self._clear(vm_id, slot, offset, length)

    def read(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> bytes:
        """What the guest would read."""
        with self._now():
            return self._shelf.read(self._top(vm_id, slot), offset, length)

    def apply_image(self, vm_id: UUID, slot: Slot, newer: Path) -> int:
        """Write what differs between the disk and a newer raw image of it, as guest writes.

        Returns:
            Number of bytes written or trimmed.

        Raises:
            ValueError: the image has another size.
            HyperVError: the VM does not run, or its volume is full.
        """
        with self._now():
            vm = self._running(vm_id)
            layer = self._top(vm_id, slot)
            if newer.stat().st_size != layer.size_bytes:
                raise ValueError(f"{newer} has {newer.stat().st_size} bytes, the disk {layer.size_bytes}")
            written = 0
            unit = max(4096, layer.logical_sector_bytes)
            if layer.size_bytes % unit:
                unit = layer.logical_sector_bytes
            for offset, change in self._shelf.differences(layer, newer, unit):
                if isinstance(change, int):
                    self._clear(vm_id, slot, offset, change)
                    written += change
                else:
                    self._put(vm, slot, offset, change)
                    written += len(change)
            return written

    def set_state(self, vm_id: UUID, action: str) -> None:
        """``start``, ``stop``, ``save``, ``pause``, ``resume`` or ``power_off`` a VM.

        Stopping and saving flush change tracking; powering off loses what only memory knew of it.

        Raises:
            ValueError: there is no such action.
            HyperVError: a job holds the VM.
        """
        with self._now():
            vm = self._vm(vm_id)
            after = _ACTIONS.get(action)
            if after is None:
                raise ValueError(f"no action {action!r}; there are {', '.join(sorted(_ACTIONS))}")
            self._life.check_ready(vm)
            for drive in vm.drives.values():
                if drive.layer is not None and action in ("stop", "save"):
                    self._tracking.flush(self._world.layers[drive.layer])
                elif drive.layer is not None and action == "power_off":
                    self._tracking.power_loss(self._world.layers[drive.layer])
            if after is VMState.Running and vm.started is None:
                vm.started = self.clock.now()
            elif action in ("stop", "power_off"):
                vm.started = None
            vm.state = after

    # -- being VMMS: looking --------------------------------------------------------------------------

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
        """A layer by number.

        Raises:
            KeyError: it is gone.
        """
        with self._now():
            return self._world.layers[number]

    def layer_at(self, path: str) -> Layer:
        """The virtual disk file at a Windows path.

        Raises:
            DiskError: there is none.
        """
        with self._now():
            return self._shelf.by_path(path)

    def chain(self, number: int) -> tuple[Layer, ...]:
        """A layer and its ancestors, top first.

        Raises:
            DiskError: a parent is missing.
        """
        with self._now():
            return tuple(self._shelf.chain(self._world.layers[number]))

    def file_bytes(self, number: int) -> int:
        """Size of a layer's file on its volume."""
        with self._now():
            return self._shelf.file_bytes(self._world.layers[number])

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

    # -- being VMMS: changing -------------------------------------------------------------------------

    def create_checkpoint(
        self,
        vm_id: UUID,
        *,
        name: str = "",
        kind: SnapshotType = SnapshotType.Recovery,
        consistency: Consistency = Consistency.Crash,
        ignore_disks: bool = False,
        automatic: bool = False,
        node: str | None = None,
    ) -> Job:
        """Start making a checkpoint; ``results["checkpoint"]`` of the job is its id.

        Raises:
            HyperVError: the VM is not there, is busy, or may have no checkpoints.
        """
        with self._now():
            vm = self._vm(vm_id, node)
            self._life.check_checkpointable(vm)
            return self._life.start(
                JobKind.CreateCheckpoint,
                vm,
                name=name,
                type=str(int(kind)),
                consistency=str(int(consistency)),
                ignore_disks=str(int(ignore_disks)),
                automatic=str(int(automatic)),
            )

    def rename_checkpoint(self, checkpoint_id: UUID, name: str) -> None:
        """Give a checkpoint another name.

        Raises:
            HyperVError: it is gone.
        """
        with self._now():
            self._checkpoint(checkpoint_id).name = name

    def convert(self, checkpoint_id: UUID) -> Job:
        """Start converting a recovery checkpoint; ``results["reference_point"]`` is the new InstanceID.

        Raises:
            HyperVError: the checkpoint is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.ConvertCheckpoint, checkpoint_id)

    def remove_checkpoint(self, checkpoint_id: UUID) -> Job:
        """Start removing a checkpoint.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.RemoveCheckpoint, checkpoint_id)

    def apply_checkpoint(self, checkpoint_id: UUID) -> Job:
        """Start putting the VM back to a checkpoint; the VM is off (or saved) afterwards.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        return self._on_checkpoint(JobKind.ApplyCheckpoint, checkpoint_id)

    def remove_reference_point(self, instance_id: str) -> Job:
        """Start destroying a reference point.

        Raises:
            HyperVError: it is gone, or its VM is busy.
        """
        with self._now():
            point = self._world.reference_points.get(instance_id)
            if point is None:
                raise HyperVError(Wmi.NOT_FOUND, self._life.text("not_found"))
            vm = self._vm(point.vm_id)
            self._life.check_ready(vm)
            return self._life.start(JobKind.RemoveReferencePoint, vm, reference_point=instance_id)

    # -- being the virtual disk driver ------------------------------------------------------------------

    def open_disk(self, path: str, owner: str, node: str | None = None) -> DiskHandle:
        """A handle on a virtual disk file, for asking; :meth:`attach` it for reading.

        Raises:
            DiskError: there is no such file.
        """
        with self._now():
            return self._handles.open(path, owner, node)

    def attach(self, handle: DiskHandle) -> None:
        """Attach read-only. One attach per file, whoever holds it.

        Raises:
            DiskError: attached already, written by a running VM, or gone.
        """
        with self._now():
            self._handles.attach(handle)

    def detach(self, handle: DiskHandle) -> None:
        """Detach; the handle stays open."""
        with self._now():
            self._handles.detach(handle)

    def close_disk(self, handle: DiskHandle) -> None:
        """Close a handle."""
        with self._now():
            self._handles.close(handle)

    def close_owner(self, owner: str) -> None:
        """A process on a host ended: close its handles."""
        with self._now():
            self._handles.close_owner(owner)

    def attached(self) -> tuple[DiskHandle, ...]:
        """Handles that have a disk attached now."""
        with self._now():
            return self._handles.attached()

    def is_attached(self, handle: DiskHandle) -> bool:
        """Whether the handle still has its disk; a migration or a host's death takes it away."""
        with self._now():
            return handle.attached and handle.layer in self._world.layers

    def read_falls_short(self) -> bool:
        """Whether knob ``short_reads`` strikes this read."""
        with self._now():
            return self._chance.random() < self.knobs.short_reads

    def table(self, handle: DiskHandle) -> list[Piece]:
        """Which backing file holds what of an attached disk; what is missing is zeros.

        Raises:
            DiskError: it is not attached.
        """
        with self._now():
            return self._shelf.resolve(self._attached_layer(handle))

    def backing(self, number: int) -> Path:
        """Sparse raw file with a layer's bytes at their own offsets."""
        with self._now():
            return self._shelf.backing(self._world.layers[number])

    def read_disk(self, handle: DiskHandle, offset: int, length: int) -> bytes:
        """Read an attached disk.

        Raises:
            DiskError: not attached, not whole sectors, past the end, or a device error.
        """
        with self._now():
            layer = self._attached_layer(handle)
            sector = layer.logical_sector_bytes
            if offset % sector or length % sector:
                raise DiskError(Win32.INVALID_PARAMETER, layer.path)
            if offset + length > layer.size_bytes:
                raise DiskError(Win32.SECTOR_NOT_FOUND, layer.path)
            bad = any(
                True
                for member in self._shelf.chain(layer)
                for _ in member.unreadable.within(offset, offset + length)
            )
            if bad or self.faults.strikes("read_error"):
                raise DiskError(Win32.IO_DEVICE, layer.path)
            data = self._shelf.read(layer, offset, length)
            if self.faults.strikes("read_corrupt"):
                data = data[:-1] + bytes([data[-1] ^ 1])
            short = self.faults.strikes("read_short") or self._chance.random() < self.knobs.short_reads
            return data[:-sector] if short else data

    def allocated(self, path: str) -> tuple[Extent, ...]:
        """What the file itself holds, in whole blocks, as its block allocation table says.

        Raises:
            DiskError: there is no such file.
        """
        with self._now():
            layer = self._shelf.by_path(path)
            return tuple(layer.present.aligned(layer.block_bytes, layer.size_bytes))

    def most_recent_id(self, path: str) -> tuple[bool, bool, str | None]:
        """Change tracking state of a file: enabled, ``NewerChanges``, ``MostRecentId``.

        Raises:
            DiskError: there is no such file.
        """
        with self._now():
            chain = self._shelf.chain(self._shelf.by_path(path))
            enabled = chain[0].tracking_enabled and not chain[0].tracking_lost
            recent = self._tracking.most_recent(chain) if enabled else None
            return enabled, enabled and self._tracking.newer_changes(chain), recent

    def query_changes(self, path: str, rct_id: str, offset: int, length: int, room: int = 4096) -> Answer:
        """``QueryChangesVirtualDisk``: one page of what was written after ``rct_id`` was sealed.

        Raises:
            DiskError: no such file, or tracking cannot answer.
        """
        with self._now():
            chain = self._shelf.chain(self._shelf.by_path(path))
            if self.faults.strikes("query_fails"):
                raise DiskError(Win32.VHD_TRACKING_MISSING, path)
            if self.faults.strikes("query_no_progress"):
                return Answer(0, ())
            if self.faults.strikes("query_empty"):
                return Answer(length, ())
            lie = self.faults.strikes("query_lies")
            return self._tracking.answer(chain, rct_id, offset, length, room, lie=lie)

    def set_knob(self, name: str, value: object) -> None:
        """Turn a knob (:class:`~knobs.Knobs`).

        Raises:
            ValueError: there is no such knob, or the value does not fit.
        """
        with self._now():
            self.knobs.set(name, value)
        for changed in self._watchers:
            changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a knob was turned or a fault armed."""
        self._watchers.append(changed)
        self.faults.watch(changed)

    def kept_image(self, checkpoint_id: UUID, slot: Slot) -> Path:
        """Raw image, kept apart, of what a disk was at a checkpoint; it outlives the checkpoint.

        Raises:
            FileNotFoundError: nothing was kept of it.
        """
        path = self.kept.frozen(checkpoint_id, slot)
        if not path.exists():
            raise FileNotFoundError(f"no image was kept of {slot} at checkpoint {checkpoint_id}")
        return path

    # -- inside -----------------------------------------------------------------------------------------

    def _vm(self, vm_id: UUID, node: str | None = None) -> Vm:
        vm = self._world.vms.get(vm_id)
        if vm is None or (node is not None and vm.node != node):
            raise vm_not_found(vm_id)
        return vm

    def _running(self, vm_id: UUID) -> Vm:
        vm = self._vm(vm_id)
        if vm.state is not VMState.Running:
            raise HyperVError(Wmi.INVALID_STATE, self._life.text("busy"))
        return vm

    def _checkpoint(self, checkpoint_id: UUID) -> Checkpoint:
        found = self._world.checkpoints.get(checkpoint_id)
        if found is None:
            raise HyperVError(Wmi.NOT_FOUND, self._life.text("not_found"))
        return found

    def _on_checkpoint(self, kind: JobKind, checkpoint_id: UUID) -> Job:
        with self._now():
            point = self._checkpoint(checkpoint_id)
            vm = self._vm(point.vm_id)
            self._life.check_ready(vm)
            return self._life.start(kind, vm, checkpoint=str(checkpoint_id))

    def _top(self, vm_id: UUID, slot: Slot) -> Layer:
        drive = self._vm(vm_id).drives.get(str(slot))
        if drive is None or drive.layer is None:
            raise ValueError(f"no disk at {slot}")
        return self._world.layers[drive.layer]

    def _attached_layer(self, handle: DiskHandle) -> Layer:
        layer = self._world.layers.get(handle.layer)
        if not handle.attached or layer is None:
            raise DiskError(Win32.INVALID_HANDLE, handle.path)
        return layer

    def _put(self, vm: Vm, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        layer = self._top(vm.vm_id, slot)
        self._check_bounds(layer, offset, len(data))
        self._check_space(vm, layer, offset, len(data))
        self._shelf.write(layer, offset, data)
        self._tracking.record(layer, offset, len(data))
        self.kept.write(vm.vm_id, slot, offset, data)

    def _clear(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        layer = self._top(vm_id, slot)
        self._check_bounds(layer, offset, length)
        self._shelf.clear(layer, offset, length)
        if not self.knobs.unmap_unreported:
            self._tracking.record(layer, offset, length)
        self.kept.clear(vm_id, slot, offset, length)

    @staticmethod
    def _check_bounds(layer: Layer, offset: int, length: int) -> None:
        sector = layer.logical_sector_bytes
        if offset < 0 or offset % sector or length % sector or offset + length > layer.size_bytes:
            raise ValueError(
                f"{length} bytes at {offset} are not whole sectors of a disk of {layer.size_bytes}"
            )

    def _check_space(self, vm: Vm, layer: Layer, offset: int, length: int) -> None:
        block = layer.block_bytes
        start, end = offset // block * block, -(-(offset + length) // block) * block
        # Cheap for the usual write, which falls into a block in use.
        if any(True for _ in layer.present.within(start, end)) and not self.faults.armed().get("volume_full"):
            return
        root = self._root(layer.path)
        full = root is not None and self._free(root) < end - start
        if self.faults.strikes("volume_full") or full:
            vm.state = VMState.PausedCritical
            self._life.log(ADMIN_LOG, 16050, vm, self._life.text("full", vm=vm.name))
            raise HyperVError(Wmi.INVALID_STATE, self._life.text("full", vm=vm.name), 0x80070070)

    def _root(self, path: str) -> str | None:
        """The volume a path is on, by the longest root that fits."""
        fits = [root for root in self._world.volumes if normal_path(path).startswith(normal_path(root))]
        return max(fits, key=len, default=None)

    def _free(self, root: str) -> int:
        volume = self._world.volumes[root]
        used = sum(
            self._shelf.file_bytes(layer)
            for layer in self._world.layers.values()
            if self._root(layer.path) == root
        )
        return max(0, volume.total_bytes - volume.used_elsewhere_bytes - used)
