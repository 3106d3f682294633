"""Sparse files: finding data, copying it, punching holes. Holes cost nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from hvpsbridge.formats.extents import Extent
from hvpsbridge.units import MIB

_KEEP_SIZE = 1  # fallocate(2)
_PUNCH_HOLE = 2
# Per copy_file_range call; more gains nothing and delays signals.
_COPY_BYTES = 64 * MIB

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]


def create(path: Path, size_bytes: int) -> None:
    """Create a file that is one hole, readable by its owner only.

    Raises:
        FileExistsError: the file exists.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def data_extents(descriptor: int, start: int, end: int) -> Iterator[Extent]:
    """Ranges between ``start`` and ``end`` that are not holes, ascending."""
    position = start
    while position < end:
        try:
            first = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:  # no data from here to the end
                return
            raise
        if first >= end:
            return
        position = min(os.lseek(descriptor, first, os.SEEK_HOLE), end)
        yield Extent(first, position - first)


def punch(descriptor: int, start: int, end: int) -> None:
    """Make a hole from ``start`` up to ``end``.

    Raises:
        OSError: the file system has no holes (ext4, xfs, btrfs and tmpfs do).
    """
    if start < end and _libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, end - start):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "fallocate")


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy the bytes from ``start`` up to ``end`` to the same place in ``target``; holes remain holes."""
    position = start
    for extent in data_extents(source, start, end):
        punch(target, position, extent.offset)
        _copy(source, target, extent)
        position = extent.end
    punch(target, position, end)


def copy(source: Path, target: Path) -> None:
    """Copy a file with its holes. ``target`` is replaced."""
    with source.open("rb") as reader, open(target, "wb", opener=_private) as writer:  # opener
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        for extent in data_extents(reader.fileno(), 0, size):
            _copy(reader.fileno(), writer.fileno(), extent)


def write(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def read(descriptor: int, length: int, offset: int) -> bytes:
    """Exactly ``length`` bytes from ``offset``.

    Raises:
        EOFError: the file is too short.
    """
    pieces = []
    while length:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            raise EOFError(f"file ends at {offset}, {length} bytes early")
        pieces.append(piece)
        length, offset = length - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fill ``buffer`` from ``offset``.

    Raises:
        EOFError: the file is too short.
    """
    while buffer:
        done = os.preadv(descriptor, [buffer], offset)
        if not done:
            raise EOFError(f"file ends at {offset}, {len(buffer)} bytes early")
        buffer, offset = buffer[done:], offset + done


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(source: int, target: int, extent: Extent) -> None:
    position, end = extent.offset, extent.end
    while position < end:
        length = min(end - position, _COPY_BYTES)
        try:
            done = os.copy_file_range(source, target, length, position, position)
        except OSError as err:
            if err.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            data = os.pread(source, min(length, MIB), position)
            write(target, data, position)
            done = len(data)
        if not done:
            raise EOFError(f"source ends at {position}, {end - position} bytes early")
        position += done
