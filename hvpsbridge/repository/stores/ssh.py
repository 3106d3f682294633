"""A connection to the SFTP service of an SSH server. Besides it only ``sftp*.py`` use asyncssh.

It logs in when it is first used, and again when the connection is lost. The event loop of asyncssh runs in
its own thread. Errors are those of stores.

    sftp://user@host:22/absolute/path?identity=/path/to/key&known_hosts=/path/to/file

A path that starts with ``/~/`` is in the user's home directory. By default, keys, agent and known hosts are
those of OpenSSH. An unknown or changed host key is always an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

import asyncssh

from hvpsbridge.errors import ConfigurationError, NoSpace, ObjectExists, ObjectMissing, StoreError
from hvpsbridge.repository.stores.retry import Unreachable, persist
from hvpsbridge.repository.stores.urls import EXAMPLES, options_of

T = TypeVar("T")

CONNECT_SECONDS = 20.0
# One operation transfers at most a pack; asyncssh sends many requests at once.
OPERATION_SECONDS = 180.0
KEEPALIVE_SECONDS = 15
# Pack files kept open for reading, because opening one costs a round trip.
HANDLES_KEPT = 16
_OPTIONS = frozenset({"identity", "known_hosts"})


class SshConnection:
    """Runs coroutines that use SFTP. May be used from several threads.

    Attributes:
        url: of the store, as shown to people.
        path: the directory on the server; relative if it is in the user's home directory.
        place: the account and the directory. Accounts may see different files under one path.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = {name: _user_path(file) for name, file in options_of(parts, _OPTIONS).items()}
        where = f"sftp://{parts.hostname or ''}"
        path = unquote(parts.path)
        if not parts.hostname or not path.strip("/"):
            raise ConfigurationError(where, f"write {EXAMPLES['sftp']}")
        if (path.startswith("/~") and not path.startswith("/~/")) or path.rstrip("/") == "/~":
            raise ConfigurationError(where, "after ~ name a directory of your own: sftp://user@host/~/path")
        for option, file in options.items():
            if not Path(file).is_file() or not os.access(file, os.R_OK):
                raise ConfigurationError(where, f"{option}={file} cannot be read")
        if "known_hosts" in options:
            _check_known_hosts(where, options["known_hosts"])
        self.url = url
        self.path = path[3:].strip("/") if path.startswith("/~/") else path.rstrip("/")
        path = self.path if self.path.startswith("/") else f"/~/{self.path}"
        self.place = f"sftp://{parts.username or ''}@{parts.hostname}:{parts.port or 22}{path}"
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

    # -- for callers ------------------------------------------------------------------------------------

    def persist(self, action: str, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work``, retried while the server cannot be reached.

        Args:
            action: what is done, for errors.
            name: what it is done to, for errors.
            work: makes a coroutine for each attempt.

        Raises:
            StoreError: as :meth:`once`.
        """
        return persist(lambda: self.once(action, name, work))

    def once(self, action: str, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work``, tried once; connects before if necessary.

        Raises:
            ConfigurationError: the identity is not a key.
            NoSpace: the server's disk or the quota is full.
            ObjectExists: the name is taken.
            ObjectMissing: there is no such file.
            Unreachable: the server does not answer, or the connection was lost.
            StoreError: the server refuses the login, or its host key is not accepted.
        """
        future = asyncio.run_coroutine_threadsafe(self._run(work), self._loop)
        try:
            return future.result(OPERATION_SECONDS)
        except TimeoutError as err:
            future.cancel()
            self._drop()
            raise Unreachable(self.url, action, name, f"no answer in {OPERATION_SECONDS:.0f} s") from err
        except asyncssh.KeyImportError as err:
            agent = "; use an agent for a key with a passphrase" if "assphrase" in str(err) else ""
            what = f"the identity cannot be used: {err}{agent}"
            raise ConfigurationError(f"sftp://{self._settings['host']}", what) from err
        except (asyncssh.Error, OSError, ValueError) as err:
            self._fail(action, name, err)

    def close(self) -> None:
        """Disconnect. Never raises."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- for their coroutines ---------------------------------------------------------------------------

    @property
    def sftp(self) -> asyncssh.SFTPClient:
        """The SFTP client of the current connection."""
        if self._client is None:
            raise asyncssh.SFTPConnectionLost("the connection is closed")
        return self._client

    async def reading(self, path: str) -> asyncssh.SFTPClientFile:
        """The file, open for reading bytes. It is kept open; the caller must not close it."""
        handle = self._handles.get(path)
        if handle is None:
            handle = await self.sftp.open(path, "rb", encoding=None)
            self._handles[path] = handle
            while len(self._handles) > HANDLES_KEPT:
                _, old = self._handles.popitem(last=False)
                await old.close()
        self._handles.move_to_end(path)
        return handle

    def has_open(self, path: str) -> bool:
        """Whether :meth:`reading` has kept the file open."""
        return path in self._handles

    async def stop_reading(self, path: str) -> None:
        """Close the file if :meth:`reading` has kept it open."""
        handle = self._handles.pop(path, None)
        if handle is not None:
            await handle.close()

    # -- within -----------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with self._connecting:
            if self._client is None:
                self._connection = await asyncssh.connect(**self._settings)
                self._client = await self._connection.start_sftp_client()
        return await work()

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
            reason = "the host key of the server is unknown or has changed; check it, then update known_hosts"
            raise StoreError(self.url, action, name, reason) from err
        if isinstance(err, asyncssh.PermissionDenied | asyncssh.SFTPPermissionDenied):
            raise StoreError(self.url, action, name, f"permission denied: {reason}") from err
        lost = isinstance(
            err, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection | asyncssh.DisconnectError
        )
        if lost or not isinstance(err, asyncssh.Error):
            self._drop()
            raise Unreachable(self.url, action, name, reason) from err
        raise StoreError(self.url, action, name, reason) from err


def _user_path(file: str) -> str:
    try:
        return str(Path(file).expanduser())
    except RuntimeError:  # no such user, or no home directory
        return file


def _check_known_hosts(where: str, file: str) -> None:
    try:
        asyncssh.read_known_hosts(file)
    except (asyncssh.Error, OSError, ValueError) as err:
        what = f"known_hosts={file} is not a list of host keys; make one with ssh-keyscan, and check it"
        raise ConfigurationError(where, what) from err
