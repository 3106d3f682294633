"""Listens for clients, and serves each on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.handshake import Handshake, Refused
from hvpsbridge.nbd.protocol import MAX_BLOCK_BYTES
from hvpsbridge.nbd.room import Room
from hvpsbridge.nbd.stream import Stream
from hvpsbridge.nbd.transmission import Transmission

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
# A client that has not chosen an export by then would keep a place from others, with a byte now and then.
HANDSHAKE_SECONDS = 60.0
# Of all connections: requests that are done at the same time, those under way, and bytes of their data. A
# client that reads no answers keeps its part (a third of the bytes) until its connection ends.
WORKERS = 8
MAX_REQUESTS = 128
MAX_UNDER_WAY_BYTES = 3 * MAX_BLOCK_BYTES


def unix_socket(path: Path) -> socket.socket:
    """A listening Unix socket that only this account can use (mode 0600).

    Raises:
        ConfigurationError: something has the name, or it cannot be made.
    """
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
        made.listen()
    except OSError as err:
        made.close()
        text = "exists already; use another path" if path.exists() else err.strerror or str(err)
        raise ConfigurationError(str(path), text) from err
    finally:
        os.umask(before)
    return made


def tcp_socket(address: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family)
    except OSError as err:
        raise ConfigurationError(f"{address}:{port}", err.strerror or str(err)) from err


class Server:
    """Serves exports on a listening socket, until it is closed.

    Args:
        listening: owned by the server from now on.
        exports: what is served.
        tls: for connections that must begin with TLS and a client certificate; None without.
        listed: whether clients may list the names of exports.
    """

    def __init__(
        self,
        listening: socket.socket,
        exports: Mapping[str, Export],
        *,
        tls: ssl.SSLContext | None = None,
        listed: bool = True,
    ) -> None:
        self._listening = listening
        self._exports = exports
        self._tls = tls
        self._listed = listed
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="nbd")
        self._room = Room(MAX_REQUESTS, MAX_UNDER_WAY_BYTES)
        self._streams: set[Stream] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._accepting = threading.Thread(target=self._accept, name="nbd-accept", daemon=True)
        self._accepting.start()

    @property
    def address(self) -> object:
        """Where it listens: a path, or address and port."""
        return self._listening.getsockname()

    def close(self) -> None:
        """Close all connections and end all threads."""
        with self._lock:
            self._closed = True
            streams, threads = set(self._streams), set(self._threads)
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):  # not every kind of socket can
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for stream in streams:
            stream.end()
        for thread in (self._accepting, *threads):
            thread.join()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError as err:
                if self._closed:
                    return
                logger.warning("a connection could not be accepted: %s", err)
                continue
            with self._lock:
                refused = self._closed or len(self._streams) >= MAX_CONNECTIONS
                if not refused:
                    stream = Stream(connected)
                    thread = threading.Thread(
                        target=self._serve, args=(stream,), name="nbd-client", daemon=True
                    )
                    self._streams.add(stream)
                    self._threads.add(thread)
            if refused:
                connected.close()
            else:
                thread.start()

    def _serve(self, stream: Stream) -> None:
        try:
            handshake = Handshake(stream, self._exports, tls=self._tls, listed=self._listed)
            limit = threading.Timer(HANDSHAKE_SECONDS, stream.end)
            limit.daemon = True
            limit.start()
            try:
                chosen = handshake.run()
            finally:
                limit.cancel()
            if chosen is not None:
                Transmission(stream, chosen, self._pool, self._room).run()
        except EOFError:
            logger.debug("a client went away")
        except (Refused, OSError, UnicodeDecodeError) as err:
            logger.info("a client was disconnected: %s", err)
        except Exception:
            logger.exception("a connection failed")
        finally:
            stream.close()
            with self._lock:
                self._streams.discard(stream)
                self._threads.discard(threading.current_thread())
