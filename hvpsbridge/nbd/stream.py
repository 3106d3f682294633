"""The socket of one connection: whole messages in, whole messages out, with limits on time."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading

# A client must send its options in this time, each.
PATIENCE_SECONDS = 30.0
# A client that takes longer for the rest of a message, or reads nothing for so long, is gone.
REST_SECONDS = 300.0


class Stream:
    """A connected socket. One thread receives; any thread sends.

    A TLS connection must not be read and written at the same time by two threads (OpenSSL, SSL_read), so it
    does not block, and a lock is held while bytes are moved, not while one side waits for bytes to come.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._tls: ssl.SSLSocket | None = None
        self._sending = threading.Lock()
        self._moving = threading.Lock()
        connected.settimeout(PATIENCE_SECONDS)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on with TLS.

        Raises:
            OSError: the client has no certificate of this run, or does not speak TLS.
        """
        # The socket is known before the client has to answer, so that it can be shut down meanwhile.
        self._tls = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = self._tls
        self._tls.do_handshake()
        self._tls.setblocking(False)

    def receive(self, length: int, *, idle: bool = False) -> bytes:
        """Exactly ``length`` bytes.

        Args:
            length: how many.
            idle: wait for the first one without limit.

        Raises:
            EOFError: the client has closed the connection.
            OSError: it is lost, or the client is too slow.
        """
        data = bytearray(length)
        view, done = memoryview(data), 0
        seconds = None if idle else PATIENCE_SECONDS
        while done < length:
            count = self._receive_some(view[done:], seconds)
            if not count:
                raise EOFError
            done += count
            seconds = REST_SECONDS if idle else seconds
        return bytes(data)

    def _receive_some(self, view: memoryview, seconds: float | None) -> int:
        if self._tls is None:
            self._wait(seconds, select.POLLIN)
            return self._socket.recv_into(view)
        while True:
            with self._moving, contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return self._tls.recv_into(view)
            self._wait(seconds, select.POLLIN)

    def send(self, *pieces: bytes) -> None:
        """Send pieces one after another; nothing of other threads comes between them.

        Raises:
            OSError: the connection is lost.
        """
        with self._sending:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[self._send_some(view) :]

    def _send_some(self, view: memoryview) -> int:
        if self._tls is None:
            self._wait(REST_SECONDS, select.POLLOUT)
            return self._socket.send(view)
        while True:
            with self._moving, contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return self._tls.send(view)
            self._wait(REST_SECONDS, select.POLLOUT)

    def _wait(self, seconds: float | None, event: int) -> None:
        waiting = select.poll()
        try:
            waiting.register(self._socket, event)
        except ValueError as err:
            raise ConnectionAbortedError("the connection was closed here") from err
        if not waiting.poll(None if seconds is None else seconds * 1000):
            raise TimeoutError(f"the client did nothing for {seconds:.0f} s")

    def end(self) -> None:
        """Wake all threads that wait for the client; the connection is over."""
        with contextlib.suppress(OSError):
            # SSLSocket.shutdown() drops its TLS state, which another thread may be using.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, also while another thread waits for it."""
        self.end()
        self._socket.close()
