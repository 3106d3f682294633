"""Where the files of a chunk index are: in a folder, or in memory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from hvpsbridge.files import FOLDER_MODE

FILE_MODE = 0o600
POLL_SECONDS = 0.02
# Linux writes at most 2 GiB at once.
PIECE_BYTES = 1 << 26
# Less than this is not worth a call, and what has less stays after it was written.
FORGET_BYTES = 1 << 15
LARGE_BYTES = 1 << 23


class Busy(OSError):
    """Another process holds a lock for longer than the caller waits."""


class Files(Protocol):
    """Named files. Descriptors belong to the caller."""

    def read(self, name: str) -> int:
        """Open a file for reading."""

    def create(self, name: str) -> int:
        """Make a file, or empty it, for writing and reading."""

    def extend(self, name: str) -> int:
        """Open a file for writing and reading; an empty one is made if it is missing."""

    def sync(self, descriptor: int) -> None:
        """Return when what was written survives a power loss."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, durably; a file of that name is replaced."""

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    def names(self) -> list[str]:
        """Names of all files."""

    def locked(self, name: str, wait_seconds: float) -> contextlib.AbstractContextManager[None]:
        """Hold a lock.

        Raises:
            Busy: another process holds it for longer than ``wait_seconds``.
        """


class FolderFiles:
    """Files in a folder, which is made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def read(self, name: str) -> int:
        """See :class:`Files`."""
        return os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def create(self, name: str) -> int:
        """See :class:`Files`."""
        return os.open(
            self._folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE
        )

    def extend(self, name: str) -> int:
        """See :class:`Files`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._folder / name, flags, FILE_MODE)

    def sync(self, descriptor: int) -> None:
        """See :class:`Files`."""
        os.fdatasync(descriptor)

    def rename(self, old: str, new: str) -> None:
        """See :class:`Files`."""
        (self._folder / old).replace(self._folder / new)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """See :class:`Files`."""
        (self._folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See :class:`Files`."""
        return [path.name for path in self._folder.iterdir()]

    @contextlib.contextmanager
    def locked(self, name: str, wait_seconds: float) -> Iterator[None]:
        """See :class:`Files`."""
        descriptor = self.extend(name)
        try:
            deadline = time.monotonic() + wait_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as err:
                    if time.monotonic() >= deadline:
                        raise Busy(errno.EAGAIN, "another process holds its lock", str(self._folder)) from err
                    time.sleep(POLL_SECONDS)
                except OSError as err:
                    if err.errno not in (errno.ENOLCK, errno.ENOTSUP):
                        raise
                    break  # a file system without locks, as of some networks; one process must suffice
            yield
        finally:
            os.close(descriptor)


class MemoryFiles:
    """Files in memory, of this process only."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._locks: dict[str, threading.RLock] = {}

    def close(self) -> None:
        """Free the memory that no descriptor uses."""
        for name in list(self._files):
            self.remove(name)

    def read(self, name: str) -> int:
        """See :class:`Files`."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return os.dup(self._files[name])

    def create(self, name: str) -> int:
        """See :class:`Files`."""
        self.remove(name)
        self._files[name] = os.memfd_create(f"hvps-{name}", os.MFD_CLOEXEC)
        return os.dup(self._files[name])

    def extend(self, name: str) -> int:
        """See :class:`Files`."""
        return self.read(name) if name in self._files else self.create(name)

    def sync(self, descriptor: int) -> None:
        """See :class:`Files`."""

    def rename(self, old: str, new: str) -> None:
        """See :class:`Files`."""
        found = self._files.pop(old)
        self.remove(new)
        self._files[new] = found

    def remove(self, name: str) -> None:
        """See :class:`Files`."""
        if (descriptor := self._files.pop(name, None)) is not None:
            os.close(descriptor)

    def names(self) -> list[str]:
        """See :class:`Files`."""
        return list(self._files)

    @contextlib.contextmanager
    def locked(self, name: str, wait_seconds: float) -> Iterator[None]:
        """See :class:`Files`."""
        lock = self._locks.setdefault(name, threading.RLock())
        if not lock.acquire(timeout=wait_seconds):
            raise Busy(errno.EAGAIN, "another thread holds its lock", name)
        try:
            yield
        finally:
            lock.release()


def write_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write ``data`` at ``offset``.

    Raises:
        OSError: as for a file; a full disk is ENOSPC.
    """
    if not len(data):
        return  # memoryview cannot cast an empty array
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view[:PIECE_BYTES], offset)
        view = view[written:]
        offset += written


def forget(descriptor: int, offset: int, length: int, *, least: int = FORGET_BYTES) -> None:
    """Drop a part of a file, which is synced and not needed for now, from the page cache.

    Otherwise gigabytes that are read or written once displace what is needed, and in a control group with a
    small limit, the writer waits for each page.
    """
    if length >= least:
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def read_exactly(descriptor: int, length: int, offset: int) -> bytes:
    """``length`` bytes at ``offset``.

    Raises:
        ValueError: the file ends before.
        OSError: it cannot be read.
    """
    data = os.pread(descriptor, length, offset)
    if len(data) < length:
        parts = [data]
        have = len(data)
        while have < length:
            more = os.pread(descriptor, length - have, offset + have)
            if not more:
                raise ValueError(f"a file ends after {offset + have} of {offset + length} bytes")
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
    return data
