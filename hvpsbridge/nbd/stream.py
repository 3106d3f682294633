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
SEND_BUFFER_BYTES = 1024 * 1024
# Less than any system's limit (IOV_MAX).
_PIECES_AT_ONCE = 64
# Nothing can be moved without waiting.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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
        # Answers of some hundred KiB would wait for the client several times. The kernel may grant less.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connected.setblocking(False)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on with TLS.

        Raises:
            OSError: the client has no certificate of this run, or does not speak TLS.
        """
        # The socket is known before the client has to answer, so that it can be shut down meanwhile.
        self._tls = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = self._tls
        self._tls.settimeout(PATIENCE_SECONDS)
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
        while True:
            with contextlib.suppress(*_NOT_NOW):
                if self._tls is None:
                    return self._socket.recv_into(view)
                with self._moving:
                    return self._tls.recv_into(view)
            self._wait(seconds, select.POLLIN)

    def send(self, *pieces: bytes) -> None:
        """Send pieces one after another; nothing of other threads comes between them.

        Raises:
            OSError: the connection is lost.
        """
        views = [memoryview(piece) for piece in pieces if piece]
        with self._sending:
            while views:
                count = self._send_some(views)
                while views and count >= len(views[0]):
                    count -= len(views.pop(0))
                if count:
                    views[0] = views[0][count:]

    def _send_some(self, views: list[memoryview]) -> int:
        while True:
            with contextlib.suppress(*_NOT_NOW):
                if self._tls is None:
                    return self._socket.sendmsg(views[:_PIECES_AT_ONCE])
                with self._moving:
                    return self._tls.send(views[0])
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
