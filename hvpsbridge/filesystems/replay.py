"""Replays the journal of ext by e2fsck, on an overlay that is thrown away.

e2fsck needs a file, and copying the volume would read all of it. So the file is sparse and has only what a
replay reads: the superblock, the group descriptors and the journal. Its pages that hold data afterwards are
laid over the volume.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hvpsbridge.filesystems import tsk
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.tools import Tools, is_installed
from hvpsbridge.formats.readable import Readable

_PAGE = 4096
_COPIED_BYTES = 1 << 20
_JOURNAL_INODE = 8
# Superblock and group descriptors: 64 bytes a group, and a group has at least 8 MiB (blocks of 1 KiB).
_HEAD_BYTES = 2 << 20
_GROUP_BYTES = 8 << 20


class _Recorder:
    """Copies what is read of a volume into a file."""

    def __init__(self, volume: Readable, file: int) -> None:
        self._volume = volume
        self._file = file
        self.size_bytes = volume.size_bytes

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the volume from ``offset``."""
        first = offset // _PAGE * _PAGE
        end = min(-(-(offset + length) // _PAGE) * _PAGE, self.size_bytes)
        data = self._volume.pread(first, end - first)
        os.pwrite(self._file, data, first)
        return data[offset - first : offset - first + length]


@dataclass(frozen=True, slots=True)
class Overlay:
    """A volume with pages of a file over it. The file has no name and goes away with its descriptor."""

    volume: Readable
    file: int
    pages: frozenset[int]

    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
        return self.volume.size_bytes

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        data = bytearray(self.volume.pread(offset, length))
        for page in range(offset // _PAGE, -(-(offset + length) // _PAGE)):
            if page in self.pages:
                start = max(page * _PAGE, offset)
                end = min((page + 1) * _PAGE, offset + length)
                data[start - offset : end - offset] = os.pread(self.file, end - start, start)
        return bytes(data)


def replayed(volume: Readable, tools: Tools) -> tuple[Readable, str]:
    """The volume after a replay, and a notice if it could not be replayed.

    Raises:
        UnreadableError: the volume cannot be read.
    """
    if not is_installed("e2fsck"):
        return volume, "the ext4 journal is not replayed: e2fsck is not installed (package e2fsprogs)"
    try:
        return _replayed(volume, tools)
    except OSError as err:
        return volume, f"the ext4 journal is not replayed: {err}"


def _replayed(volume: Readable, tools: Tools) -> tuple[Readable, str]:
    base = tools.file().descriptor
    try:
        _fill(volume, base)
        # A page that e2fsck wrote in part has zeros elsewhere: all touched pages are there the next time.
        file, problem = _replay(tools, base)
        if not problem:
            touched = frozenset(_pages(file))
            os.close(file)
            recorder = _Recorder(volume, base)
            for page in touched - frozenset(_pages(base)):
                recorder.pread(page * _PAGE, min(_PAGE, volume.size_bytes - page * _PAGE))
            file, problem = _replay(tools, base)
    finally:
        os.close(base)
    if problem:
        os.close(file)
        return volume, f"the ext4 journal is not replayed: {problem}"
    return Overlay(volume, file, frozenset(_pages(file))), ""


def _replay(tools: Tools, base: int) -> tuple[int, str]:
    """A replayed copy of a sparse file, and why the replay failed; empty if it did not."""
    file = tools.file()
    os.ftruncate(file.descriptor, os.fstat(base).st_size)
    for page in _pages(base):
        os.pwrite(file.descriptor, os.pread(base, _PAGE, page * _PAGE), page * _PAGE)
    ran = tools.run("e2fsck", file.number)
    # 1 and 2 say that it changed something (man e2fsck).
    failed = ran.code is None or ran.code & ~3
    return file.descriptor, (" ".join(ran.output.split())[:300] or "e2fsck failed") if failed else ""


def _fill(volume: Readable, file: int) -> None:
    os.ftruncate(file, volume.size_bytes)
    recorder = _Recorder(volume, file)
    head = min(_HEAD_BYTES + volume.size_bytes // _GROUP_BYTES * 64, volume.size_bytes)
    for offset in range(0, head, _COPIED_BYTES):
        recorder.pread(offset, min(_COPIED_BYTES, head - offset))
    files = tsk.TskFileSystem(recorder, "ext")
    size = files.size_of(_JOURNAL_INODE)
    journal = Entry(path=b"journal", kind=FileKind.FILE, size_bytes=size, key=_JOURNAL_INODE)
    for offset in range(0, size, _COPIED_BYTES):
        files.read(journal, offset, _COPIED_BYTES)


def _pages(file: int) -> Iterator[int]:
    offset = 0
    end = os.fstat(file).st_size
    while offset < end:
        try:
            start = os.lseek(file, offset, os.SEEK_DATA)
        except OSError:
            return  # only a hole follows
        offset = os.lseek(file, start, os.SEEK_HOLE)
        yield from range(start // _PAGE, -(-offset // _PAGE))
