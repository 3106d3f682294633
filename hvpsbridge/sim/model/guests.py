"""Being the guests: writing, trimming, taking over newer images; starting and stopping."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model.base import Base
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.lifecycle import ADMIN_LOG
from hvpsbridge.sim.model.state import (
    Layer,
    Slot,
    Vm,
    VMState,
)

# What each action of set_state leads to.
_ACTIONS = {
    "start": VMState.Running,
    "stop": VMState.Off,
    "save": VMState.Saved,
    "pause": VMState.Paused,
    "resume": VMState.Running,
    "power_off": VMState.Off,
}


class Guests(Base):
    """What happens inside VMs."""

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

    # -- inside -----------------------------------------------------------------------------------------

    def _running(self, vm_id: UUID) -> Vm:
        vm = self._vm(vm_id)
        if vm.state is not VMState.Running:
            raise HyperVError(Wmi.INVALID_STATE, self._life.text("busy"))
        return vm

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
        if self.knobs.unmap_keeps_data:
            return
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
        # Blocks the write would take that the file does not have yet; none for the usual write.
        grows = sum(
            block
            for start in range(offset // block * block, offset + length, block)
            if next(layer.present.within(start, start + block), None) is None
        )
        root = self._root(layer.path) if grows else None
        if self.faults.strikes("volume_full") or (root is not None and self._free(root) < grows):
            vm.state = VMState.PausedCritical
            self._life.log(ADMIN_LOG, 16050, vm, self._life.text("full", vm=vm.name))
            raise HyperVError(Wmi.INVALID_STATE, self._life.text("full", vm=vm.name), 0x80070070)
