"""Objects as files of a directory, written so that each is whole or absent after a power loss.

A sink writes to a temporary file in ``tmp/``. Publishing flushes it (fsync), gives it its name, which fails
if the name is taken (``stores.naming``), and removes the temporary name. The barrier then flushes every
directory that got a new entry or was listed, and those above it. An empty file counts as absent: a process
left it that died while it named a file on a file system without hard links.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, Self
from urllib.parse import unquote, urlsplit

from hvpsbridge.errors import (
    ConfigurationError,
    Damaged,
    NoSpace,
    ObjectExists,
    ObjectMissing,
    RepositoryExists,
    StoreError,
    StoreLimit,
    is_full,
    limit_advice,
)
from hvpsbridge.files import FOLDER_MODE
from hvpsbridge.folders import absolute
from hvpsbridge.repository.stores.base import (
    CONTENT_NAMES,
    FOLDER_IS_LINK,
    FOLDER_IS_OTHER,
    MAX_DEPTH,
    MAX_OBJECT_BYTES,
    NOT_REGULAR,
    OWN_NAMES,
    TEMPORARY_FOLDER,
    ObjectInfo,
    Sink,
    Store,
    check_name,
)
from hvpsbridge.repository.stores.folder_flush import FolderFlush
from hvpsbridge.repository.stores.local_files import (
    NotRegular,
    has_settings,
    open_regular,
    read_at,
    remove_stale,
    write_in_order,
)
from hvpsbridge.repository.stores.naming import FILE_MODE, claim_abandoned, name_exclusively


class LocalStore(Store):
    """A directory as a store.

    Args:
        root: the directory.
        create: create it if it does not exist.

    Raises:
        ObjectMissing: the directory does not exist.
        RepositoryExists: it is to be created, and something else is there.
    """

    remote = False

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self._root = root
        self.url = str(root)
        self._is_repository = False
        self._flush = FolderFlush(root)
        try:
            if create:
                self._make_folder(root)
                self._refuse_foreign(root)
            elif not root.is_dir():
                # Nothing is created before the first write: it may be read-only, or not a repository.
                what = "it is not a directory" if root.exists() else "there is no such directory"
                raise ObjectMissing(self.url, "open", str(root), what)
            # Its settings show later whether this is still the same place.
            self._is_repository = has_settings(self._root)
        except (FileExistsError, NotADirectoryError, FileNotFoundError) as err:
            if not create:
                self._fail("open", str(root), err)
            above = "" if isinstance(err, FileExistsError) else "a part of "
            raise RepositoryExists(self.url, f"{above}this path is not a directory") from err
        except OSError as err:
            self._fail("open", str(root), err)

    def check_there(self) -> None:
        """Return if the directory is the one that was opened, and not the empty place of a lost mount.

        Raises:
            StoreError: it is not.
        """
        if self._is_repository and not has_settings(self._root):
            what = "its `config` has gone while it was in use; check whether the storage is still mounted"
            raise StoreError(self.url, "use", "the directory", what)

    def _refuse_foreign(self, root: Path) -> None:
        # "config" makes it a repository, which is another error. An init that died leaves only folders.
        with os.scandir(root) as entries:
            foreign = sorted(entry.name for entry in entries if entry.name not in OWN_NAMES)
        if foreign and not has_settings(self._root):
            raise RepositoryExists(self.url, f"the directory is not empty; it contains {foreign[0]}")

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:
        """The directory of a ``file://`` URL, or of a path."""
        path = Path(url)
        if url.startswith("file://"):
            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost"):
                raise ConfigurationError("file://", "has no host; write file:///path")
            if parts.query:
                raise ConfigurationError("file://", "has no options; give a path instead of a URL")
            path = Path(unquote(parts.path))
            if not parts.path:
                raise ConfigurationError("file://", "has no path; write file:///path")
        return cls(absolute(path), create=create)

    @property
    def place(self) -> str:
        return os.path.realpath(self._root)

    @property
    def durable(self) -> bool:
        return self._flush.works

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self._root).free

    def put(self, name: str, data: bytes) -> None:
        with self.sink(name) as sink:
            sink.write(data)
            sink.publish()

    def sink(self, name: str) -> LocalSink:
        return LocalSink(self, check_name(name))

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        with self._reading("read", name) as (descriptor, size):
            self.check_size(name, size, max_bytes)
            # It never grows, unless somebody else writes to it.
            data = read_at(descriptor, 0, size)
        if not data:
            raise ObjectMissing(self.url, "read", name, "no such object")
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        with self._reading("read", name) as (descriptor, size):
            data = read_at(descriptor, offset, max(0, min(length, size - offset)))
        return self.whole_range(name, data, length)

    def size(self, name: str) -> int:
        with self._reading("look up", name) as (_, size):
            if not size:
                raise ObjectMissing(self.url, "look up", name, "no such object")
            return size

    @contextlib.contextmanager
    def _reading(self, action: str, name: str) -> Iterator[tuple[int, int]]:
        """Descriptor and size of an object."""
        try:
            with open_regular(self.path(name)) as found:
                yield found
        except NotRegular as err:
            raise Damaged(self.url, name, NOT_REGULAR) from err
        except OSError as err:
            self._fail(action, name, err)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._walk(self.path(prefix), prefix)

    def _walk(self, folder: Path, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            self.check_there()
            if folder.is_symlink():
                yield ObjectInfo(prefix, -1)
            return
        except OSError as err:
            if err.errno in (errno.ENOTDIR, errno.ELOOP):
                # Somebody made something else before there was a folder.
                self.check_there()
                yield ObjectInfo(prefix, -1)
                return
            self._fail("list", prefix, err)
        # The caller may rely on objects of another process that died before it could flush them.
        self._flush.note(folder)
        for entry in entries:
            name = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if name.count("/") < MAX_DEPTH:
                    yield from self._walk(folder / entry.name, name)
                else:
                    yield ObjectInfo(name, -1)
            elif entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted since the listing
                    status = entry.stat(follow_symlinks=False)
                    # Nobody can set the time of a change of the file's state.
                    yield ObjectInfo(name, status.st_size, f"{status.st_ino}-{status.st_ctime_ns}")
            else:
                yield ObjectInfo(name, -1)

    def delete(self, name: str) -> None:
        path = self.path(name)
        try:
            self._refuse_links(path.parent)
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as err:
            self._fail("delete", name, err)
        self._flush.note(path.parent)

    def commit_barrier(self) -> None:
        try:
            self._flush.run()
        except OSError as err:
            self._fail("flush", str(err.filename), err)
        self.check_there()

    def content(self) -> frozenset[str]:
        try:
            with os.scandir(self._root) as entries:
                return frozenset(entry.name for entry in itertools.islice(entries, CONTENT_NAMES))
        except OSError as err:
            self._fail("list", str(self._root), err)

    def close(self) -> None:
        """Does nothing: no file is kept open."""

    def make_folders(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError, StoreError):
                self.check_there()
                self._make_folder(self.path(name))

    def sweep(self) -> int:
        return remove_stale(self._root / TEMPORARY_FOLDER)

    def holds(self, path: Path) -> bool:
        """Whether ``path`` is in this directory, with links followed."""
        # Unlike Path.resolve, realpath takes loops, closed folders and names that are too long.
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))

    def path(self, name: str) -> Path:
        """The file of an object."""
        return self._root / check_name(name)

    def temporary(self) -> tuple[Path, BinaryIO]:
        """A new temporary file, open for writing."""
        path = self._root / TEMPORARY_FOLDER / secrets.token_hex(16)
        self.check_there()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            except FileExistsError:
                raise StoreError(self.url, "write", str(path.parent), FOLDER_IS_OTHER) from None
            self._refuse_links(path.parent)
            return path, os.fdopen(os.open(path, flags, FILE_MODE), "wb", buffering=0)
        except OSError as err:
            self._fail("write", path.name, err)

    def adopt(self, temporary: Path, name: str) -> None:
        """Give a complete temporary file its name."""
        path = self.path(name)
        self.check_there()
        try:
            self._make_folder(path.parent)
            self._refuse_links(path.parent)
            try:
                name_exclusively(temporary, path)
            except FileExistsError:
                if not claim_abandoned(temporary, path):
                    raise
        except OSError as err:
            self._fail("create", name, err)
        self._flush.note(path.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._root:
            self._make_folder(folder.parent)
            if os.path.lexists(folder) and not folder.is_dir():
                raise StoreError(self.url, "write", str(folder), FOLDER_IS_OTHER)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True, parents=folder == self._root)
        self._flush.note(folder.parent)

    def _refuse_links(self, folder: Path) -> None:
        """Refuse to write where a link leads out of the directory. Reading through one does no harm."""
        while folder != self._root:
            if stat.S_ISLNK(folder.lstat().st_mode):
                raise StoreError(self.url, "write", str(folder), FOLDER_IS_LINK)
            folder = folder.parent

    def _fail(self, action: str, name: str, err: OSError) -> NoReturn:
        reason = err.strerror or str(err)
        if is_full(err):
            raise NoSpace(self.url, action, name, reason) from err
        if advice := limit_advice(err):
            raise StoreLimit(self.url, action, name, reason, advice) from err
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            self.check_there()
            raise ObjectMissing(self.url, action, name, reason) from err
        if err.errno == errno.EEXIST:
            raise ObjectExists(self.url, action, name, reason) from err
        raise StoreError(self.url, action, name, reason) from err


class LocalSink(Sink):
    """A new file of a :class:`LocalStore`."""

    def __init__(self, store: LocalStore, name: str) -> None:
        self._store = store
        self._name = name
        self._path, self._file = store.temporary()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                written = self._file.write(view)
                view = view[written:]
        except OSError as err:
            self._store._fail("write", self._name, err)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        try:
            write_in_order(self._file.fileno(), parts)
        except OSError as err:
            self._store._fail("write", self._name, err)

    def publish(self) -> None:
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as err:
            self._store._fail("flush", self._name, err)
        self._store.adopt(self._path, self._name)
        with contextlib.suppress(OSError):  # a second name of the object; removed by sweep when it is old
            self._path.unlink(missing_ok=True)

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._path.unlink(missing_ok=True)
