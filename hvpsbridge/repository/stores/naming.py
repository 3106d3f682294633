"""Giving a complete file its name in one step that fails if the name is taken.

This is done with a hard link, or, on file systems without hard links (FAT, exFAT, some network file
systems), with a rename that does not replace (renameat2 of Linux). Where neither works, the name is reserved
by an empty file that is created exclusively, and the reservation is replaced. A process that dies in between
leaves the empty file. Readers treat empty files as absent, and the name can be claimed when the reservation
is old and not locked.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_MODE = 0o600
# A reservation is replaced after two system calls; one this old was left by a dead process.
ABANDONED_SECONDS = 60.0
# The answers of a file system to a request that it does not support.
_UNSUPPORTED = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def name_exclusively(temporary: Path, path: Path) -> None:
    """Give the file ``temporary`` the name ``path`` in the same file system; it may keep its old name, too.

    Raises:
        FileExistsError: the name is taken.
        OSError: the file system fails.
    """
    for method in (_link, _rename):
        try:
            method(temporary, path)
        except OSError as err:
            if err.errno not in _UNSUPPORTED:
                raise
        else:
            return
    _reserve(temporary, path)


def claim_abandoned(temporary: Path, path: Path) -> bool:
    """Whether ``path`` was an abandoned reservation; then ``temporary`` has that name now."""
    try:
        # Checked before locking, because a process that just made the reservation must find it unlocked.
        # Both times come from the clock of the file system, so the clock of this machine does not matter.
        found = path.lstat()
        if found.st_size or not stat.S_ISREG(found.st_mode):
            return False  # nearly always: another object has the name
        if temporary.stat().st_mtime - found.st_mtime < ABANDONED_SECONDS:
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
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
            path.unlink()  # the empty file made above
            raise
    finally:
        os.close(descriptor)


def _holds(descriptor: int, path: Path) -> bool:
    """Whether the reservation ``descriptor`` is now locked by this process, and ``path`` still names it.

    If this process was suspended since it made or found the reservation, another one may have claimed it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        # A file system without locks. The age of the reservation must suffice.
        logger.debug("%s cannot be locked: %s", path, err)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor)) and not named.st_size
