"""Drives of VMs and checkpoints, and the virtual disk files behind them."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Win32, Wmi
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.state import Drive, Slot, VhdType, VMState
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.sim.model.volumes import free_bytes, root_of


class Disks:
    """The disks of a world. A layer is one virtual disk file; it keeps its number until it is merged."""

    def __init__(self, core: Core, timeline: Timeline, merges: Merges) -> None:
        self._core = core
        self._timeline = timeline
        self._merges = merges

    def drives(self, vm_id: UUID, checkpoint_id: UUID | None = None) -> tuple[Drive, ...]:
        """Drives of a VM, or of a checkpoint with its frozen layers, by slot."""
        with self._timeline.now():
            vm = self._core.vm(vm_id)
            if checkpoint_id is None:
                return tuple(sorted(vm.drives.values(), key=lambda drive: drive.slot))
            point = self._core.checkpoint(checkpoint_id)
            return tuple(
                sorted(
                    (Drive(Slot.parse(slot), number) for slot, number in point.disks.items()),
                    key=lambda drive: drive.slot,
                )
            )

    def layer(self, number: int) -> Layer:
        """A layer by number, or the layer it has been merged into.

        Raises:
            KeyError: it has been deleted.
        """
        with self._timeline.now():
            return self._core.world.layers[self._core.world.now_in(number)]

    def at(self, path: str) -> Layer:
        """The virtual disk file at a Windows path.

        Raises:
            DiskError: there is none.
        """
        with self._timeline.now():
            self._maybe_end_merges()
            return self._core.files.by_path(path)

    def chain(self, number: int) -> tuple[Layer, ...]:
        """A layer and its ancestors, top first.

        Raises:
            DiskError: a parent is missing.
        """
        with self._timeline.now():
            if not self._timeline.held:
                self._maybe_end_merges()
            world = self._core.world
            return tuple(self._core.files.chain(world.layers[world.now_in(number)]))

    def file_bytes(self, number: int) -> int:
        """Size of a layer's file on its volume."""
        with self._timeline.now():
            return self._core.files.file_bytes(self._core.world.layers[self._core.world.now_in(number)])

    def resize(self, path: str, size_bytes: int) -> None:
        """``Resize-VHD``.

        Raises:
            DiskError: there is no such file, it is in use, has a parent, or does not fit on its volume.
        """
        with self._timeline.now():
            core = self._core
            layer = core.files.by_path(path)
            if self.in_use(layer.number):
                raise DiskError(Win32.SHARING_VIOLATION, path)
            if layer.parent is not None or size_bytes % layer.logical_sector_bytes:
                raise DiskError(Win32.VHD_INVALID_TYPE, path)
            root = root_of(core, path)
            grown = size_bytes - layer.size_bytes if layer.kind is VhdType.Fixed else 0
            if root is not None and grown > free_bytes(core, root):
                raise DiskError(Win32.DISK_FULL, path)
            core.resize(layer, size_bytes)

    def in_use(self, number: int) -> bool:
        """``Attached``: a running VM has the layer on its chain, or it is attached through a handle."""
        with self._timeline.now():
            core = self._core
            return core.handles.locks(number) or any(
                member.number == number
                for vm in core.world.vms.values()
                if vm.state is VMState.Running
                for drive in vm.drives.values()
                if drive.layer is not None
                for member in core.files.chain(core.layer(drive))
            )

    def check_busy(self, number: int) -> None:
        """Refuse a layer that a merge is working on (``Knobs.vhd_busy_while_merging``).

        Raises:
            HyperVError: as ``Get-VHD`` refuses it.
        """
        with self._timeline.now():
            core = self._core
            if core.knobs.vhd_busy_while_merging and self._merges.works_on(number):
                raise HyperVError(Wmi.IN_USE, core.text("in_use"))

    def _maybe_end_merges(self) -> None:
        """Fault ``merge_ends``: a file that the caller has just listed may be gone now."""
        merging = any(self._merges.merging(vm) for vm in self._core.world.vms.values())
        if merging and self._core.faults.fires("merge_ends"):
            self._merges.hurry()
            self._timeline.advance()
