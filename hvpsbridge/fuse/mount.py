"""Mounts files that are computed when they are read. Nothing can be changed."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hvpsbridge.errors import ConfigurationError, HvpsError
from hvpsbridge.formats.readable import Readable

logger = logging.getLogger(__name__)

_FILE_MODE, _FOLDER_MODE = 0o400, 0o500


@dataclass(frozen=True, slots=True)
class MountedFile:
    """One file of the mount: name, content, which several threads read at a time, and time of change."""

    name: str
    content: Readable
    changed: datetime


def mount(files: Iterable[MountedFile], folder: Path) -> None:
    """Mount files in an empty folder, until it is unmounted or a signal comes (SIGTERM, SIGINT).

    Raises:
        ConfigurationError: nothing can be mounted there, or mfusepy or libfuse is not installed.
    """
    try:
        import mfusepy
    except (ImportError, OSError) as err:
        what = "needs libfuse 3 (Debian: fuse3) and hvpsbridge[mount]"
        raise ConfigurationError("hvps mount", f"{what}: {err}") from err
    try:
        if any(folder.iterdir()):
            raise ConfigurationError(str(folder), "is not empty; mount on an empty folder")
    except OSError as err:
        raise ConfigurationError(str(folder), err.strerror or str(err)) from err
    tree = FileTree({f"/{file.name}": file for file in files})
    operations = type("Mounted", (mfusepy.Operations,), {name: getattr(tree, name) for name in _CALLS})
    try:
        mfusepy.FUSE(
            operations(),
            str(folder),
            foreground=True,
            ro=True,
            fsname="hvps",
            default_permissions=True,
        )
    except RuntimeError as err:
        # libfuse 3.14 also ends with an error after a signal that it handled.
        if tree.mounted:
            return
        raise ConfigurationError(str(folder), f"could not be mounted (libfuse: {err})") from err


_CALLS = ("init", "getattr", "readdir", "read", "open", "statfs")


class FileTree:
    """What the kernel asks: one folder of files.

    Args:
        files: by path.

    Attributes:
        mounted: whether the kernel has mounted it.
    """

    def __init__(self, files: Mapping[str, MountedFile]) -> None:
        self._files = files
        self.mounted = False

    def init(self, path: str) -> None:
        """Called when the file system is mounted."""
        self.mounted = True

    def getattr(self, path: str, handle: int | None = None) -> dict[str, Any]:
        """Attributes of a file or the folder."""
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        if path == "/":
            return {"st_mode": stat.S_IFDIR | _FOLDER_MODE, "st_nlink": 2, **owner}
        file = self._find(path)
        seconds = file.changed.timestamp()
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), seconds)
        size = {"st_size": file.content.size_bytes, "st_blocks": file.content.size_bytes // 512}
        return {"st_mode": stat.S_IFREG | _FILE_MODE, "st_nlink": 1, **size, **times, **owner}

    def readdir(self, path: str, handle: int) -> list[str]:
        """Names in the folder."""
        return [".", "..", *(name.removeprefix("/") for name in self._files)]

    def open(self, path: str, flags: int) -> int:
        """Open a file for reading."""
        self._find(path)
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return 0

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Bytes of a file, fewer at its end. What cannot be read is EIO, and a line in the log."""
        file = self._find(path)
        length = max(min(size, file.content.size_bytes - offset), 0)
        if not length:
            return b""
        try:
            return file.content.pread(offset, length)
        except HvpsError as err:
            logger.error("%s: bytes %d to %d cannot be read: %s", file.name, offset, offset + length - 1, err)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from err

    def statfs(self, path: str) -> dict[str, int]:
        """Size of the file system: all files, and nothing free."""
        blocks = sum(file.content.size_bytes for file in self._files.values()) // 4096
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_bfree": 0, "f_bavail": 0}

    def _find(self, path: str) -> MountedFile:
        file = self._files.get(path)
        if file is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return file
