"""Objects in a directory of an SSH server; ``ssh.py`` has the connection.

SFTP has no create-if-absent for a whole object. So an object is written to a temporary file and named by a
hard link (an extension of OpenSSH), which fails if the name is taken. Without hard links the name is
reserved by an exclusive create and replaced by a rename (another extension); a process that dies in between
leaves an empty file, which counts as absent. A server with neither gets the bytes under the final name. A
reader there may see an object that is still growing, and reports it as damaged. Flushing needs the fsync
extension of OpenSSH. Without it :attr:`durable` is false, points are marked accordingly, and the old
reference point stays.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, cast

import asyncssh

from hvpsbridge.errors import Damaged, ObjectMissing, StoreError
from hvpsbridge.repository.stores.base import (
    CONTENT_NAMES,
    MAX_DEPTH,
    MAX_OBJECT_BYTES,
    NOT_REGULAR,
    STALE_TEMPORARY_SECONDS,
    TEMPORARY_FOLDER,
    TEMPORARY_NAME,
    ObjectInfo,
    Store,
    check_name,
)
from hvpsbridge.repository.stores.retry import create_once
from hvpsbridge.repository.stores.sftp_files import SftpFiles
from hvpsbridge.repository.stores.spool import SpoolSink
from hvpsbridge.repository.stores.ssh import SshConnection

logger = logging.getLogger(__name__)


class SftpStore(Store):
    """A directory on an SSH server.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    remote = True

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._ssh = SshConnection(url)
        self.url = url
        self._root = self._ssh.path
        self._files = SftpFiles(self._ssh)
        self._unflushed: set[str] = set()
        self._lock = threading.Lock()
        try:
            if create:
                self._ssh.persist("create", self._root, lambda: self._files.make_folder(self._root))
            else:
                self._ssh.persist("open", self._root, lambda: self._look_at_folder(self._root))
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:
        return cls(url, create=create)

    @property
    def place(self) -> str:
        return self._ssh.place

    @property
    def durable(self) -> bool:
        """Whether the server can flush files; tried with a small file if nothing was written yet."""
        if self._files.durable is None:
            self._ssh.persist("probe", TEMPORARY_FOLDER, lambda: self._files.upload(b"hvps", keep=False))
        return bool(self._files.durable)

    def free_bytes(self) -> int | None:
        return self._ssh.persist("measure", self._root, self._files.free_bytes)

    # -- the contract -----------------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> None:
        check_name(name)
        create_once(
            lambda: self._ssh.once("create", name, lambda: self._files.create(self._path(name), data)),
            lambda: self.get(name, len(data)) == data,
        )
        with self._lock:
            self._unflushed.add(name)

    def sink(self, name: str) -> SpoolSink:
        return SpoolSink(self.url, check_name(name), self.put)

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        data = self._ssh.persist("read", check_name(name), lambda: self._read_all(name, max_bytes))
        if not data:
            raise ObjectMissing(self.url, "read", name, "no such object")
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        data = self._ssh.persist("read", check_name(name), lambda: self._read(name, offset, length))
        return self.whole_range(name, data, length)

    def size(self, name: str) -> int:
        size = self._ssh.persist("look up", check_name(name), lambda: self._size(name))
        if not size:
            raise ObjectMissing(self.url, "look up", name, "no such object")
        return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._ssh.persist("list", check_name(prefix), lambda: self._walk(prefix))

    def content(self) -> frozenset[str]:
        return self._ssh.persist("list", self._root, self._first_names)

    def delete(self, name: str) -> None:
        with contextlib.suppress(ObjectMissing):
            self._ssh.persist("delete", check_name(name), lambda: self._remove(name))

    def overwrite(self, name: str, data: bytes) -> None:
        """Overwrite an object, which no repository does; ``probe`` tests whether it is refused."""
        self._ssh.once("overwrite", name, lambda: self._write_over(name, data))

    def commit_barrier(self) -> None:
        # SFTP cannot flush a directory. Instead, each file is flushed again under its final name; journalling
        # file systems then write the name, too.
        with self._lock:
            names, self._unflushed = self._unflushed, set()
        try:
            for name in sorted(names):
                with contextlib.suppress(ObjectMissing):  # an old record of a lease
                    self._ssh.persist("flush", name, lambda name=name: self._files.flush(self._path(name)))  # type: ignore[misc]  # bound now
        except BaseException:
            with self._lock:
                self._unflushed |= names
            raise

    def make_folders(self, names: Iterable[str]) -> None:
        try:
            self._ssh.persist("create", self._root, lambda: self._make_missing(names))
        except StoreError as err:
            logger.info("%s", err)

    def sweep(self) -> int:
        try:
            return self._ssh.persist("sweep", TEMPORARY_FOLDER, self._sweep)
        except StoreError as err:
            logger.info("%s", err)
            return 0

    def close(self) -> None:
        self._ssh.close()

    # -- on the loop ------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    async def _look_at_folder(self, path: str) -> None:
        if (await self._ssh.sftp.stat(path)).type == asyncssh.FILEXFER_TYPE_REGULAR:
            raise ObjectMissing(self.url, "open", path, "it is not a directory")

    async def _make_missing(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - await self._first_names()):
            await self._files.make_folder(self._path(name))

    async def _write_over(self, name: str, data: bytes) -> None:
        async with await self._ssh.sftp.open(self._path(name), "wb") as file:
            await file.write(data)

    async def _size(self, name: str) -> int:
        found = await self._ssh.sftp.lstat(self._path(name))
        if not _is_regular(found):
            raise Damaged(self.url, name, NOT_REGULAR)
        return int(found.size or 0)

    async def _read_all(self, name: str, max_bytes: int) -> bytes:
        size = await self._size(name)
        self.check_size(name, size, max_bytes)
        return await self._read(name, 0, size)

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        path = self._path(name)
        # Opening a pipe would block the server.
        if not self._ssh.has_open(path) and not _is_regular(await self._ssh.sftp.lstat(path)):
            raise Damaged(self.url, name, NOT_REGULAR)
        file = await self._ssh.reading(path)
        # A file opened without an encoding returns bytes, but asyncssh's types say text.
        return cast(bytes, await file.read(length, offset))

    async def _remove(self, name: str) -> None:
        path = self._path(name)
        await self._files.refuse_links(path.rsplit("/", 1)[0])
        await self._ssh.stop_reading(path)
        await self._ssh.sftp.remove(path)

    async def _sweep(self) -> int:
        folder = self._path(TEMPORARY_FOLDER)
        await self._files.refuse_links(folder)
        ages: dict[str, int] = {}
        with contextlib.suppress(asyncssh.SFTPNoSuchFile):
            async for entry in self._ssh.sftp.scandir(folder):
                name = _text(entry.filename)
                if _is_regular(entry.attrs) and TEMPORARY_NAME.fullmatch(name):
                    ages[f"{folder}/{name}"] = entry.attrs.mtime or 0
        if not ages:
            return 0
        # The server's time: if the clock here is ahead, files that others are uploading must not be removed.
        clock = await self._files.upload(b"clock")
        now = (await self._ssh.sftp.stat(clock)).mtime or 0
        await self._ssh.sftp.remove(clock)
        old = [path for path, mtime in ages.items() if now - mtime > STALE_TEMPORARY_SECONDS]
        for path in old:
            await self._ssh.sftp.remove(path)
        return len(old)

    async def _is_other(self, folder: str) -> bool:
        """Whether somebody made something else where a folder would be."""
        try:
            return (await self._ssh.sftp.lstat(folder)).type != asyncssh.FILEXFER_TYPE_DIRECTORY
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return False

    async def _first_names(self) -> frozenset[str]:
        names: set[str] = set()
        async for entry in self._ssh.sftp.scandir(self._root):
            names.add(_text(entry.filename))
            if len(names) >= CONTENT_NAMES:
                break
        return frozenset(names - {".", ".."})

    async def _walk(self, prefix: str) -> Sequence[ObjectInfo]:
        found: list[ObjectInfo] = []
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                entries = await self._ssh.sftp.readdir(self._path(folder))
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPFailure) as err:
                if await self._is_other(self._path(folder)):
                    found.append(ObjectInfo(folder, -1))
                elif isinstance(err, asyncssh.SFTPFailure):
                    raise
                continue
            for entry in entries:
                last = _text(entry.filename)
                if last in (".", ".."):
                    continue
                name = f"{folder}/{last}"
                if entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY and name.count("/") < MAX_DEPTH:
                    folders.append(name)
                elif not _is_regular(entry.attrs):
                    found.append(ObjectInfo(name, -1))
                else:
                    stamp = str(entry.attrs.mtime or "")
                    found.append(ObjectInfo(name, int(entry.attrs.size or 0), stamp))
        return found


def _is_regular(attributes: asyncssh.SFTPAttrs) -> bool:
    # Some servers do not tell types.
    return attributes.type in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN)


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")
