"""Guests: writing, trimming, reading, taking over the content of a newer image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model.core import ADMIN_LOG, Core
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Win32, Wmi
from hvpsbridge.sim.model.handles import DiskHandle
from hvpsbridge.sim.model.state import Slot, Vm, VMState
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.sim.model.volumes import free_bytes, root_of


class Guests:
    """What happens inside VMs."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def write(self, vm_id: UUID, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        """The guest writes. Offset and length are whole sectors.

        Raises:
            ValueError: the range is not aligned, or ends past the disk.
            HyperVError: the VM is not running, or its volume is full, which pauses the VM.
        """
        with self._timeline.now():
            vm = self._running(vm_id)
            self._put(vm, slot, offset, data)

    def write_offline(self, handle: DiskHandle, offset: int, data: bytes) -> None:
        """The host writes into an attached disk of a VM that is off. Tracked like a guest's writes.

        Raises:
            DiskError: the disk is not attached, is not the top of a chain of a VM, or the range is not
                whole sectors of it.
        """
        with self._timeline.now():
            if not handle.attached:
                raise DiskError(Win32.INVALID_HANDLE, handle.path)
            for vm in self._core.world.vms.values():
                for drive in vm.drives.values():
                    if drive.layer == handle.layer:
                        with _as_disk_errors(handle.path):
                            self._put(vm, drive.slot, offset, data)
                        return
            raise DiskError(Win32.INVALID_PARAMETER, handle.path)

    def unmap(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """The guest trims a range, which reads as zeros afterwards.

        Raises:
            ValueError: the range is not aligned, or ends past the disk.
            HyperVError: the VM is not running.
        """
        with self._timeline.now():
            self._running(vm_id)
            self._clear(vm_id, slot, offset, length)

    def read(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> bytes:
        """What the guest reads."""
        with self._timeline.now():
            return self._core.files.read(self._core.top(vm_id, slot), offset, length)

    def apply_image(self, vm_id: UUID, slot: Slot, newer: Path) -> int:
        """Write what differs between the disk and a newer raw image of it, as the guest.

        Returns:
            Number of bytes written or trimmed.

        Raises:
            ValueError: the image has another size.
            HyperVError: the VM is not running, or its volume is full.
        """
        with self._timeline.now():
            vm = self._running(vm_id)
            layer = self._core.top(vm_id, slot)
            if newer.stat().st_size != layer.size_bytes:
                raise ValueError(
                    f"{newer} has {newer.stat().st_size} bytes, but the disk has {layer.size_bytes}"
                )
            written = 0
            unit = max(4096, layer.logical_sector_bytes)
            if layer.size_bytes % unit:
                unit = layer.logical_sector_bytes
            for offset, change in self._core.files.differences(layer, newer, unit):
                if isinstance(change, int):
                    self._clear(vm_id, slot, offset, change)
                    written += change
                else:
                    self._put(vm, slot, offset, change)
                    written += len(change)
            return written

    # -- inside -----------------------------------------------------------------------------------------

    def _running(self, vm_id: UUID) -> Vm:
        vm = self._core.vm(vm_id)
        if vm.state is not VMState.Running:
            raise HyperVError(Wmi.INVALID_STATE, self._core.text("busy"))
        return vm

    def _put(self, vm: Vm, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        core = self._core
        layer = core.top(vm.vm_id, slot)
        self._check_bounds(layer, offset, len(data))
        self._check_space(vm, layer, offset, len(data))
        core.files.write(layer, offset, data)
        core.tracking.record(layer, offset, len(data))
        core.golden.write(vm.vm_id, slot, offset, data)

    def _clear(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        core = self._core
        layer = core.top(vm_id, slot)
        self._check_bounds(layer, offset, length)
        if core.knobs.unmap_keeps_data:
            return
        core.files.clear(layer, offset, length)
        if not core.knobs.unmap_unreported:
            core.tracking.record(layer, offset, length)
        core.golden.clear(vm_id, slot, offset, length)

    @staticmethod
    def _check_bounds(layer: Layer, offset: int, length: int) -> None:
        sector = layer.logical_sector_bytes
        if offset < 0 or offset % sector or length % sector or offset + length > layer.size_bytes:
            raise ValueError(
                f"{length} bytes at {offset} are not whole sectors within a disk of {layer.size_bytes}"
            )

    def _check_space(self, vm: Vm, layer: Layer, offset: int, length: int) -> None:
        core = self._core
        block = layer.block_bytes
        # Blocks that the write allocates; usually none.
        grows = sum(
            block
            for start in range(offset // block * block, offset + length, block)
            if next(layer.present.within(start, start + block), None) is None
        )
        root = root_of(core, layer.path) if grows else None
        if core.faults.fires("volume_full") or (root is not None and free_bytes(core, root) < grows):
            vm.state = VMState.PausedCritical
            core.log(ADMIN_LOG, 16050, vm, core.text("full", vm=vm.name))
            raise HyperVError(Wmi.INVALID_STATE, core.text("full", vm=vm.name), 0x80070070)


@contextmanager
def _as_disk_errors(path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as err:
        raise DiskError(Win32.INVALID_PARAMETER, path) from err
