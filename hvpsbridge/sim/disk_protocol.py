"""The server side of the protocol of virtdisk.c. One connection is one handle.

Request: u32 body length, u32 operation, body. Reply: u32 body length, u32 Win32 code, body. The library reads
disks from sparse files by tables that it gets here.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from uuid import UUID

from hvpsbridge.formats.extents import pack_extents
from hvpsbridge.sim.file_tables import Table, disk_table, file_table
from hvpsbridge.sim.model import DiskError, DiskHandle, Model, VhdFormat, Win32
from hvpsbridge.sim.model.host_files import FileHandle

_HEAD = struct.Struct("<II")
_MAX_REQUEST = 1 << 21
_MICROSOFT = UUID("ec984aec-a0f9-47e9-901f-71415a66345b")
_DEVICES = {VhdFormat.VHD: 2, VhdFormat.VHDX: 3, VhdFormat.VHDSet: 4}
_PAGE = struct.Struct("<IIII")


class Op(IntEnum):
    """Operations, numbered as in virtdisk.c."""

    HELLO = 1
    OPEN = 2
    ATTACH = 3
    DETACH = 4
    INFO = 5
    QUERY = 6
    OPEN_FILE = 7
    READ_CHECK = 8
    WRITE = 9
    CREATE_FILE = 10
    WRITE_FILE = 11
    SET_END = 12
    FLUSH = 13
    CONTROL = 14
    PATH = 15


class PathCall(IntEnum):
    """Functions that take a path, numbered as in virtdisk.c."""

    ATTRIBUTES = 1
    MOVE = 2
    DELETE = 3
    MAKE_FOLDER = 4
    REMOVE_FOLDER = 5
    FREE_SPACE = 6
    COPY = 7
    REPLACE = 8


_PATH_NAMES = {
    PathCall.ATTRIBUTES: "GetFileAttributes",
    PathCall.MOVE: "MoveFileEx",
    PathCall.DELETE: "DeleteFile",
    PathCall.MAKE_FOLDER: "CreateDirectory",
    PathCall.REMOVE_FOLDER: "RemoveDirectory",
    PathCall.FREE_SPACE: "GetDiskFreeSpaceEx",
    PathCall.COPY: "CopyFile",
    PathCall.REPLACE: "CopyFile",
}
_CREATE_NEW = 1


class ReadOutcome(IntEnum):
    """Result of a read check, numbered as in virtdisk.c."""

    GOOD = 0
    SHORT = 1
    CORRUPT = 2
    FAILS = 3


class Info(IntEnum):
    """Supported ``GET_VIRTUAL_DISK_INFO_VERSION`` values."""

    SIZE = 1
    IDENTIFIER = 2
    PARENT_LOCATION = 3
    STORAGE_TYPE = 6
    PROVIDER_SUBTYPE = 7
    DISK_ID = 14
    CHANGE_TRACKING = 15


class SharedPage:
    """A page shared with the library: knobs, and whether it must ask before each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(mmap.PAGESIZE))
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self._lock = threading.Lock()

    def show(self, model: Model) -> None:
        """Update the page from the model's knobs and faults, unless it is closed."""
        knobs = model.knobs
        seen = _PAGE.pack(
            int(model.driver.must_ask()),
            int(knobs.read_delay_seconds * 1_000_000),
            int(knobs.read_sync * 1000),
            0,
        )
        with self._lock:
            if not self._memory.closed:
                self._memory[: _PAGE.size] = seen

    def close(self) -> None:
        """Unmap and delete the page."""
        with self._lock:
            self._memory.close()
        self._file.close()
        self.path.unlink(missing_ok=True)


