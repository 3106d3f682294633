"""Giving a complete file its name in one step that fails when the name is taken.

A hard link does it, and where the file system has none (FAT, exFAT, some network file systems) a rename that
refuses to replace (Linux's renameat2). Where neither is known the name is reserved by an empty file, made
exclusively, and the reservation replaced. A process that dies between both leaves an empty file; whoever
takes empty files for absent may claim such a name when its reservation is old and nobody holds its lock.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_MODE = 0o600
# Between a reservation and its replacement lie two system calls; one this old was left by a dead process.
ABANDONED_SECONDS = 60.0
# What a file system says to a request it does not know.
_UNKNOWN_HERE = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def name_exclusively(temporary: Path, path: Path) -> None:
    """Name the file ``temporary`` ``path`` (in the same file system); ``temporary`` may stay as another name.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be given.
    """
    for way in (_link, _rename):
        try:
            way(temporary, path)
        except OSError as err:
            if err.errno not in _UNKNOWN_HERE:
                raise
        else:
            return
    _reserve(temporary, path)


def claim_abandoned(temporary: Path, path: Path) -> bool:
    """Whether ``path`` was an abandoned reservation, and is the file ``temporary`` now."""
    try:
        # Before it is locked: whoever made it a moment ago must find it unlocked. Both times are of the
        # file system's clock, so no clock of ours counts.
        found = path.stat()
        if found.st_size or temporary.stat().st_mtime - found.st_mtime < ABANDONED_SECONDS:
            return False  # nearly always: the name is taken
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not os.path.samestat(found, os.fstat(descriptor)) or not _holds(descriptor, path):
            return False
        temporary.rename(path)
        return True
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> None:
    os.link(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, "no renameat2")
    if rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def _reserve(temporary: Path, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        if not _holds(descriptor, path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            temporary.rename(path)
        except OSError:
            path.unlink()  # ours, and empty
            raise
    finally:
        os.close(descriptor)


def _holds(descriptor: int, path: Path) -> bool:
    """Whether the reservation behind ``descriptor`` is locked by us now, and still what ``path`` names.

    Whoever was asleep since it made or found the reservation may find that another has claimed it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        # A file system without locks: the age of a reservation has to do.
        logger.debug("%s cannot be locked: %s", path, err)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor)) and not named.st_size
