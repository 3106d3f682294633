"""Disks under their names on a host: what renaming and replacing a file means for a virtual disk."""

from __future__ import annotations

from dataclasses import replace

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.sim.model.files import path_key
from hvpsbridge.sim.model.state import VMState
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.units import MIB


class HostDisks:
    """Disks of a world by their paths. The caller holds the time."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def find(self, path: str) -> Layer | None:
        """The disk at a path."""
        layers = self._core.world.layers.values()
        return next((layer for layer in layers if path_key(layer.path) == path_key(path)), None)

    def tracking(self, path: str) -> Layer | None:
        """The disk to which a file of change tracking belongs."""
        extension = path[-4:].lower()
        if extension not in (".rct", ".mrt"):
            return None
        layers = [layer for layer in self._core.world.layers.values() if layer.tracking_enabled]
        wanted = path_key(path[:-4])
        return next(
            (layer for layer in layers if path_key(layer.beside.get(extension, layer.path)) == wanted), None
        )

    def rename(self, layer: Layer, path: str) -> None:
        """Give a disk another path. Its VM and its change tracking keep the old one, until it is put back."""
        old = layer.path
        layer.path = path
        if any(self._core.drives_of(layer)):
            vm_path = layer.vm_path or old
            layer.vm_path = None if path_key(vm_path) == path_key(path) else vm_path
        for extension in (".rct", ".mrt"):
            self.rename_tracking(layer, extension, layer.beside.get(extension, old))
        self._put_back(layer)

    def _put_back(self, layer: Layer) -> None:
        """A file under the name of one that was renamed is the disk of that one's VM."""
        for vm in self._core.world.vms.values():
            for drive in vm.drives.values():
                old = None if drive.layer is None else self._core.world.layers[drive.layer]
                if old is None or old is layer or old.vm_path is None:
                    continue
                if path_key(old.vm_path) == path_key(layer.path):
                    old.vm_path = None
                    drive.layer = layer.number
                    self._core.golden.remove(vm.vm_id, drive.slot)
                    backing = self._core.files.backing(layer)
                    self._core.golden.add(vm.vm_id, drive.slot, layer.size_bytes, backing)

    def overwrite(self, layer: Layer, source: Layer) -> None:
        """Give a disk the content and size of another one. Change tracking does not see it."""
        core = self._core
        if layer.size_bytes != source.size_bytes:
            core.resize(layer, source.size_bytes)
        for offset in range(0, layer.size_bytes, MIB):
            length = min(MIB, layer.size_bytes - offset)
            data = core.files.read(source, offset, length)
            if data != core.files.read(layer, offset, length):
                core.files.write(layer, offset, data)
                for vm, drive in core.drives_of(layer):
                    core.golden.write(vm.vm_id, drive.slot, offset, data)

    def copy(self, source: Layer, path: str) -> None:
        """Make a disk with the content of another one, and without its change tracking."""
        core = self._core
        made = replace(
            source,
            number=core.world.next(),
            path=path,
            present=ExtentSet(),
            epochs=[],
            tracking_enabled=False,
            unreadable=ExtentSet(),
            vm_path=None,
            beside={},
            folder_rights=True,
        )
        core.files.new_base(made, core.files.backing(source))

    def delete(self, layer: Layer) -> None:
        """Delete a disk.

        Raises:
            DiskError: a VM has it, off or not, or another disk is based on it.
        """
        if any(self._core.drives_of(layer)) or self._core.files.children(layer):
            raise DiskError(Win32.SHARING_VIOLATION, layer.path)
        self._core.files.delete(layer)

    def is_used(self, layer: Layer) -> bool:
        """Whether a VM that is on, or a program, has a disk open."""
        live = any(vm.state not in (VMState.Off, VMState.Saved) for vm, _ in self._core.drives_of(layer))
        return live or self._core.handles.locks(layer.number)

    @staticmethod
    def rename_tracking(layer: Layer, extension: str, path: str) -> None:
        """Rename a file of change tracking; ``path`` is without its extension."""
        if path_key(path) == path_key(layer.path):
            layer.beside.pop(extension, None)
        else:
            layer.beside[extension] = path