class DiskConnection:
    """One handle of one host process.

    Args:
        owner: name of the process in the model.
        scratch: folder for files that tables need.
        settle: waits until handles that host processes have closed are closed in the model.
    """

    def __init__(
        self, model: Model, page: SharedPage, owner: str, scratch: Path, settle: Callable[[], None]
    ) -> None:
        self._model = model
        self._page = page
        self._owner = owner
        self._scratch = scratch
        self._settle = settle
        self._node: str | None = None
        self._handle: DiskHandle | None = None
        self._table: Table | None = None
        self._file: FileHandle | None = None

    def serve(self, connection: socket.socket) -> None:
        """Answer requests until the connection is closed; then close the handle."""
        try:
            while (request := _receive(connection)) is not None:
                operation, body = request
                self._settle()
                try:
                    code, reply = 0, self._answer(operation, body)
                except DiskError as err:
                    code, reply = err.code, b""
                connection.sendall(_HEAD.pack(len(reply), code) + reply)
        finally:
            if self._handle is not None:
                self._model.driver.close(self._handle)
                self._page.show(self._model)
            if self._table is not None:
                self._table.close()
            if self._file is not None:
                self._model.host_files.close(self._file)

    def _answer(self, operation: int, body: bytes) -> bytes:
        calls = self._model.calls
        match operation:
            case Op.HELLO:
                self._node = body.decode() or None
                self._page.show(self._model)
                return str(self._page.path).encode()
            case Op.OPEN:
                info_only, path = struct.unpack_from("<I", body)[0], body[4:].decode(errors="replace")
                calls.function("OpenVirtualDisk", path)
                self._handle = self._model.driver.open(
                    path, self._owner, self._node, info_only=bool(info_only)
                )
                return b""
            case Op.ATTACH:
                handle = self._opened()
                calls.function("AttachVirtualDisk", handle.path)
                self._model.driver.attach(handle)
                self._page.show(self._model)
                return disk_table(self._model, handle).pack()
            case Op.DETACH:
                handle = self._opened()
                calls.function("DetachVirtualDisk", handle.path)
                self._model.driver.detach(handle)
                return b""
            case Op.INFO:
                version = struct.unpack_from("<I", body)[0]
                calls.function(f"GetVirtualDiskInformation:{version}", self._opened().path)
                return self._information(version)
            case Op.QUERY:
                offset, length, room = struct.unpack_from("<QQI", body)
                handle, rct_id = self._opened(), body[20:].decode(errors="replace")
                calls.function("QueryChangesVirtualDisk", handle.path)
                answer = self._model.driver.asked_changes(handle, rct_id, offset, length, room)
                return struct.pack("<Q", answer.processed_bytes) + pack_extents(answer.extents)
            case Op.OPEN_FILE:
                path = body[8:].decode(errors="replace")
                calls.function("CreateFile", path)
                self._table = file_table(self._model, path, self._scratch, node=self._node)
                return self._table.pack()
            case Op.WRITE:
                (offset,) = struct.unpack_from("<Q", body)
                calls.function("WriteFile", self._opened().path)
                self._model.guests.write_offline(self._opened(), offset, body[8:])
                return b""
            case Op.PATH:
                return self._path(PathCall(struct.unpack_from("<I", body)[0]), body[4:])
            case Op.CREATE_FILE | Op.WRITE_FILE | Op.SET_END | Op.FLUSH | Op.CONTROL:
                return self._written(operation, body)
            case Op.READ_CHECK:
                return struct.pack("<I", self._outcome())
        raise DiskError(Win32.INVALID_PARAMETER, "")

    def _written(self, operation: int, body: bytes) -> bytes:
        """What is done to a file that is open to write."""
        files, calls = self._model.host_files, self._model.calls
        if operation == Op.CREATE_FILE:
            path = body[4:].decode(errors="replace")
            calls.function("CreateFile", path)
            made = struct.unpack_from("<I", body)[0] == _CREATE_NEW
            self._file = files.create(path, self._owner) if made else files.open(path, self._owner)
            return str(files.backing_of(self._file)).encode()
        if self._file is None and self._handle is not None and operation == Op.FLUSH:
            calls.function("FlushFileBuffers", self._handle.path)
            self._model.driver.flush(self._handle)
            return b""
        if self._file is None:
            raise DiskError(Win32.INVALID_HANDLE, "")
        path = files.path_of(self._file)
        match operation:
            case Op.WRITE_FILE:
                calls.function("WriteFile", path)
                files.will_write(self._file, *struct.unpack_from("<QQ", body))
            case Op.SET_END:
                calls.function("SetEndOfFile", path)
                files.set_size(self._file, struct.unpack_from("<Q", body)[0])
            case Op.FLUSH:
                calls.function("FlushFileBuffers", path)
            case Op.CONTROL:
                calls.function("DeviceIoControl", path)
                files.uncompress(self._file)
        return b""

    def _path(self, call: PathCall, body: bytes) -> bytes:
        """A function that takes a path, or two."""
        files = self._model.host_files
        path, _, second = body.decode(errors="replace").partition("\0")
        self._model.calls.function(_PATH_NAMES[call], path)
        match call:
            case PathCall.ATTRIBUTES:
                return struct.pack("<I", files.attributes(path))
            case PathCall.MOVE:
                files.move(path, second)
            case PathCall.COPY | PathCall.REPLACE:
                files.copy(path, second, overwrite=call is PathCall.REPLACE)
            case PathCall.DELETE:
                files.delete(path)
            case PathCall.MAKE_FOLDER:
                files.make_folder(path)
            case PathCall.REMOVE_FOLDER:
                files.remove_folder(path)
            case PathCall.FREE_SPACE:
                return struct.pack("<Q", files.free_bytes(path))
        return b""

    def _opened(self) -> DiskHandle:
        if self._handle is None:
            raise DiskError(Win32.INVALID_HANDLE, "")
        return self._handle

    def _outcome(self) -> ReadOutcome:
        model = self._model
        try:
            model.calls.function("ReadFile", "" if self._handle is None else self._handle.path)
        except DiskError:
            self._page.show(model)
            return ReadOutcome.FAILS
        there = self._table is not None or (
            self._handle is not None and model.driver.is_attached(self._handle)
        )
        if not there or model.faults.fires("read_error"):
            outcome = ReadOutcome.FAILS
        elif model.faults.fires("read_corrupt"):
            outcome = ReadOutcome.CORRUPT
        elif model.faults.fires("read_short") or model.driver.read_falls_short():
            outcome = ReadOutcome.SHORT
        else:
            outcome = ReadOutcome.GOOD
        self._page.show(model)
        return outcome

    def _information(self, version: int) -> bytes:
        """GET_VIRTUAL_DISK_INFO after version and padding."""
        model, path = self._model, self._opened().path
        layer = model.disks.at(path)
        match version:
            case Info.SIZE:
                stored = model.disks.file_bytes(layer.number)
                return struct.pack(
                    "<QQII", layer.size_bytes, stored, layer.block_bytes, layer.logical_sector_bytes
                )
            case Info.IDENTIFIER | Info.DISK_ID:
                return layer.disk_id.bytes_le
            case Info.PARENT_LOCATION:
                if layer.parent is None:
                    raise DiskError(Win32.VHD_INVALID_TYPE, path)
                parent = model.disks.layer(layer.parent).path
                # BOOL ParentResolved, then a list of strings that ends with an empty one.
                return struct.pack("<I", 1) + (parent + "\0\0").encode("utf-16-le")
            case Info.STORAGE_TYPE:
                return struct.pack("<I", _DEVICES.get(layer.format, 0)) + _MICROSOFT.bytes_le
            case Info.PROVIDER_SUBTYPE:
                return struct.pack("<I", int(layer.kind))
            case Info.CHANGE_TRACKING:
                enabled, newer, recent = model.driver.asked_state(self._opened())
                return struct.pack("<II", enabled, newer) + ((recent or "") + "\0").encode("utf-16-le")
        raise DiskError(Win32.INVALID_PARAMETER, path)


def _receive(connection: socket.socket) -> tuple[int, bytes] | None:
    """The next request; None if the connection is closed."""
    head = _exactly(connection, _HEAD.size)
    if head is None:
        return None
    length, operation = _HEAD.unpack(head)
    if length > _MAX_REQUEST:
        return None
    body = _exactly(connection, length)
    return None if body is None else (operation, body)


def _exactly(connection: socket.socket, length: int) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < length:
        with contextlib.suppress(ConnectionError):
            piece = connection.recv(length - len(pieces))
            if piece:
                pieces += piece
                continue
        return None
    return bytes(pieces)
