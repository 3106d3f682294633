"""Files and folders of a host, as far as programs on it make them: new disk files, their folders, renaming.

A file is a sparse file beside those of the disks. When it is opened as a virtual disk, it becomes one
(:mod:`image_files`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.sim.model.files import normal_path
from hvpsbridge.sim.model.image_files import layer_of
from hvpsbridge.sim.model.state import HostFile, HostFolder, Layer, VMState
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.sim.model.volumes import free_bytes, root_of
from hvpsbridge.units import MIB

DIRECTORY, SPARSE, COMPRESSED, ENCRYPTED, NORMAL = 0x10, 0x200, 0x800, 0x4000, 0x80
# Where Get-VMHost says that VMs are.
VM_FOLDER = "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"
# Free space of a share.
_SHARE_BYTES = 1 << 40


@dataclass(slots=True)
class FileHandle:
    """A file that a process has open to write, alone.

    Attributes:
        file: number of the file.
        owner: the process, such as ``pid:4711``.
    """

    file: int
    owner: str


class HostFiles:
    """Files and folders of a world."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline
        self._open: list[FileHandle] = []
        core.files.adopt = self._adopt
        core.files.is_open = self._is_open
        known = {file.backing for file in core.world.host_files.values()}
        for left in core.files.folder.glob("*.file"):
            if left.name not in known:
                left.unlink()

    def attributes(self, path: str) -> int:
        """``GetFileAttributes``.

        Raises:
            DiskError: there is nothing.
        """
        with self._timeline.now():
            self._check_share(path)
            file = self._find(path)
            if file is not None:
                flags = COMPRESSED * file.compressed | ENCRYPTED * file.encrypted
                return flags or NORMAL
            if self._layer(path) is not None or self._tracking(path) is not None:
                return NORMAL
            if self._is_folder(path):
                return DIRECTORY | self._inherited(path)
            raise DiskError(Win32.FILE_NOT_FOUND, path)

    def free_bytes(self, path: str) -> int:
        """Free space at a folder that exists.

        Raises:
            DiskError: the folder does not exist.
        """
        with self._timeline.now():
            self._check_share(path)
            if not self._is_folder(path):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            return self._free(path)

    def make_folder(self, path: str) -> None:
        """``CreateDirectory``.

        Raises:
            DiskError: its parent does not exist, it does, or it may not be made.
        """
        with self._timeline.now():
            self._check_rights(path)
            if self._is_folder(path) or self._find(path) is not None:
                raise DiskError(Win32.ALREADY_EXISTS, path)
            if not self._is_folder(_parent(path)):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            flags = self._inherited(path)
            self._core.world.host_folders[_key(path)] = HostFolder(
                path, bool(flags & COMPRESSED), bool(flags & ENCRYPTED)
            )

    def set_folder(self, path: str, *, compressed: bool = False, encrypted: bool = False) -> None:
        """Make a folder, if need be, whose new files are compressed or encrypted."""
        with self._timeline.now():
            self._core.world.host_folders[_key(path)] = HostFolder(path, compressed, encrypted)

    def remove_folder(self, path: str) -> None:
        """``RemoveDirectory``.

        Raises:
            DiskError: it does not exist, or is not empty.
        """
        with self._timeline.now():
            self._check_rights(path)
            if not self._is_folder(path):
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            if any(_key(other).startswith(_key(path) + "\\") for other in self._paths()):
                raise DiskError(Win32.DIR_NOT_EMPTY, path)
            self._core.world.host_folders.pop(_key(path), None)

    def create(self, path: str, owner: str) -> FileHandle:
        """``CreateFile`` with ``CREATE_NEW``.

        Raises:
            DiskError: the file exists, or its folder does not, or nothing may be made there.
        """
        with self._timeline.now():
            self._check_rights(path)
            if not self._is_folder(_parent(path)):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            if self._find(path) is not None or self._layer(path) is not None or self._is_folder(path):
                raise DiskError(Win32.FILE_EXISTS, path)
            world, flags = self._core.world, self._inherited(path)
            file = HostFile(
                number=world.next(),
                path=path,
                compressed=bool(flags & COMPRESSED),
                encrypted=bool(flags & ENCRYPTED),
            )
            sparse.create(self.backing(file), 0)
            world.host_files[file.number] = file
            handle = FileHandle(file.number, owner)
            self._open.append(handle)
            return handle

    def open(self, path: str, owner: str) -> FileHandle:
        """``CreateFile`` with ``OPEN_EXISTING``, to write.

        Raises:
            DiskError: it does not exist, or is in use.
        """
        with self._timeline.now():
            self._check_rights(path)
            file = self._find(path)
            if file is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            self._check_unused(path)
            if file.layer is not None:
                # Written again, it is another disk the next time it is opened as one.
                layer, file.layer = self._core.world.layers[file.layer], None
                self._core.files.delete(layer)
            handle = FileHandle(file.number, owner)
            self._open.append(handle)
            return handle

    def backing_of(self, handle: FileHandle) -> Path:
        """The sparse file with the content."""
        with self._timeline.now():
            return self.backing(self._file(handle))

    def path_of(self, handle: FileHandle) -> str:
        """Windows path of an open file."""
        with self._timeline.now():
            return self._file(handle).path

    def set_size(self, handle: FileHandle, size_bytes: int) -> None:
        """``SetEndOfFile``.

        Raises:
            DiskError: the volume is full.
        """
        with self._timeline.now():
            file = self._file(handle)
            self._grow(file, size_bytes)
            os.truncate(self.backing(file), size_bytes)
            file.size_bytes = size_bytes

    def will_write(self, handle: FileHandle, offset: int, length: int) -> None:
        """``WriteFile``, before the bytes are in the backing file.

        Raises:
            DiskError: the volume is full.
        """
        with self._timeline.now():
            file = self._file(handle)
            self._grow(file, max(file.size_bytes, offset + length))
            file.size_bytes = max(file.size_bytes, offset + length)

    def uncompress(self, handle: FileHandle) -> None:
        """``FSCTL_SET_COMPRESSION`` with no compression."""
        with self._timeline.now():
            self._file(handle).compressed = False

    def close(self, handle: FileHandle) -> None:
        """Close a handle."""
        with self._timeline.now(), suppress(ValueError):
            self._open.remove(handle)

    def close_owner(self, owner: str) -> None:
        """Close the files of a process that has ended."""
        with self._timeline.now():
            self._open = [handle for handle in self._open if handle.owner != owner]

    def move(self, path: str, destination: str) -> None:
        """``MoveFileEx`` without replacing anything.

        Raises:
            DiskError: the file does not exist, something has the new name, or the file is in use.
        """
        with self._timeline.now():
            self._check_rights(path)
            file, layer, tracking = self._find(path), self._layer(path), self._tracking(path)
            if file is None and layer is None and tracking is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            if not self._is_folder(_parent(destination)):
                raise DiskError(Win32.PATH_NOT_FOUND, destination)
            if self._find(destination) or self._layer(destination) or self._tracking(destination):
                raise DiskError(Win32.ALREADY_EXISTS, destination)
            if tracking is not None:
                self._check_unused(tracking.path)
                _set_beside(tracking, path[-4:].lower(), destination[:-4])
                return
            self._check_unused(path)
            if file is not None:
                file.path = destination
            if layer is not None:
                if self._core.knobs.ids_die_on_rename:
                    self._core.tracking.forget(layer)
                self._rename(layer, destination)
                self._put_back(layer)

    def copy(self, path: str, destination: str, *, overwrite: bool) -> None:
        """``CopyFile``.

        Raises:
            DiskError: the file does not exist, it or the other one is in use, something has the new name and
                is not to be overwritten, or the volume is full.
        """
        with self._timeline.now():
            self._check_rights(path)
            core, world = self._core, self._core.world
            source = core.files.by_path(path)
            if not self._is_folder(_parent(destination)):
                raise DiskError(Win32.PATH_NOT_FOUND, destination)
            there = self._layer(destination)
            if there is not None and not overwrite:
                raise DiskError(Win32.FILE_EXISTS, destination)
            self._check_unused(path)
            if core.files.file_bytes(source) > self._free(destination) + (
                0 if there is None else core.files.file_bytes(there)
            ):
                raise DiskError(Win32.DISK_FULL, destination)
            if there is not None:
                self._check_unused(destination)
                self._replace(there, source)
                return
            made = replace(
                source,
                number=world.next(),
                path=destination,
                present=ExtentSet(),
                epochs=[],
                tracking_enabled=False,
                unreadable=ExtentSet(),
                vm_path=None,
                beside={},
                folder_rights=True,
            )
            core.files.new_base(made, core.files.backing(source))

    def delete(self, path: str) -> None:
        """``DeleteFile``.

        Raises:
            DiskError: the file does not exist, or it is in use, by a VM that is off as well.
        """
        with self._timeline.now():
            self._check_rights(path)
            file, layer = self._find(path), self._layer(path)
            if file is None and layer is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            self._check_unused(path)
            world = self._core.world
            if layer is not None:
                held = any(d.layer == layer.number for vm in world.vms.values() for d in vm.drives.values())
                if held or self._core.files.children(layer):
                    raise DiskError(Win32.SHARING_VIOLATION, path)
                self._core.files.delete(layer)
            if file is not None and file.number in world.host_files:
                self.backing(file).unlink(missing_ok=True)
                del world.host_files[file.number]

    def content(self, path: str) -> Path:
        """The sparse file with the content of a file, as it was written.

        Raises:
            DiskError: the file does not exist.
        """
        with self._timeline.now():
            file = self._find(path)
            if file is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            return self.backing(file)

    def made(self) -> tuple[str, ...]:
        """Paths of all files and folders that programs made."""
        with self._timeline.now():
            world = self._core.world
            files = [file.path for file in world.host_files.values()]
            return tuple(sorted([*files, *(folder.path for folder in world.host_folders.values())]))

    # -- inside ---------------------------------------------------------------------------------------

    def backing(self, file: HostFile) -> Path:
        """The sparse file with the content of a file."""
        return self._core.files.folder / file.backing

    def _adopt(self, path: str) -> Layer | None:
        """The virtual disk that a file holds, if it was not opened as one before."""
        file = self._find(path)
        if file is None:
            return None
        if self._is_open(path):
            raise DiskError(Win32.SHARING_VIOLATION, path)
        if file.compressed or file.encrypted:
            raise DiskError(Win32.VHD_COMPRESSED, path)
        layer = layer_of(self._core, file, self.backing(file))
        file.layer = layer.number
        return layer

    def _is_open(self, path: str) -> bool:
        file = self._find(path)
        return file is not None and any(handle.file == file.number for handle in self._open)

    def _rename(self, layer: Layer, path: str) -> None:
        old, vms = layer.path, self._core.world.vms.values()
        layer.path = path
        if any(drive.layer == layer.number for vm in vms for drive in vm.drives.values()):
            vm_path = layer.vm_path or old
            layer.vm_path = None if _key(vm_path) == _key(path) else vm_path
        for extension in (".rct", ".mrt"):
            _set_beside(layer, extension, layer.beside.get(extension, old))

    def _put_back(self, layer: Layer) -> None:
        """A file under the name of one that was renamed is the disk of that one's VM."""
        for vm in self._core.world.vms.values():
            for drive in vm.drives.values():
                old = None if drive.layer is None else self._core.world.layers[drive.layer]
                if old is None or old is layer or old.vm_path is None:
                    continue
                if _key(old.vm_path) == _key(layer.path):
                    old.vm_path = None
                    drive.layer = layer.number
                    self._core.golden.remove(vm.vm_id, drive.slot)
                    backing = self._core.files.backing(layer)
                    self._core.golden.add(vm.vm_id, drive.slot, layer.size_bytes, backing)

    def _replace(self, layer: Layer, source: Layer) -> None:
        """Give a disk the content and size of another one. Change tracking does not see it."""
        core = self._core
        owners = [
            (vm.vm_id, drive.slot)
            for vm in core.world.vms.values()
            for drive in vm.drives.values()
            if drive.layer == layer.number
        ]
        if layer.size_bytes != source.size_bytes:
            core.files.resize(layer, source.size_bytes)
            for vm_id, slot in owners:
                core.golden.resize(vm_id, slot, source.size_bytes)
        for offset in range(0, layer.size_bytes, MIB):
            length = min(MIB, layer.size_bytes - offset)
            data = core.files.read(source, offset, length)
            if data != core.files.read(layer, offset, length):
                core.files.write(layer, offset, data)
                for vm_id, slot in owners:
                    core.golden.write(vm_id, slot, offset, data)

    def _tracking(self, path: str) -> Layer | None:
        """The disk to which a file of change tracking belongs."""
        extension = path[-4:].lower()
        if extension not in (".rct", ".mrt"):
            return None
        layers = [layer for layer in self._core.world.layers.values() if layer.tracking_enabled]
        wanted = _key(path[:-4])
        return next(
            (layer for layer in layers if _key(layer.beside.get(extension, layer.path)) == wanted), None
        )

    def _file(self, handle: FileHandle) -> HostFile:
        if handle not in self._open:
            raise DiskError(Win32.INVALID_HANDLE, "")
        return self._core.world.host_files[handle.file]

    def _find(self, path: str) -> HostFile | None:
        files = self._core.world.host_files.values()
        return next((file for file in files if _key(file.path) == _key(path)), None)

    def _layer(self, path: str) -> Layer | None:
        layers = self._core.world.layers.values()
        return next((layer for layer in layers if _key(layer.path) == _key(path)), None)

    def _check_unused(self, path: str) -> None:
        file, layer = self._find(path), self._layer(path)
        if file is not None and any(handle.file == file.number for handle in self._open):
            raise DiskError(Win32.SHARING_VIOLATION, path)
        if layer is None:
            return
        live = any(
            drive.layer == layer.number
            for vm in self._core.world.vms.values()
            if vm.state not in (VMState.Off, VMState.Saved)
            for drive in vm.drives.values()
        )
        if live or self._core.handles.locks(layer.number):
            raise DiskError(Win32.SHARING_VIOLATION, path)

    def _paths(self) -> list[str]:
        world = self._core.world
        found = [file.path for file in world.host_files.values()]
        found += [folder.path for folder in world.host_folders.values()]
        found += [layer.path for layer in world.layers.values()]
        return found + [f"{vm.folder}\\Virtual Machines\\{vm.vm_id}.vmcx" for vm in world.vms.values()]

    def _is_folder(self, path: str) -> bool:
        key = _key(path)
        if key.startswith("\\\\"):
            return key.count("\\") == 3 or self._made(key)
        roots = {_key(root) for root in self._core.world.volumes}
        return key in roots or _key(VM_FOLDER + "\\x").startswith(key + "\\") or self._made(key)

    def _made(self, key: str) -> bool:
        return key in self._core.world.host_folders or any(
            _key(path).startswith(key + "\\") for path in self._paths()
        )

    def _inherited(self, path: str) -> int:
        """Attributes that a new file or folder gets from its folder."""
        key = _key(path)
        while "\\" in key:
            folder = self._core.world.host_folders.get(key)
            if folder is not None:
                return COMPRESSED * folder.compressed | ENCRYPTED * folder.encrypted
            key = key.rpartition("\\")[0]
        return 0

    def _free(self, path: str) -> int:
        root = root_of(self._core, path + "\\")
        return _SHARE_BYTES if root is None else free_bytes(self._core, root)

    def _grow(self, file: HostFile, size_bytes: int) -> None:
        if size_bytes - file.size_bytes > self._free(file.path):
            raise DiskError(Win32.DISK_FULL, file.path)

    def _check_rights(self, path: str) -> None:
        if self._core.knobs.rights != "administrator":
            raise DiskError(Win32.ACCESS_DENIED, path)
        self._check_share(path)

    def _check_share(self, path: str) -> None:
        if self._core.knobs.smb_without_delegation and path.startswith("\\\\"):
            raise DiskError(Win32.ACCESS_DENIED, path)


def _set_beside(layer: Layer, extension: str, path: str) -> None:
    if _key(path) == _key(layer.path):
        layer.beside.pop(extension, None)
    else:
        layer.beside[extension] = path


def _key(path: str) -> str:
    return normal_path(path).rstrip("\\")


def _parent(path: str) -> str:
    return path.rstrip("\\").rpartition("\\")[0]
