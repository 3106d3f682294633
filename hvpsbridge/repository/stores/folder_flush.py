"""Flushes directories, so that names in them survive a power loss."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

# The answers of file systems that cannot flush a directory (some network and FUSE file systems).
_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class FolderFlush:
    """Directories below a root, and the root, that are to be flushed. Thread-safe.

    Attributes:
        works: whether the file system can flush directories, as far as was tried.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: set[Path] = set()
        self._lock = threading.Lock()
        self.works = True

    def note(self, folder: Path) -> None:
        """Flush ``folder`` the next time."""
        # Folders above it, too: another process may have made this one and died before flushing its name.
        with self._lock:
            while folder not in self._waiting:
                self._waiting.add(folder)
                if folder == self._root:
                    break
                folder = folder.parent

    def run(self) -> None:
        """Flush the directories.

        Raises:
            OSError: one cannot be flushed, see its ``filename``; all stay to be flushed.
        """
        with self._lock:
            folders, self._waiting = self._waiting, set()
        for folder in sorted(folders):
            try:
                _flush(folder)
            except FileNotFoundError:
                continue
            except OSError as err:
                if err.errno in _NO_FLUSH:
                    self._warn(folder, err)
                    continue
                with self._lock:
                    self._waiting |= folders
                err.filename = str(folder)
                raise

    def _warn(self, folder: Path, err: OSError) -> None:
        if self.works:
            logger.warning("%s cannot be flushed (%s); points are not durable there", folder, err.strerror)
        self.works = False


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
