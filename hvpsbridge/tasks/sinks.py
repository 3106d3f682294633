"""Sinks take the data of restored disks. A file appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from hvpsbridge.errors import ConfigurationError, NoSpace, TargetExists
from hvpsbridge.repository.stores.naming import name_exclusively

# Errors of a file system that is full, for whatever reason.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskSink(Protocol):
    """Takes the data of a disk in any order; what is not written reads as zeros.

    A context manager that discards the disk if it was not finished.
    """

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at ``offset``."""
        ...

    def finish(self) -> None:
        """Make the disk durable and visible."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RawFile:
    """A sparse raw file.

    It is written under a hidden name in the same folder, synced, and renamed. A reader never sees part of a
    disk, and a crash leaves only the hidden file.

    Args:
        path: the file; its folder is created.
        size_bytes: size of the disk.
        data_bytes: how much of it will be written; must fit into the free space.
        overwrite: replace an existing file.

    Raises:
        TargetExists: the file exists and must not be replaced.
        NoSpace: the data does not fit.
        ConfigurationError: the folder cannot be created or written to.
    """

    def __init__(self, path: Path, size_bytes: int, data_bytes: int, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite
        self._finished = False
        if not overwrite and os.path.lexists(path):
            raise TargetExists(str(path))
        if path.is_dir():
            raise ConfigurationError(str(path), "is a folder; use the path of a file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if data_bytes > free:
                raise self._full(f"needs {data_bytes} bytes, {free} are free")
            self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise self._error(err) from err
        try:
            os.truncate(self._file, size_bytes)
        except OSError as err:
            # The caller cannot enter the context manager, so nothing else would remove the file.
            self.__exit__(None, None, None)
            raise self._error(err) from err

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at ``offset``.

        Raises:
            NoSpace: the file system is full.
        """
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file, view, offset)
                offset += written
                view = view[written:]
        except OSError as err:
            raise self._error(err) from err

    def finish(self) -> None:
        """Sync the file and give it its name.

        Raises:
            TargetExists: a file of that name was created meanwhile.
            NoSpace: the file system is full.
        """
        try:
            os.fsync(self._file)
            if self._overwrite:
                self._part.replace(self.path)
            else:
                name_exclusively(self._part, self.path)
                self._part.unlink(missing_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError as err:
            raise TargetExists(str(self.path)) from err
        except OSError as err:
            raise self._error(err) from err
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        if not self._finished:
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _full(self, reason: str) -> NoSpace:
        return NoSpace(str(self.path.parent), "write", self.path.name, reason)

    def _error(self, err: OSError) -> NoSpace | ConfigurationError:
        text = err.strerror or str(err)
        return self._full(text) if err.errno in _FULL else ConfigurationError(str(self.path), text)
