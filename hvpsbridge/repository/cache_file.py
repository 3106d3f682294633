"""The files of an index cache: opened, checked, and replaced when they are corrupt.

Nothing is lost with them, since all of it can be read from the repository again. So whatever shows that they
are not what hvps wrote is answered by making them again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import NoSpace, StoreError
from hvpsbridge.repository.chunk_index.files import Busy, Files, FolderFiles, MemoryFiles
from hvpsbridge.repository.chunk_index.index import ChunkIndex, begin_anew

logger = logging.getLogger(__name__)

FOLDER_NAME = "chunks"
PLACE_DIGITS = 16
# Files of an older hvps.
_OLD_NAME = "index.sqlite"
_OLD_SUFFIXES = ("", "-wal", "-shm", "-journal")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What comes of bytes that hvps did not write.
ROTTEN = (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error)


def place_folder(cache_folder: Path | None, repository_id: UUID, place: str) -> Path | None:
    """The folder for a repository at one place (see ``Store.place``); None without a ``cache_folder``.

    A copy of the repository (made with rsync, or a snapshot) has the same id, and lacks what was written to
    the original since. With one cache for both, a backup into the copy would leave out chunks that only the
    original has.
    """
    if cache_folder is None:
        return None
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return cache_folder / str(repository_id) / digest[:PLACE_DIGITS]


class Corrupt(Exception):
    """The files are not what hvps wrote, or cannot be read."""


class CacheFile:
    """The files of one cache. Not thread-safe.

    Args:
        folder: of the files; made if it is missing. None for memory.
        keyed: whether ids are keyed.
    """

    def __init__(self, folder: Path | None, keyed: bool) -> None:
        self._folder = folder
        self._keyed = keyed
        self._files: Files
        try:
            self.index = self._prepare()
        except (OSError, *ROTTEN) as err:
            # No rights or no space there. The next run will have to rebuild it.
            self._use_memory(err)

    def close(self) -> None:
        """Close the files. Never raises."""
        with contextlib.suppress(OSError):
            self.index.close()
        if isinstance(self._files, MemoryFiles):
            self._files.close()

    def renew(self, reason: object) -> None:
        """Replace the files by empty ones, or by memory if that fails, too."""
        logger.warning("the index cache %s is corrupt (%s); rebuilding it", self._where(), reason)
        with contextlib.suppress(OSError):
            self.index.close()
        try:
            begin_anew(self._files, self._keyed)
            self.index = ChunkIndex(self._files, self._keyed)
        except (OSError, *ROTTEN) as err:
            self._use_memory(err)

    def _use_memory(self, reason: object) -> None:
        logger.warning("cannot use the index cache %s (%s); using memory instead", self._folder, reason)
        self._folder = None
        self._files = MemoryFiles()
        self.index = ChunkIndex(self._files, self._keyed)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors into :class:`Corrupt`, or into those of a store if the files are not to blame."""
        try:
            yield
        except Busy as err:
            raise self._failure(StoreError, err.strerror) from err
        except OSError as err:
            if err.errno in _FULL:
                raise self._failure(NoSpace, err.strerror) from err
            raise Corrupt(str(err)) from err
        except ROTTEN as err:
            raise Corrupt(f"{type(err).__name__}: {err}") from err

    def failure(self, err: Corrupt) -> StoreError:
        """The error for a cache that stays corrupt although it was rebuilt."""
        return self._failure(StoreError, err)

    def _failure(self, kind: type[StoreError], err: object) -> StoreError:
        return kind(self._where(), "use", "the index cache", f"{err}; it may be deleted and will be rebuilt")

    def _where(self) -> str:
        return str(self._folder or "in memory")

    def _prepare(self) -> ChunkIndex:
        if self._folder is None:
            self._files = MemoryFiles()
            return ChunkIndex(self._files, self._keyed)
        self._files = FolderFiles(self._folder)
        for folder in (
            self._folder.parent,
            self._folder.parent.parent,
        ):  # the older one had one for all places
            for suffix in _OLD_SUFFIXES:
                (folder / (_OLD_NAME + suffix)).unlink(missing_ok=True)
        try:
            return ChunkIndex(self._files, self._keyed)
        except ROTTEN as err:
            logger.warning("index cache %s cannot be used (%s); rebuilding it", self._folder, err)
            begin_anew(self._files, self._keyed)
            return ChunkIndex(self._files, self._keyed)
