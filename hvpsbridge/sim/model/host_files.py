"""Files and folders of a host, as far as programs on it make them.

A file is a sparse file beside those of the disks. When it is opened as a virtual disk, it becomes one
(:mod:`image_files`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.files import path_key
from hvpsbridge.sim.model.host_disks import HostDisks
from hvpsbridge.sim.model.host_folders import COMPRESSED, ENCRYPTED, HostFolders
from hvpsbridge.sim.model.image_files import layer_of
from hvpsbridge.sim.model.stored import HostFile, Layer
from hvpsbridge.sim.model.timeline import Timeline

DIRECTORY, SPARSE, NORMAL = 0x10, 0x200, 0x80


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
        self._disks, self._folders = HostDisks(core), HostFolders(core)
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
            if self._disks.find(path) is not None or self._disks.tracking(path) is not None:
                return NORMAL
            if self._folders.is_folder(path):
                return DIRECTORY | self._folders.inherited(path)
            raise DiskError(Win32.FILE_NOT_FOUND, path)

    def free_bytes(self, path: str) -> int:
        """Free space at a folder that exists.

        Raises:
            DiskError: the folder does not exist.
        """
        with self._timeline.now():
            self._check_share(path)
            if not self._folders.is_folder(path):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            return self._folders.free_bytes(path)

    def make_folder(self, path: str) -> None:
        """``CreateDirectory``.

        Raises:
            DiskError: its parent does not exist, it does, or it may not be made.
        """
        with self._timeline.now():
            self._check_rights(path)
            if self._folders.is_folder(path) or self._find(path) is not None:
                raise DiskError(Win32.ALREADY_EXISTS, path)
            if not self._folders.is_folder(_parent(path)):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            flags = self._folders.inherited(path)
            compressed, encrypted = bool(flags & COMPRESSED), bool(flags & ENCRYPTED)
            self._folders.add(path, compressed=compressed, encrypted=encrypted)

    def set_folder(self, path: str, *, compressed: bool = False, encrypted: bool = False) -> None:
        """Make a folder, if need be, whose new files are compressed or encrypted."""
        with self._timeline.now():
            self._folders.add(path, compressed=compressed, encrypted=encrypted)

    def remove_folder(self, path: str) -> None:
        """``RemoveDirectory``.

        Raises:
            DiskError: it does not exist, or is not empty.
        """
        with self._timeline.now():
            self._check_rights(path)
            if not self._folders.is_folder(path):
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            if not self._folders.is_empty(path):
                raise DiskError(Win32.DIR_NOT_EMPTY, path)
            self._folders.remove(path)

    def create(self, path: str, owner: str) -> FileHandle:
        """``CreateFile`` with ``CREATE_NEW``.

        Raises:
            DiskError: the file exists, or its folder does not, or nothing may be made there.
        """
        with self._timeline.now():
            self._check_rights(path)
            if not self._folders.is_folder(_parent(path)):
                raise DiskError(Win32.PATH_NOT_FOUND, path)
            if (
                self._find(path) is not None
                or self._disks.find(path) is not None
                or self._folders.is_folder(path)
            ):
                raise DiskError(Win32.FILE_EXISTS, path)
            world, flags = self._core.world, self._folders.inherited(path)
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
            file, layer, tracking = self._find(path), self._disks.find(path), self._disks.tracking(path)
            if file is None and layer is None and tracking is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            if not self._folders.is_folder(_parent(destination)):
                raise DiskError(Win32.PATH_NOT_FOUND, destination)
            if self._find(destination) or self._disks.find(destination) or self._disks.tracking(destination):
                raise DiskError(Win32.ALREADY_EXISTS, destination)
            if tracking is not None:
                self._check_unused(tracking.path)
                self._disks.rename_tracking(tracking, path[-4:].lower(), destination[:-4])
                return
            self._check_unused(path)
            if file is not None:
                file.path = destination
            if layer is not None:
                if self._core.knobs.ids_die_on_rename:
                    self._core.tracking.forget(layer)
                self._disks.rename(layer, destination)

    def copy(self, path: str, destination: str, *, overwrite: bool) -> None:
        """``CopyFile``.

        Raises:
            DiskError: the file does not exist, it or the other one is in use, something has the new name and
                is not to be overwritten, or the volume is full.
        """
        with self._timeline.now():
            self._check_rights(path)
            core = self._core
            source = core.files.by_path(path)
            if not self._folders.is_folder(_parent(destination)):
                raise DiskError(Win32.PATH_NOT_FOUND, destination)
            there = self._disks.find(destination)
            if there is not None and not overwrite:
                raise DiskError(Win32.FILE_EXISTS, destination)
            self._check_unused(path)
            if core.files.file_bytes(source) > self._folders.free_bytes(destination) + (
                0 if there is None else core.files.file_bytes(there)
            ):
                raise DiskError(Win32.DISK_FULL, destination)
            if there is not None:
                self._check_unused(destination)
                self._disks.overwrite(there, source)
                return
            self._disks.copy(source, destination)

    def delete(self, path: str) -> None:
        """``DeleteFile``.

        Raises:
            DiskError: the file does not exist, or it is in use, by a VM that is off as well.
        """
        with self._timeline.now():
            self._check_rights(path)
            file, layer = self._find(path), self._disks.find(path)
            if file is None and layer is None:
                raise DiskError(Win32.FILE_NOT_FOUND, path)
            self._check_unused(path)
            world = self._core.world
            if layer is not None:
                self._disks.delete(layer)
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

    def _file(self, handle: FileHandle) -> HostFile:
        if handle not in self._open:
            raise DiskError(Win32.INVALID_HANDLE, "")
        return self._core.world.host_files[handle.file]

    def _find(self, path: str) -> HostFile | None:
        files = self._core.world.host_files.values()
        return next((file for file in files if path_key(file.path) == path_key(path)), None)

    def _check_unused(self, path: str) -> None:
        file, layer = self._find(path), self._disks.find(path)
        if file is not None and any(handle.file == file.number for handle in self._open):
            raise DiskError(Win32.SHARING_VIOLATION, path)
        if layer is not None and self._disks.is_used(layer):
            raise DiskError(Win32.SHARING_VIOLATION, path)

    def _grow(self, file: HostFile, size_bytes: int) -> None:
        if size_bytes - file.size_bytes > self._folders.free_bytes(file.path):
            raise DiskError(Win32.DISK_FULL, file.path)

    def _check_rights(self, path: str) -> None:
        if self._core.knobs.rights != "administrator":
            raise DiskError(Win32.ACCESS_DENIED, path)
        self._check_share(path)

    def _check_share(self, path: str) -> None:
        if self._core.knobs.smb_without_delegation and path.startswith("\\\\"):
            raise DiskError(Win32.ACCESS_DENIED, path)


def _parent(path: str) -> str:
    return path.rstrip("\\").rpartition("\\")[0]
