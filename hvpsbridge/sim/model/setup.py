"""Hosts, volumes, VMs, drives and disks as an administrator adds and changes them."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model.core import FIRST_NODE, WORKER_LOG, Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.files import normal_path
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.state import ControllerType, Drive, Node, Slot, VhdFormat, VhdType, Vm, VMState
from hvpsbridge.sim.model.stored import Layer, Volume
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.units import MIB

_FIRST_SLOT = Slot(ControllerType.SCSI, 0, 0)
_FIXED = {"vm_id", "drives", "created"}


class Setup:
    """Adds to a world and changes it."""

    def __init__(self, core: Core, timeline: Timeline, merges: Merges) -> None:
        self._core = core
        self._timeline = timeline
        self._merges = merges

    def add_node(self, name: str, *, cluster: str | None = None) -> Node:
        """Add a host."""
        core = self._core
        with core.lock:
            now = core.clock.now()
            node = Node(name=name, fqdn=f"{name.lower()}.example.net", booted=now - 86400.0, cluster=cluster)
            core.world.nodes[name] = node
            return node

    def add_volume(
        self, root: str, total_bytes: int, used_elsewhere_bytes: int = 0, file_system: str = "NTFS"
    ) -> Volume:
        """Add a volume such as ``D:\\``, or change its size."""
        with self._timeline.now():
            volume = Volume(root, total_bytes, used_elsewhere_bytes, file_system)
            self._core.world.volumes[root] = volume
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
        """Create a VM without disks. ``settings`` are fields of ``state.Vm``.

        Raises:
            ValueError: the id is taken, the node is unknown, or there is no such setting.
        """
        with self._timeline.now():
            core, world = self._core, self._core.world
            vm_id = vm_id or core.fresh_id()
            if vm_id in world.vms or node not in world.nodes:
                raise ValueError(f"VM {vm_id} exists already, or host {node} does not exist")
            now = core.clock.now()
            where = folder or f"C:\\VMs\\{name}"
            vm = Vm(vm_id=vm_id, name=name, node=node, created=now, folder=where)
            world.vms[vm_id] = vm
            try:
                self.change_vm(vm_id, **settings)
            except ValueError:
                del world.vms[vm_id]
                raise
            vm.revision = 0
            vm.state, vm.started = state, (now if state is VMState.Running else None)
            return vm

    def change_vm(self, vm_id: UUID, **settings: object) -> None:
        """Change fields of a VM.

        Raises:
            ValueError: there is no such setting.
        """
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            for name, value in settings.items():
                if name not in Vm.__dataclass_fields__ or name in _FIXED:
                    raise ValueError(f"unknown setting {name!r} of a VM")
                value = _fitting(getattr(vm, name), name, value)
                if name == "commit_fork_events":
                    assert isinstance(value, int)
                    for _ in range(value - vm.commit_fork_events):
                        core.log(WORKER_LOG, 3216, vm, core.text("commit_forks", vm=vm.name))
                setattr(vm, name, value)
            vm.revision += 1
            self._merges.plan(vm)

    def delete_vm(self, vm_id: UUID) -> None:
        """Delete a VM whose disks were removed.

        Raises:
            HyperVError: it has checkpoints.
        """
        with self._timeline.now():
            world = self._core.world
            if any(point.vm_id == vm_id for point in world.checkpoints.values()):
                raise HyperVError(Wmi.INVALID_STATE, self._core.text("busy"))
            for key in [key for key, one in world.reference_points.items() if one.vm_id == vm_id]:
                del world.reference_points[key]
            world.roles.pop(vm_id, None)
            del world.vms[vm_id]

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
        """Add a disk at ``slot``, empty or with the content of a raw image.

        Args:
            size_bytes: virtual size, a multiple of the sector size; by default that of the image.
            path: Windows path of the file; by default in the VM's folder.
            disk_id: VirtualDiskId; by default a new one. Clones of a template share it.

        Raises:
            ValueError: the slot or path is taken, or the size does not fit.
        """
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            size = size_bytes if size_bytes is not None else image.stat().st_size if image else 0
            if size <= 0 or size % logical_sector_bytes:
                raise ValueError(
                    f"size {size} is not a positive multiple of the sector size {logical_sector_bytes}"
                )
            if str(slot) in vm.drives and vm.drives[str(slot)].layer is not None:
                raise ValueError(f"slot {slot} of {vm.name} is taken")
            suffix = "vhd" if format is VhdFormat.VHD else "vhds" if format is VhdFormat.VHDSet else "vhdx"
            name = f"{vm.name}-{str(slot).replace(':', '-')}.{suffix}"
            where = path or f"{vm.folder}\\Virtual Hard Disks\\{name}"
            if any(normal_path(other.path) == normal_path(where) for other in core.world.layers.values()):
                raise ValueError(f"{where} exists already")
            layer = Layer(
                number=core.world.next(),
                path=where,
                size_bytes=size,
                disk_id=disk_id or core.fresh_id(),
                logical_sector_bytes=logical_sector_bytes,
                block_bytes=block_bytes,
                format=format,
                kind=kind,
            )
            core.files.new_base(layer, image)
            vm.drives[str(slot)] = Drive(slot, layer.number, shared=shared)
            vm.revision += 1
            core.golden.add(vm_id, slot, size, image)
            return slot

    def attach_file(self, vm_id: UUID, slot: Slot, path: str) -> None:
        """Attach a virtual disk file that exists.

        Raises:
            ValueError: the slot is taken, or another VM has the file.
            DiskError: the file does not exist, or is no virtual disk.
        """
        with self._timeline.now():
            core = self._core
            vm = core.vm(vm_id)
            layer = core.files.by_path(path)
            if str(slot) in vm.drives or any(core.drives_of(layer)):
                raise ValueError(f"slot {slot} of {vm.name} or {path} is taken")
            vm.drives[str(slot)] = Drive(slot, layer.number)
            # Hyper-V adds an entry for the VM to the rights of the file.
            layer.folder_rights = False
            vm.revision += 1
            core.golden.add(vm_id, slot, layer.size_bytes, core.files.backing(layer))

    def add_pass_through(self, vm_id: UUID, slot: Slot, number: int) -> None:
        """Attach a physical disk of the host to the VM."""
        with self._timeline.now():
            vm = self._core.vm(vm_id)
            vm.drives[str(slot)] = Drive(slot, None, pass_through_number=number)
            vm.revision += 1

    def add_empty_drive(self, vm_id: UUID, slot: Slot) -> None:
        """Add a disk drive without a disk."""
        with self._timeline.now():
            vm = self._core.vm(vm_id)
            vm.drives[str(slot)] = Drive(slot, None)
            vm.revision += 1

    def remove_disk(self, vm_id: UUID, slot: Slot) -> None:
        """Remove a drive from the VM, and its file unless that is needed elsewhere or a program wrote it.

        Raises:
            ValueError: there is no such drive.
        """
        with self._timeline.now():
            core, world = self._core, self._core.world
            vm = core.vm(vm_id)
            if str(slot) not in vm.drives:
                raise ValueError(f"no drive at {slot}")
            drive = vm.drives.pop(str(slot))
            vm.revision += 1
            core.golden.remove(vm_id, slot)
            number = drive.layer
            while number is not None:
                layer = world.layers[number]
                held = any(number in point.disks.values() for point in world.checkpoints.values())
                if held or any(core.drives_of(layer)) or core.files.children(layer):
                    break
                if any(file.layer == number for file in world.host_files.values()):
                    break
                number = layer.parent
                core.files.delete(layer)

    def resize_disk(self, vm_id: UUID, slot: Slot, size_bytes: int) -> None:
        """Resize the VM's disk, as ``Resize-VHD`` does.

        Raises:
            HyperVError: the disk has checkpoints.
        """
        with self._timeline.now():
            core = self._core
            layer = core.top(vm_id, slot)
            if layer.made_by_checkpoint:
                raise HyperVError(Wmi.INVALID_STATE, core.text("busy"))
            core.resize(layer, size_bytes)

    def move_disk(self, vm_id: UUID, slot: Slot, folder: str) -> None:
        """Storage migration: move all files of the disk's chain to another Windows folder."""
        with self._timeline.now():
            core = self._core
            for layer in core.files.chain(core.top(vm_id, slot)):
                layer.path = folder.rstrip("\\") + "\\" + layer.path.rpartition("\\")[2]
                if core.knobs.ids_die_on_move:
                    core.tracking.forget(layer)
            core.vm(vm_id).revision += 1

    def swap_disk(
        self, vm_id: UUID, slot: Slot, image: Path | None = None, *, disk_id: UUID | None = None
    ) -> None:
        """Replace a disk by another one of the same size, slot and path, as an in-place restore does.

        Args:
            disk_id: VirtualDiskId; by default a new one. A copy of the same disk has the old one.

        Raises:
            ValueError: the disk has checkpoints, which need the file.
        """
        with self._timeline.now():
            core = self._core
            old = core.files.chain(core.top(vm_id, slot))[-1]
            if any(old.number in point.disks.values() for point in core.world.checkpoints.values()):
                raise ValueError(f"{old.path} belongs to a checkpoint; remove the checkpoint first")
            path, size, sector = old.path, old.size_bytes, old.logical_sector_bytes
            self.remove_disk(vm_id, slot)
            self.add_disk(
                vm_id,
                slot,
                image=image,
                size_bytes=size,
                path=path,
                disk_id=disk_id,
                logical_sector_bytes=sector,
            )


def _fitting(current: object, name: str, value: object) -> object:
    """``value`` as the type of the setting; enum members may be given by name.

    Raises:
        ValueError: it does not fit.
    """
    if isinstance(current, IntEnum):
        kind = type(current)
        if isinstance(value, str):
            wanted = value.replace("_", "").lower()
            for member in kind:
                if member.name.replace("_", "").lower() == wanted:
                    return member
        elif isinstance(value, int):
            return kind(value)
        raise ValueError(f"{name} takes one of {', '.join(m.name.rstrip('_') for m in kind)}, not {value!r}")
    if current is not None and type(value) is not type(current):
        raise ValueError(f"{name} takes a {type(current).__name__}, not {value!r}")
    return value
