"""Writes files of a volume into a folder, and never outside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator

from hvpsbridge.errors import FilesUnreadable, HvpsError, machine_error
from hvpsbridge.filesystems.client import shown
from hvpsbridge.filesystems.model import Entry, FileKind

# The content of a file: bytes, and counts of zeros.
Content = Iterable[bytes | int]
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_content(content: Content, file: int) -> None:
    """Write to a file or a pipe; zeros become holes where the file can have them."""
    seekable = stat.S_ISREG(os.fstat(file).st_mode)
    at = os.lseek(file, 0, os.SEEK_CUR) if seekable else 0
    for part in content:
        if isinstance(part, int) and seekable:
            at += part
            os.lseek(file, at, os.SEEK_SET)
            continue
        data = memoryview(bytes(part))
        at += len(data)
        while data:
            data = data[os.write(file, data) :]
    if seekable:
        os.ftruncate(file, at)


class Extraction:
    """Files below one folder of a volume, written below one folder here.

    Every name is opened relative to its folder's descriptor and without following links, so no name or link
    of the volume leads out. Links are made last.

    Args:
        root: descriptor of an existing folder.
        source: path of the folder of the volume that becomes ``root``.
    """

    def __init__(self, root: int, source: bytes, read: Callable[[Entry], Iterator[bytes | int]]) -> None:
        self._root = root
        self._source = source.rstrip(b"/")
        self._read = read
        self._links: list[Entry] = []
        self._written: dict[int, bytes] = {}
        self._folders: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Write one entry; its folder was added before.

        Raises:
            FilesUnreadable: it cannot be read, has a name that a folder here cannot have, or exists.
        """
        if entry.kind is FileKind.SYMLINK:
            self._links.append(entry)
            return
        if entry.kind is FileKind.OTHER:
            raise FilesUnreadable(shown(entry.path), entry.refused or "it is a device, pipe or socket")
        parent, name = self._place(entry)
        try:
            if entry.kind is FileKind.FOLDER:
                os.mkdir(name, 0o700, dir_fd=parent)
                self._folders.append(entry)
            else:
                self._write(entry, parent, name)
        except OSError as err:
            raise self._error(entry, err) from err
        finally:
            os.close(parent)

    def finish(self, on_error: Callable[[HvpsError], None]) -> None:
        """Make symbolic links, then set times and modes of folders."""
        for entry in self._links:
            try:
                parent, name = self._place(entry)
                try:
                    os.symlink(entry.target, name, dir_fd=parent)
                    self._set_times(entry, parent, name)
                finally:
                    os.close(parent)
            except OSError as err:
                on_error(self._error(entry, err))
            except HvpsError as err:
                on_error(err)
        for entry in reversed(self._folders):
            parent, name = self._place(entry)
            try:
                os.chmod(name, (entry.mode or 0o755) & 0o777, dir_fd=parent)
                self._set_times(entry, parent, name)
            finally:
                os.close(parent)

    def _write(self, entry: Entry, parent: int, name: bytes) -> None:
        first = self._written.get(entry.key)
        if first is not None and entry.links > 1:
            folder, old = self._place_of(first)
            try:
                os.link(old, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(folder)
            return
        partial = f".hvps-{entry.key}.partial".encode()
        file = os.open(partial, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            write_content(self._read(entry), file)
            os.fchmod(file, (entry.mode if entry.mode is not None else 0o644) & 0o777)
            self._set_times(entry, parent, partial)
            os.link(partial, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(file)
            os.unlink(partial, dir_fd=parent)
        if entry.links > 1:
            self._written[entry.key] = entry.path

    def _set_times(self, entry: Entry, parent: int, name: bytes) -> None:
        if entry.modified_ns is not None:
            times = (entry.modified_ns, entry.modified_ns)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _place(self, entry: Entry) -> tuple[int, bytes]:
        try:
            return self._place_of(entry.path)
        except OSError as err:
            raise self._error(entry, err) from err

    def _place_of(self, path: bytes) -> tuple[int, bytes]:
        """Descriptor of the folder of a path, which the caller closes, and the last name."""
        if not path.startswith(self._source + b"/"):
            raise FilesUnreadable(shown(path), "it is not in the chosen folder")
        names = path[len(self._source) + 1 :].split(b"/")
        if any(name in (b"", b".", b"..") or b"\0" in name for name in names):
            raise FilesUnreadable(shown(path), "it has a name that leads out of its folder")
        folder = os.dup(self._root)
        for name in names[:-1]:
            try:
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder, names[-1]

    def _error(self, entry: Entry, err: OSError) -> HvpsError:
        if isinstance(err, FileExistsError):
            return FilesUnreadable(
                shown(entry.path), "a file of this name was written already, or existed before"
            )
        known = machine_error(err, shown(entry.path))
        assert known is not None
        return known
