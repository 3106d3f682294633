"""Reads and removes files of a directory in which somebody else may have put links, pipes and devices."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvpsbridge.formats.settings import SETTINGS_NAMES
from hvpsbridge.repository.stores.base import STALE_TEMPORARY_SECONDS, TEMPORARY_NAME

# The most that Linux takes (IOV_MAX).
PARTS_AT_ONCE = 1024


class NotRegular(Exception):
    """It is a link, a pipe, a device or a folder."""


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a file, open for reading while the block runs.

    Raises:
        NotRegular: it is something else than a file.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENXIO):
            raise NotRegular from err
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotRegular
        yield descriptor, found.st_size
    finally:
        os.close(descriptor)


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    """Bytes from ``offset``; fewer than ``length`` if the file ends before."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def write_in_order(descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write parts one after another where the file is; the kernel may take less at a time."""
    views = [memoryview(part) for part in parts]
    at = 0
    while at < len(views):
        written = os.writev(descriptor, views[at : at + PARTS_AT_ONCE])
        while at < len(views) and written >= len(views[at]):
            written -= len(views[at])
            at += 1
        if written:
            views[at] = views[at][written:]


def remove_stale(folder: Path) -> int:
    """Count of temporary files of dead processes that were removed from ``folder``. Never raises."""
    removed = 0
    with contextlib.suppress(OSError):
        # By descriptor, so that nothing outside is removed even if a link replaces the folder meanwhile.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for name in os.listdir(descriptor):  # noqa: PTH208 (a descriptor)
                with contextlib.suppress(OSError):
                    if TEMPORARY_NAME.fullmatch(name) and _is_stale(os.lstat(name, dir_fd=descriptor)):
                        os.unlink(name, dir_fd=descriptor)
                        removed += 1
        finally:
            os.close(descriptor)
    return removed


def _is_stale(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > STALE_TEMPORARY_SECONDS


def has_settings(root: Path) -> bool:
    """Whether settings of a repository are directly in a folder."""
    return any((root / name).exists() for name in SETTINGS_NAMES)
