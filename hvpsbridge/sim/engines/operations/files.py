"""Operations that make, write, rename and remove files on a host (``lib/reader/NewFile.cs``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from hvpsbridge.contract import restoring
from hvpsbridge.formats.file_write import HEADER_BYTES, unpack_write
from hvpsbridge.sim.engines.failure import Failure, failure, of_disk, of_disk_call
from hvpsbridge.sim.engines.operations.context import Context
from hvpsbridge.sim.model import DiskError, DiskHandle, HyperVError
from hvpsbridge.sim.model.errors import Win32
from hvpsbridge.sim.model.host_files import SPARSE, FileHandle
from hvpsbridge.sim.model.host_folders import COMPRESSED, ENCRYPTED, VM_FOLDER

T = TypeVar("T")
_IMPORTED = "\\imported configuration"
# ERROR_INVALID_FUNCTION and ERROR_NOT_SUPPORTED.
_NO_FLUSH = (1, Win32.NOT_SUPPORTED)
_GONE = (Win32.FILE_NOT_FOUND, Win32.PATH_NOT_FOUND)


def get_folder(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Get-HvpsFolder``."""
    path = given.get("Path")
    if not path:
        context.import_module()
        context.cmdlet("Get-VMHost")
        path = VM_FOLDER
    at = path
    while not _exists(context, at) and (parent := _parent(at)) is not None:
        at = parent
    attributes = _try(lambda: _attributes(context, at), "Hvps.FileNotFound")
    free_bytes = context.model.host_files.free_bytes
    free = _try(lambda: _call(context, "GetDiskFreeSpaceEx", at, free_bytes), "Hvps.FileNotFound")
    yield restoring.FolderInfo(
        path=path,
        exists=_exists(context, path),
        free_bytes=free,
        compressed=bool(attributes & COMPRESSED),
        encrypted=bool(attributes & ENCRYPTED),
        found=tuple(file for file in given.get("Files") or () if file and _exists(context, file)),
    )


