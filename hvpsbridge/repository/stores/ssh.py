"""A connection to the SFTP of an SSH server; with the store on it (``sftp.py``) the one door to asyncssh.

It logs on when first used, and again when the connection is lost. asyncssh's loop runs in a thread of its
own, so callers need none. What goes wrong is told by the errors of stores.

    sftp://user@host:22/absolute/path?identity=/path/to/key&known_hosts=/path/to/file

A path that starts with ``/~/`` is in the user's home. Without options keys, agent and known hosts are those
of OpenSSH. A host key that is unknown or has changed is an error, always.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncssh

from hvpsbridge.errors import ConfigurationError, NoSpace, ObjectExists, ObjectMissing, StoreError
from hvpsbridge.repository.stores.retry import Unreachable, persist

T = TypeVar("T")

CONNECT_SECONDS = 20.0
# One operation moves at most a pack; asyncssh sends many requests at once.
OPERATION_SECONDS = 180.0
KEEPALIVE_SECONDS = 15
# Pack files kept open for reading; opening one costs a round trip.
HANDLES_KEPT = 16
_OPTIONS = frozenset({"identity", "known_hosts"})


class SshConnection:
    """Runs coroutines that use SFTP. May be used from several threads.

    Attributes:
        url: where it leads, for people.
        path: the directory there; relative to the user's home when the URL says so.

    Raises:
        ConfigurationError: the URL makes no sense.
    """

    def __init__(self, url: str) -> None:
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
        self.path = path[3:].rstrip("/") if path.startswith("/~/") else path.rstrip("/")
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
        """What ``work`` gives; tried again while the server cannot be reached.

        Args:
            action: what is done, for errors.
            name: what it is done to, for errors.
            work: makes the coroutine, once for each try.

        Raises:
            StoreError: as of :meth:`once`.
        """
        return persist(lambda: self.once(action, name, work))

    def once(self, action: str, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What ``work`` gives, tried once, connected before if need be.

        Raises:
            ConfigurationError: the identity is no key.
            NoSpace: the server's disk or the quota is full.
            ObjectExists: the name is taken.
            ObjectMissing: there is nothing of that name.
            Unreachable: nobody answers, or the connection was lost.
            StoreError: the server refuses us, or we its key.
        """
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

    def close(self) -> None:
        """Disconnect for good. Never raises."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- for the coroutines they give -------------------------------------------------------------------

    @property
    def sftp(self) -> asyncssh.SFTPClient:
        """The server's files, while there is a connection."""
        if self._client is None:
            raise asyncssh.SFTPConnectionLost("the connection is gone")
        return self._client

    async def reading(self, path: str) -> asyncssh.SFTPClientFile:
        """The file, open for reading bytes. It stays open, so it is not the caller's to close."""
        handle = self._handles.get(path)
        if handle is None:
            handle = await self.sftp.open(path, "rb", encoding=None)
            self._handles[path] = handle
            while len(self._handles) > HANDLES_KEPT:
                _, old = self._handles.popitem(last=False)
                await old.close()
        self._handles.move_to_end(path)
        return handle

    async def stop_reading(self, path: str) -> None:
        """Close the file where :meth:`reading` has kept it open."""
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
