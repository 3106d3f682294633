"""Objects in a directory of an SSH server: the one door to asyncssh.

SFTP has no create-if-absent for a whole object, so an object is written to a temporary name and given its
own by a hard link (OpenSSH's extension), which fails when the name is taken. Where there are no links the
name is reserved by an exclusive create and replaced by a rename (another extension); a process that dies in
between leaves an empty file, which counts as absent. A server that knows neither gets the bytes under the
final name; a reader there may see an object that is still growing, and finds it damaged rather than wrong.
Flushing needs OpenSSH's fsync extension: without it :attr:`durable` is false, points are flagged so, and the
old reference point stays.

    sftp://user@host:22/absolute/path?identity=/path/to/key&known_hosts=/path/to/file

A path that starts with ``/~/`` is in the user's home. Without options keys, agent and known hosts are those
of OpenSSH. A host key that is unknown or has changed is an error, always.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from hvpsbridge.errors import ConfigurationError, NoSpace, ObjectExists, ObjectMissing, StoreError
from hvpsbridge.repository.stores.base import STALE_TEMPORARY_SECONDS, ObjectInfo, check_name
from hvpsbridge.repository.stores.naming import ABANDONED_SECONDS
from hvpsbridge.repository.stores.retry import Unreachable, create_once, persist
from hvpsbridge.repository.stores.spool import SpoolSink

try:
    import asyncssh
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

logger = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_SECONDS = 20.0
# One operation moves at most a pack; asyncssh sends many requests at once.
OPERATION_SECONDS = 180.0
KEEPALIVE_SECONDS = 15
FILE_MODE = 0o600
FOLDER_MODE = 0o700
TEMPORARY_FOLDER = "tmp"
# Pack files kept open for reading; opening one costs a round trip.
HANDLES_KEPT = 16
_OPTIONS = frozenset({"identity", "known_hosts"})


class SftpStore:
    """A directory on an SSH server. Connects on first use, and again when the connection is lost.

    Raises:
        ConfigurationError: the URL makes no sense.
    """

    remote = True

    def __init__(self, url: str, *, create: bool = False) -> None:
        if not INSTALLED:
            raise ConfigurationError("sftp", "install hvpsbridge[sftp] to use SFTP repositories")
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not parts.hostname or options.keys() - _OPTIONS or parts.password or parts.path in ("", "/"):
            raise ConfigurationError(
                f"{parts.scheme}://{parts.hostname or ''}",
                "write sftp://user@host:port/path?identity=FILE&known_hosts=FILE; passwords are not taken",
            )
        for option, file in options.items():
            if not os.access(file, os.R_OK):
                raise ConfigurationError(f"sftp://{parts.hostname}", f"{option}={file} cannot be read")
        self.url = url
        path = unquote(parts.path)
        self._root = path[3:].rstrip("/") if path.startswith("/~/") else path.rstrip("/")
        self._settings: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or 22,
            "connect_timeout": CONNECT_SECONDS,
            "keepalive_interval": KEEPALIVE_SECONDS,
        }
        if parts.username:
            self._settings["username"] = unquote(parts.username)
        if "identity" in options:
            self._settings |= {"client_keys": [options["identity"]], "agent_path": None}
        if "known_hosts" in options:
            self._settings["known_hosts"] = options["known_hosts"]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._thread.start()
        self._connecting = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._handles: OrderedDict[str, asyncssh.SFTPClientFile] = OrderedDict()
        self._folders: set[str] = set()
        self._unflushed: set[str] = set()
        self._lock = threading.Lock()
        self._durable: bool | None = None
        try:
            if create:
                self._do("create", self._root, lambda: self._make_folder(self._root))
            else:
                self._do("open", self._root, lambda: self._look_at(self._root))
        except BaseException:
            self.close()
            raise

    @property
    def durable(self) -> bool:
        """Whether the server can flush files; asked with a small file when nothing was written yet."""
        if self._durable is None:
            self._do("probe", TEMPORARY_FOLDER, lambda: self._upload(b"hvps", keep=False))
        return bool(self._durable)

    # -- the contract -----------------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        check_name(name)
        create_once(
            lambda: self._once("create", name, lambda: self._create(name, data)),
            lambda: self.get(name) == data,
        )
        with self._lock:
            self._unflushed.add(name)

    def sink(self, name: str) -> SpoolSink:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        return SpoolSink(self.url, check_name(name), self.put)

    def get(self, name: str) -> bytes:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        data = self._do("read", check_name(name), lambda: self._read(name, 0, -1))
        if not data:
            raise ObjectMissing(self.url, "read", name, "no such object")
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        data = self._do("read", check_name(name), lambda: self._read(name, offset, length))
        if len(data) != length:
            raise StoreError(self.url, "read", name, f"it ends {length - len(data)} bytes early")
        return data

    def size(self, name: str) -> int:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        size = self._do("look up", check_name(name), lambda: self._look_at(self._path(name)))
        if not size:
            raise ObjectMissing(self.url, "look up", name, "no such object")
        return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        yield from self._do("list", check_name(prefix), lambda: self._walk(prefix))

    def delete(self, name: str) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        with contextlib.suppress(ObjectMissing):
            self._do("delete", check_name(name), lambda: self._remove(name))

    def overwrite(self, name: str, data: bytes) -> None:
        """Try what no repository does; for ``probe``, which wants it refused."""
        self._once("overwrite", name, lambda: self._write_over(name, data))

    def commit_barrier(self) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Store`.

        Each object's file is flushed once more under its own name: journalling file systems then have the
        name on disk too, since SFTP cannot flush a directory.
        """
        with self._lock:
            names, self._unflushed = self._unflushed, set()
        try:
            for name in sorted(names):
                with contextlib.suppress(ObjectMissing):  # a lease that has moved on
                    self._do("flush", name, lambda name=name: self._flush(name))  # type: ignore[misc]  # bound now
        except BaseException:
            with self._lock:
                self._unflushed |= names
            raise

    def sweep(self) -> int:
        """See :class:`~hvpsbridge.repository.stores.base.Sweeping`."""
        try:
            return self._do("sweep", TEMPORARY_FOLDER, self._sweep)
        except StoreError as err:
            logger.info("%s", err)
            return 0

    def close(self) -> None:
        """See :class:`~hvpsbridge.repository.stores.base.Store`."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- running ----------------------------------------------------------------------------------------

    def _do(self, action: str, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return persist(lambda: self._once(action, name, work))

    def _once(self, action: str, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        future = asyncio.run_coroutine_threadsafe(self._run(work), self._loop)
        try:
            return future.result(OPERATION_SECONDS)
        except TimeoutError as err:
            future.cancel()
            self._drop()
            raise Unreachable(self.url, action, name, f"no answer in {OPERATION_SECONDS:.0f} s") from err
        except asyncssh.KeyImportError as err:
            what = f"the identity cannot be used: {err}"
            raise ConfigurationError(f"sftp://{self._settings['host']}", what) from err
        except (asyncssh.Error, OSError) as err:
            self._fail(action, name, err)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with self._connecting:
            if self._client is None:
                self._connection = await asyncssh.connect(**self._settings)
                self._client = await self._connection.start_sftp_client()
        return await work()

    @property
    def _sftp(self) -> asyncssh.SFTPClient:
        if self._client is None:
            raise asyncssh.SFTPConnectionLost("the connection is gone")
        return self._client

    def _drop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(5)

    async def _disconnect(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        self._handles.clear()
        if connection is not None:
            connection.abort()

    def _fail(self, action: str, name: str, err: Exception) -> NoReturn:
        reason = str(err) or type(err).__name__
        if isinstance(err, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath):
            raise ObjectMissing(self.url, action, name, reason) from err
        if isinstance(err, asyncssh.SFTPFileAlreadyExists):
            raise ObjectExists(self.url, action, name, "the name is taken") from err
        if isinstance(err, asyncssh.SFTPNoSpaceOnFilesystem | asyncssh.SFTPQuotaExceeded):
            raise NoSpace(self.url, action, name, reason) from err
        if isinstance(err, asyncssh.HostKeyNotVerifiable):
            reason = "the server's host key is unknown or has changed; check it, then known_hosts"
            raise StoreError(self.url, action, name, reason) from err
        if isinstance(err, asyncssh.PermissionDenied | asyncssh.SFTPPermissionDenied):
            raise StoreError(self.url, action, name, f"no rights: {reason}") from err
        lost = isinstance(
            err, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection | asyncssh.DisconnectError
        )
        if lost or not isinstance(err, asyncssh.Error):
            self._drop()
            raise Unreachable(self.url, action, name, reason) from err
        raise StoreError(self.url, action, name, reason) from err

    # -- on the loop ------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    async def _look_at(self, path: str) -> int:
        return int((await self._sftp.stat(path)).size or 0)

    async def _make_folder(self, path: str) -> None:
        if path in self._folders:
            return
        await self._sftp.makedirs(path, asyncssh.SFTPAttrs(permissions=FOLDER_MODE), exist_ok=True)
        self._folders.add(path)

    async def _upload(self, data: bytes, *, keep: bool = True) -> str:
        """Path of a flushed temporary file that holds ``data``."""
        await self._make_folder(self._path(TEMPORARY_FOLDER))
        path = f"{self._path(TEMPORARY_FOLDER)}/{secrets.token_hex(16)}"
        try:
            await self._write(path, data)
        except BaseException:
            with contextlib.suppress(asyncssh.Error, OSError):
                await self._sftp.remove(path)
            raise
        if not keep:
            await self._sftp.remove(path)
        return path

    async def _write(self, path: str, data: bytes, *, needed: int | None = None) -> None:
        attributes = asyncssh.SFTPAttrs(permissions=FILE_MODE)
        try:
            async with await self._sftp.open(path, "xb", attributes) as file:
                await file.write(data)
                await self._fsync(file)
        except asyncssh.SFTPFailure as err:
            await self._explain(path, len(data) if needed is None else needed, err)

    async def _explain(self, path: str, needed: int, err: asyncssh.SFTPFailure) -> NoReturn:
        """Version 3 servers say only "failure": look whether the name is taken or the disk full."""
        with contextlib.suppress(asyncssh.SFTPOpUnsupported, asyncssh.SFTPNoSuchFile):
            space = await self._sftp.statvfs(self._root)
            if space.bavail * space.frsize < needed:
                raise NoSpace(self.url, "create", path, "no space left") from err
        if await self._sftp.exists(path):
            raise ObjectExists(self.url, "create", path, "the name is taken") from err
        raise err

    async def _fsync(self, file: asyncssh.SFTPClientFile) -> None:
        if self._durable is False:
            return
        try:
            await file.fsync()
            self._durable = True
        except asyncssh.SFTPOpUnsupported:
            logger.warning("%s cannot flush files: points there are not durable", self.url)
            self._durable = False

    async def _create(self, name: str, data: bytes) -> None:
        path = self._path(name)
        await self._make_folder(path.rsplit("/", 1)[0])
        temporary = await self._upload(data)
        try:
            try:
                await self._sftp.link(temporary, path)
            except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied):
                # The name is taken, or server or file system know no links: version 3 has one word for all.
                await self._reserve(temporary, path, data)
        finally:
            with contextlib.suppress(asyncssh.SFTPError):
                await self._sftp.remove(temporary)

    async def _reserve(self, temporary: str, path: str, data: bytes) -> None:
        """Name a whole file without links: an empty file, made exclusively, is replaced by it in one step."""
        await self._remove_abandoned(temporary, path)
        await self._write(path, b"", needed=len(data))
        try:
            await self._sftp.posix_rename(temporary, path)
        except asyncssh.SFTPOpUnsupported:
            async with await self._sftp.open(path, "r+b") as file:
                await file.write(data)
                await self._fsync(file)

    async def _remove_abandoned(self, temporary: str, path: str) -> None:
        """Free a name whose reservation was left by a process that died."""
        try:
            left, ours = await self._sftp.stat(path), await self._sftp.stat(temporary)
        except asyncssh.SFTPNoSuchFile:
            return
        # Both times are the server's, so no clock of ours counts.
        if left.size or (ours.mtime or 0) - (left.mtime or 0) < ABANDONED_SECONDS:
            return
        grave = f"{temporary}-left"
        await self._sftp.rename(path, grave)  # of several that find it, one moves it
        moved = await self._sftp.stat(grave)
        await self._sftp.remove(grave)
        if moved.mtime != left.mtime:
            raise asyncssh.SFTPFileAlreadyExists("the name was reserved this moment")

    async def _write_over(self, name: str, data: bytes) -> None:
        async with await self._sftp.open(self._path(name), "wb") as file:
            await file.write(data)

    async def _flush(self, name: str) -> None:
        if self._durable is False:
            return
        async with await self._sftp.open(self._path(name), "r+b") as file:
            await self._fsync(file)

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        handle = self._handles.get(name)
        if handle is None:
            handle = await self._sftp.open(self._path(name), "rb", encoding=None)
            self._handles[name] = handle
            while len(self._handles) > HANDLES_KEPT:
                _, old = self._handles.popitem(last=False)
                await old.close()
        self._handles.move_to_end(name)
        # Opened without an encoding, a file gives bytes; asyncssh's types know text only.
        return cast(bytes, await handle.read(length, offset))

    async def _remove(self, name: str) -> None:
        handle = self._handles.pop(name, None)
        if handle is not None:
            await handle.close()
        await self._sftp.remove(self._path(name))

    async def _sweep(self) -> int:
        folder = self._path(TEMPORARY_FOLDER)
        ages: dict[str, int] = {}
        with contextlib.suppress(asyncssh.SFTPNoSuchFile):
            async for entry in self._sftp.scandir(folder):
                if entry.attrs.type == asyncssh.FILEXFER_TYPE_REGULAR:
                    ages[f"{folder}/{_text(entry.filename)}"] = entry.attrs.mtime or 0
        if not ages:
            return 0
        # What time it is there: a clock that is ahead here must not take away what others just upload.
        clock = await self._upload(b"clock")
        now = (await self._sftp.stat(clock)).mtime or 0
        await self._sftp.remove(clock)
        old = [path for path, mtime in ages.items() if now - mtime > STALE_TEMPORARY_SECONDS]
        for path in old:
            await self._sftp.remove(path)
        return len(old)

    async def _walk(self, prefix: str) -> Sequence[ObjectInfo]:
        found: list[ObjectInfo] = []
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                entries = await self._sftp.readdir(self._path(folder))
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                continue
            for entry in entries:
                last = _text(entry.filename)
                if last in (".", ".."):
                    continue
                name = f"{folder}/{last}"
                if entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
                    folders.append(name)
                elif entry.attrs.size:
                    found.append(ObjectInfo(name, int(entry.attrs.size)))
        return found


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode()