def new_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``New-HvpsFile``."""
    path, files = given["Path"], context.model.host_files
    missing: list[str] = []
    at: str | None = path.rpartition("\\")[0]
    while at is not None and not _exists(context, at):
        missing.insert(0, at)
        at = _parent(at)
    for folder in missing:
        _try(partial(_call, context, "CreateDirectory", folder, files.make_folder))
    _check_written(path)
    handle = _try(lambda: _call(context, "CreateFile", path, lambda p: files.create(p, context.owner)))
    try:
        attributes = _try(lambda: _attributes(context, path))
        if attributes & COMPRESSED:
            with suppress(DiskError):
                _call(context, "DeviceIoControl", path, lambda _: files.uncompress(handle))
                attributes = _try(lambda: _attributes(context, path))
        if attributes & (SPARSE | COMPRESSED | ENCRYPTED):
            raise failure("Hvps.FormatUnsupported", "compressed or encrypted", Win32.VHD_COMPRESSED)
        size = given["SizeBytes"]
        _try(lambda: _call(context, "SetEndOfFile", path, lambda _: files.set_size(handle, size)))
    except Failure:
        files.close(handle)
        with suppress(DiskError):
            _call(context, "DeleteFile", path, files.delete)
        raise
    context.process.files[path.lower()] = handle
    yield restoring.FileMade(path, tuple(missing))


def write_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Write-HvpsFile``."""
    path, files = given["Path"], context.model.host_files
    handle = _open(context, path)

    def write(offset: int, data: bytes) -> None:
        files.will_write(handle, offset, len(data))
        descriptor = os.open(files.backing_of(handle), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    yield from _written(context, path, write)


def write_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Write-HvpsDisk`` (``lib/reader/WritableDisk.cs``)."""
    path = given["Path"]
    _check(path)
    handle = context.process.disks.get(path.lower())
    if handle is None:
        handle = _try(lambda: _attached(context, path), "Hvps.DiskUnreadable")
        context.process.disks[path.lower()] = handle
    yield from _written(context, path, partial(context.model.guests.write_offline, handle))


def _written(context: Context, path: str, write: Callable[[int, bytes], None]) -> Iterator[object]:
    """Write each request of the input."""
    for request in context.inputs():
        try:
            offset, data = unpack_write(request)
        except ValueError as err:
            raise failure("Hvps.BadRequest", str(err)) from err

        def write_part(_: str, offset: int = offset, data: bytes = data) -> None:
            write(offset, data)

        _try(partial(_call, context, "WriteFile", path, write_part))
        yield restoring.WrittenPart(offset, len(request) - HEADER_BYTES)


def _attached(context: Context, path: str) -> DiskHandle:
    driver, node = context.model.driver, context.node
    handle = _call(context, "OpenVirtualDisk", path, lambda p: driver.open(p, context.owner, node))
    try:
        _call(context, "AttachVirtualDisk", path, lambda _: driver.attach(handle))
    except DiskError:
        driver.close(handle)
        raise
    return handle


def close_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Close-HvpsFile``."""
    path = given["Path"]
    handle = context.process.files.pop(path.lower(), None)
    if handle is not None:
        try:
            _try(lambda: _call(context, "FlushFileBuffers", path, lambda _: None))
        finally:
            context.model.host_files.close(handle)
        yield restoring.FileClosed(True)
        return
    disk = context.process.disks.pop(path.lower(), None)
    if disk is not None:
        try:
            _try(lambda: _flush_disk(context, disk, path))
        finally:
            with suppress(DiskError):
                _call(context, "DetachVirtualDisk", path, lambda _: context.model.driver.detach(disk))
            context.model.driver.close(disk)
    yield restoring.FileClosed(disk is not None)


def _flush_disk(context: Context, disk: DiskHandle, path: str) -> None:
    try:
        _call(context, "FlushFileBuffers", path, lambda _: context.model.driver.flush(disk))
    except DiskError as err:
        if err.code not in _NO_FLUSH:
            raise


def move_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Move-HvpsFile``."""
    destination = given["Destination"]
    for path in (given["Path"], destination):
        _check(path[:-4] if path.lower().endswith((".rct", ".mrt")) else path)
    move = context.model.host_files.move
    _try(lambda: _call(context, "MoveFileEx", given["Path"], lambda path: move(path, destination)))
    yield restoring.FileMoved(destination)


def resize_disk(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Resize-HvpsDisk``."""
    context.import_module()
    path, wanted = given["Path"], given["SizeBytes"]
    try:
        before = _queried(context, path)
        if before < wanted:
            context.cmdlet("Resize-VHD", path)
            context.model.disks.resize(path, wanted)
        now = before if before >= wanted else _queried(context, path)
    except DiskError as err:
        # As an HRESULT in the text of the cmdlet.
        code = 0x80070002 if err.code == Win32.FILE_NOT_FOUND else err.code
        raise of_disk(DiskError(code, path)) from err
    except HyperVError as err:
        raise of_disk_call(err, path) from err
    if now != wanted:
        raise failure("Hvps.BadRequest", f"the disk in {path} has {now} bytes, not {wanted}")
    yield restoring.DiskEnlarged(now, before != wanted)


def _queried(context: Context, path: str) -> int:
    """Size of a disk by ``Get-VHD``."""
    context.cmdlet("Get-VHD", path)
    layer = context.model.disks.at(path)
    context.model.disks.check_busy(layer.number)
    return layer.size_bytes


def copy_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Copy-HvpsFile``."""
    destination, overwrite = given["Destination"], bool(given.get("Overwrite"))
    _check(given["Path"])
    _check(destination)
    copy = context.model.host_files.copy
    _try(
        lambda: _call(
            context, "CopyFile", given["Path"], lambda path: copy(path, destination, overwrite=overwrite)
        )
    )
    yield restoring.FileCopied(destination)


def remove_file(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
    """``Remove-HvpsFile``."""
    removed: list[str] = []
    files = context.model.host_files
    for path in filter(None, given.get("Files") or ()):
        _check_written(path)
        handle = context.process.files.pop(path.lower(), None)
        if handle is not None:
            files.close(handle)
        if _removed(context, "DeleteFile", path, files.delete):
            removed.append(path)
    for path in filter(None, given.get("Folders") or ()):
        if _removed(context, "RemoveDirectory", path, files.remove_folder):
            removed.append(path)
    yield restoring.FilesRemoved(tuple(removed))


def _check_written(path: str) -> None:
    folder, _, name = path.lower().rpartition("\\")
    if not (folder.endswith(_IMPORTED) and name.endswith((".vmcx", ".vmrs", ".vmgs"))):
        _check(path)


def _check(path: str) -> None:
    if not path.lower().endswith((".vhdx", ".vhd")):
        raise failure("Hvps.BadRequest", f"not a file of a disk: {path}")


def _removed(context: Context, function: str, path: str, remove: Callable[[str], None]) -> bool:
    try:
        _call(context, function, path, remove)
    except DiskError as err:
        if err.code in _GONE or (err.code == Win32.DIR_NOT_EMPTY and function == "RemoveDirectory"):
            return False
        raise of_disk(err, "Hvps.WriteFailed") from err
    return True


def _open(context: Context, path: str) -> FileHandle:
    handle = context.process.files.get(path.lower())
    if handle is None:
        _check_written(path)
        files = context.model.host_files
        handle = _try(lambda: _call(context, "CreateFile", path, lambda p: files.open(p, context.owner)))
        context.process.files[path.lower()] = handle
    return handle


def _call(context: Context, function: str, path: str, act: Callable[[str], T]) -> T:
    context.function(function, path)
    return act(path)


def _try(act: Callable[[], T], otherwise: str = "Hvps.WriteFailed") -> T:
    try:
        return act()
    except DiskError as err:
        raise of_disk(err, otherwise) from err


def _attributes(context: Context, path: str) -> int:
    return _call(context, "GetFileAttributes", path, context.model.host_files.attributes)


def _exists(context: Context, path: str) -> bool:
    try:
        _attributes(context, path)
    except DiskError:
        return False
    return True


def _parent(path: str) -> str | None:
    """The folder that a path is in; None for the root of a volume or share."""
    trimmed = path.rstrip("\\")
    if "\\" not in trimmed or (trimmed.startswith("\\\\") and trimmed.count("\\") <= 3):
        return None
    parent = trimmed.rpartition("\\")[0]
    return parent + "\\" if parent.endswith(":") else parent
