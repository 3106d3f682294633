"""Where restored disks go. A sink's file appears under its name only when it is whole."""

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

# Errors of a file system that has no room, for whatever reason.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskSink(Protocol):
    """Takes a disk's bytes in any order; what is not written is zeros. A context manager that gives up
    what was not finished."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``."""
        ...

    def finish(self) -> None:
        """Make the disk durable and let it appear."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RawFile:
    """A sparse raw file.

    It grows under a hidden name in the same folder, is synced, and takes its own name in one step; a
    reader never sees half a disk, and a crash leaves the hidden file only.

    Args:
        path: where the disk goes; its folder is made.
        size_bytes: of the disk.
        data_bytes: how much of it will be written, checked against the free space first.
        overwrite: replace what is there.

    Raises:
        TargetExists: there is something, and it may not be replaced.
        NoSpace: it would not fit.
        ConfigurationError: the folder cannot be made or written to.
    """

    def __init__(self, path: Path, size_bytes: int, data_bytes: int, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite
        self._finished = False
        if not overwrite and os.path.lexists(path):
            raise TargetExists(str(path))
        if path.is_dir():
            raise ConfigurationError(str(path), "is a folder; name a file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if data_bytes > free:
                raise self._full(f"{data_bytes} bytes are needed, {free} are free")
            self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise self._error(err) from err
        try:
            os.truncate(self._file, size_bytes)
        except OSError as err:
            # Nobody enters this context manager now, so nobody would give the file up.
            self.__exit__(None, None, None)
            raise self._error(err) from err

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See :class:`DiskSink`.

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
        """See :class:`DiskSink`.

        Raises:
            TargetExists: something appeared under the name meanwhile.
            NoSpace: the file system turned out to be full.
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
