"""Folders of a host: those that programs made, and those that are there because something is in them."""

from __future__ import annotations

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.files import path_key
from hvpsbridge.sim.model.stored import HostFolder
from hvpsbridge.sim.model.volumes import free_bytes, root_of

COMPRESSED, ENCRYPTED = 0x800, 0x4000
# Where Get-VMHost says that VMs are.
VM_FOLDER = "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"
# Free space of a share.
_SHARE_BYTES = 1 << 40


class HostFolders:
    """Folders of a world. The caller holds the time."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def add(self, path: str, *, compressed: bool, encrypted: bool) -> None:
        """Make a folder, or change what its new files are."""
        self._core.world.host_folders[path_key(path)] = HostFolder(path, compressed, encrypted)

    def remove(self, path: str) -> None:
        """Remove a folder, if a program made it."""
        self._core.world.host_folders.pop(path_key(path), None)

    def is_empty(self, path: str) -> bool:
        """Whether nothing is in a folder."""
        return not any(path_key(other).startswith(path_key(path) + "\\") for other in self._paths())

    def _paths(self) -> list[str]:
        world = self._core.world
        found = [file.path for file in world.host_files.values()]
        found += [folder.path for folder in world.host_folders.values()]
        found += [layer.path for layer in world.layers.values()]
        return found + [f"{vm.folder}\\Virtual Machines\\{vm.vm_id}.vmcx" for vm in world.vms.values()]

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at a path."""
        key = path_key(path)
        if key.startswith("\\\\"):
            return key.count("\\") == 3 or self._made(key)
        roots = {path_key(root) for root in self._core.world.volumes}
        return key in roots or path_key(VM_FOLDER + "\\x").startswith(key + "\\") or self._made(key)

    def _made(self, key: str) -> bool:
        return key in self._core.world.host_folders or any(
            path_key(path).startswith(key + "\\") for path in self._paths()
        )

    def inherited(self, path: str) -> int:
        """Attributes that a new file or folder gets from its folder."""
        key = path_key(path)
        while "\\" in key:
            folder = self._core.world.host_folders.get(key)
            if folder is not None:
                return COMPRESSED * folder.compressed | ENCRYPTED * folder.encrypted
            key = key.rpartition("\\")[0]
        return 0

    def free_bytes(self, path: str) -> int:
        """Free space at a path."""
        root = root_of(self._core, path + "\\")
        return _SHARE_BYTES if root is None else free_bytes(self._core, root)
