"""Sinks take the data of restored disks. A file appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from hvpsbridge.errors import ConfigurationError, HvpsError, NoSpace, TargetExists, is_full
from hvpsbridge.repository.stores.naming import name_exclusively
from hvpsbridge.tasks.file_names import PART_PREFIX, PART_SUFFIX, hidden_name
from hvpsbridge.tasks.restore.devices import Device, write_all
from hvpsbridge.tasks.restore.flush import EarlyFlush

logger = logging.getLogger(__name__)

_KINDS = {
    stat.S_IFDIR: "a folder; use the path of a file",
    stat.S_IFBLK: "a block device; restore one disk into it, with --disk and --overwrite",
    stat.S_IFCHR: "a character device; use the path of a file",
    stat.S_IFIFO: "a named pipe; use the path of a file",
    stat.S_IFSOCK: "a socket; use the path of a file",
}
# The hidden file can be renamed or removed by the hvps that holds it between opening it here and locking it.
_LOCK_ATTEMPTS = 5


def unfinished_files(folder: Path) -> tuple[Path, ...]:
    """Hidden files in a folder that killed restores left: those that no restore has locked."""
    try:
        found = sorted(folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"))
    except OSError:
        return ()
    return tuple(path for path in found if _is_abandoned(path))


def _is_abandoned(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return False
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False  # a restore is writing it, or nobody can tell
    finally:
        os.close(file)


class DiskSink(Protocol):
    """Takes the data of a disk in any order. What is not written reads as zeros, except in place.

    A context manager that discards the disk if it was not finished.
    """

    @property
    def found_bytes(self) -> int:
        """Size of what a killed restore had left there."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether what is not written keeps what it had, so that zeros must be written as well."""
        ...

    @property
    def spoiled(self) -> str:
        """What to say about the place if the disk is not finished; empty if it is as before."""
        ...

    @property
    def device(self) -> Device | None:
        """The device that the disk is written into."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        ...

    def write(self, offset: int, *pieces: bytes | memoryview) -> None:
        """Write pieces one after another from ``offset``."""
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
    disk. The hidden name is always the same for a file, and locked while it is written: what a killed restore
    left under it is found and used again, and two restores do not write one file.

    Args:
        path: the file; its folder is created.
        size_bytes: size of the disk.
        data_bytes: how much of it will be written; must fit into the free space.
        overwrite: replace an existing regular file, and nothing else.

    Attributes:
        found_bytes: size on disk of what a killed restore had left, which is gone now; 0 if nothing.

    Raises:
        TargetExists: the file exists and must not be replaced.
        NoSpace: the data does not fit.
        ConfigurationError: the folder cannot be created or written to, something else than a file has the
            name, or another restore is writing it.
    """

    in_place = False
    spoiled = ""
    device = None

    def __init__(self, path: Path, size_bytes: int, data_bytes: int, *, overwrite: bool = False) -> None:
        self.path = path
        self.found_bytes = 0
        self._overwrite = overwrite
        self._finished = False
        self._part = path.with_name(hidden_name(path.name))
        try:
            self._check()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open_part()
        except (OSError, ValueError) as err:
            raise self._error(err) from err
        self._flush = EarlyFlush(self._file)
        try:
            free = shutil.disk_usage(path.parent).free
            if data_bytes > free:
                raise self._full(f"needs {data_bytes} bytes, {free} are free")
            os.truncate(self._file, size_bytes)
        except (OSError, OverflowError, HvpsError) as err:
            # The caller cannot enter the context manager, so nothing else would remove the file.
            self.__exit__(None, None, None)
            raise (err if isinstance(err, HvpsError) else self._error(err)) from err

    def write(self, offset: int, *pieces: bytes | memoryview) -> None:
        """Write pieces one after another from ``offset``.

        Raises:
            NoSpace: the file system is full.
        """
        try:
            write_all(self._file, offset, *pieces)
            self._flush.wrote(sum(len(piece) for piece in pieces))
        except OSError as err:
            raise self._error(err) from err

    def zero(self, offset: int, length: int) -> None:
        """Nothing: the file has holes there."""

    def finish(self) -> None:
        """Sync the file and give it its name.

        Raises:
            TargetExists: a file of that name was created meanwhile.
            NoSpace: the file system is full.
        """
        try:
            self._flush.finish()
            os.fsync(self._file)
            if self._overwrite:
                self._check()
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
        if not self._finished:
            # Before the lock goes: another restore may use the file as soon as it is free.
            with contextlib.suppress(OSError):
                self._part.unlink()
        self._flush.close()
        os.close(self._file)

    def _check(self) -> None:
        """Refuse a name that something has which must not be replaced."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        replaceable = stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
        if replaceable and not self._overwrite:
            raise TargetExists(str(self.path))
        if stat.S_ISLNK(found.st_mode):
            raise ConfigurationError(
                str(self.path), f"is a link to {self.path.readlink()}; use the path of a file"
            )
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a regular file; use another path")
            raise ConfigurationError(str(self.path), f"is {kind}")

    def _open_part(self) -> int:
        """The hidden file, empty and locked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        for _ in range(_LOCK_ATTEMPTS):
            try:
                file, made = os.open(self._part, flags | os.O_EXCL, 0o600), True
            except FileExistsError:
                file, made = os.open(self._part, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600), False
            taken = False
            try:
                if taken := (made or self._is_own(file)) and self._locks(file):
                    self._empty(file)
                    return file
            finally:
                if not taken:
                    os.close(file)
        raise ConfigurationError(str(self.path), "another restore is writing it; wait until it has finished")

    def _is_own(self, file: int) -> bool:
        """True; refuses a hidden file that another account could hold open."""
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigurationError(
                str(self._part), "is in the way and not a file of this account; remove it"
            )
        os.set_blocking(file, True)
        return True

    def _locks(self, file: int) -> bool:
        """Whether the open hidden file is locked now, and still what has its name."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise ConfigurationError(
                str(self.path), "another restore is writing it; wait until it has finished"
            ) from err
        except OSError as err:
            logger.debug("%s cannot be locked: %s", self._part, err)  # a file system without locks
        try:
            named = self._part.lstat()
        except FileNotFoundError:
            return False
        if not os.path.samestat(named, os.fstat(file)):
            return False
        if named.st_nlink > 1:
            # A restore was killed after it had given the complete file its name.
            self._part.unlink()
            return False
        return True

    def _empty(self, file: int) -> None:
        found = os.fstat(file)
        if found.st_size:
            self.found_bytes = max(found.st_blocks * 512, 1)
            logger.info("%s: found %d bytes of a restore that was killed", self._part, self.found_bytes)
            os.truncate(file, 0)
            os.fchmod(file, 0o600)

    def _full(self, reason: str) -> NoSpace:
        return NoSpace(str(self.path.parent), "write", self.path.name, reason)

    def _error(self, err: OSError | ValueError | OverflowError) -> NoSpace | ConfigurationError:
        if isinstance(err, UnicodeError):
            return ConfigurationError(
                str(self.path), "the file system does not allow this name; use another path"
            )
        if not isinstance(err, OSError):
            return ConfigurationError(str(self.path), str(err))
        text = err.strerror or str(err)
        return self._full(text) if is_full(err) else ConfigurationError(str(self.path), text)
