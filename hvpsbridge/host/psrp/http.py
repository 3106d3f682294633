"""HTTP requests and replies on a connection that pypsrp opened and authenticated.

The connection is that of requests, taken out of its pool, so TLS and authentication stay as they were. Only
sending and receiving are done here, because ``http.client`` parses every header with the e-mail package and
requests copies the body.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
# Enough for short replies; grows to the size of replies with blocks, and some more.
_FIRST_BUFFER = 16 * 1024
_SPARE = 1.25
# Offset of a reply in the buffer. malloc returns large buffers at 16 bytes into a page. On some processors
# the kernel copies from a socket to there four times more slowly, because ``rep movsb`` takes source and
# destination for overlapping when their offsets within a page are that close (docs/performance.md).
_START = 64
# Eight times the envelope that hvps asks for (``client.ENVELOPE_BYTES``); encryption and proxies add little.
_LONGEST_BODY = 4 * 1024 * 1024
# Of the line before a chunk, and of the lines after the last one.
_LONGEST_LINE = 1024
# A body must come at this rate after the timeout of a reply; a slower link is of no use.
_SLOWEST_BYTES_PER_SECOND = 8 * 1024
# What an envelope needs at that rate. Nothing interrupts a reply, so it must end well within the time that an
# undo has.
_LONGEST_SECONDS = 64.0
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,9}")
_STATUS = re.compile(rb"HTTP/1\.[0-9]+ ([0-9]{3})( .*)?", re.DOTALL)


class HttpBroken(OSError):
    """The peer did not send an HTTP reply, or the connection ended within one."""


class HttpEnded(HttpBroken, ConnectionResetError):
    """The connection ended instead of a reply."""


class Body:
    """The body of a reply, in the buffer it was received into.

    Attributes:
        buffer: the buffer; valid as long as the body is, and must not be changed.
        start: offset of the first byte.
        end: offset after the last byte.
    """

    __slots__ = ("buffer", "end", "start")

    def __init__(self, buffer: bytes | bytearray, start: int = 0, end: int | None = None) -> None:
        self.buffer = buffer
        self.start = start
        self.end = len(buffer) if end is None else end

    def __len__(self) -> int:
        return self.end - self.start

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self.buffer)[self.start : self.end])

    def __contains__(self, wanted: bytes) -> bool:
        return self.buffer.find(wanted, self.start, self.end) >= 0


@dataclass(slots=True)
class HttpReply:
    """A whole reply.

    Attributes:
        status: HTTP status code.
        headers: by name in lower case; several of one name are joined by commas.
        body: its content, in the connection's own buffer: valid until the next reply is received. Allocating
            half a megabyte per reply costs more than decoding it.
        body_bytes: length of the body as received, before any message encryption is removed.
        keeps_alive: whether the connection may carry another request.
    """

    status: int
    headers: dict[bytes, bytes]
    body: Body
    body_bytes: int
    keeps_alive: bool


class HttpConnection:
    """Sends requests and receives replies on a connected socket, one request at a time.

    Attributes:
        waiting: whether a request was sent whose reply has not come.
    """

    def __init__(self, sock: socket.socket, read_timeout_seconds: float) -> None:
        self._socket = sock
        self._read_timeout = read_timeout_seconds
        self._buffer = bytearray(_FIRST_BUFFER)
        self._sent_at = 0.0
        self._timeout = -1.0
        self._deadline = 0.0
        self.waiting = False

    def send(self, head: bytes, body: bytes) -> None:
        """Send one request.

        Raises:
            OSError: the connection is gone.
        """
        self._set_timeout(self._read_timeout)
        self._socket.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._sent_at = time.monotonic()
        self.waiting = True

    def receive(self, timeout_seconds: float) -> HttpReply | None:
        """The reply; None if none has started within the time, and then it is still expected.

        Raises:
            HttpBroken: the reply is not HTTP, or is incomplete.
            OSError: the connection is gone, or the reply is overdue.
        """
        self._set_timeout(max(timeout_seconds, 0.001))
        try:
            count = self._socket.recv_into(memoryview(self._buffer)[_START:])
        except TimeoutError:
            if time.monotonic() - self._sent_at > self._read_timeout:
                raise
            return None
        self._set_timeout(self._read_timeout)
        self._deadline = time.monotonic() + self._read_timeout
        reply = self._read(count)
        self.waiting = False
        return reply

    def _set_timeout(self, seconds: float) -> None:
        # Avoids up to three system calls per reply.
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def _read(self, count: int) -> HttpReply:
        buffer, at = self._buffer, _START + count
        while (head_end := buffer.find(_HEAD_END, _START, at)) < 0:
            if not count:
                raise HttpEnded("the connection ended before a reply")
            if at == len(buffer):
                raise HttpBroken("the headers of the reply do not end")
            count = self._receive_into(memoryview(buffer)[at:])
            at += count
        status, headers = _parse_head(bytes(buffer[_START:head_end]))
        start = head_end + len(_HEAD_END)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HttpBroken("the reply is compressed, although nothing but identity was accepted")
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            return _reply(status, headers, Body(self._chunked(buffer[start:at])))
        stated = headers.get(b"content-length", b"")
        if not _LENGTH.fullmatch(stated):
            raise HttpBroken("the reply has no usable length")
        length = int(stated)
        if not at - start <= length <= _LONGEST_BODY:
            raise HttpBroken(f"the reply has an unusable length: {length} bytes")
        end = start + length
        if len(buffer) < end:
            self._buffer = bytearray(int(end * _SPARE))
            self._buffer[:at] = memoryview(buffer)[:at]
        view = memoryview(self._buffer)
        self._deadline += min(length / _SLOWEST_BYTES_PER_SECOND, _LONGEST_SECONDS)
        while at < end:
            count = self._receive_into(view[at:end])
            if not count:
                raise HttpBroken(f"the connection ended {end - at} bytes before the end of a reply")
            at += count
        return _reply(status, headers, Body(self._buffer, start, end))

    def _chunked(self, data: bytearray) -> bytearray:
        """A body in chunks, which a proxy may make of it."""
        body = bytearray()
        self._deadline += _LONGEST_SECONDS
        while True:
            while (line := data.find(b"\r\n", 0, _LONGEST_LINE)) < 0:
                if len(data) >= _LONGEST_LINE:
                    raise HttpBroken("a chunk has no length")
                self._more(data)
            stated = _CHUNK_LINE.fullmatch(bytes(data[:line]))
            if stated is None:
                raise HttpBroken("a chunk has no length")
            length = int(stated[1], 16)
            if len(body) + length > _LONGEST_BODY:
                raise HttpBroken("the chunked reply is too long")
            start, end = line + 2, line + 2 + length
            while len(data) < end + 2:
                self._more(data)
            body += data[start:end]
            if data[end : end + 2] != b"\r\n" or (not length and len(data) > end + 2):
                # HTTP allows trailers; no WSMan service sends them.
                raise HttpBroken("a chunk does not end")
            del data[: end + 2]
            if not length:
                return body

    def _more(self, data: bytearray) -> None:
        count = self._receive_into(memoryview(self._buffer))
        if not count:
            raise HttpBroken("the connection ended within a reply")
        data += memoryview(self._buffer)[:count]

    def _receive_into(self, view: memoryview) -> int:
        """More bytes of a reply that has begun.

        Raises:
            HttpBroken: they come so slowly that the reply would not end.
        """
        if time.monotonic() > self._deadline:
            raise HttpBroken("the reply comes too slowly")
        return self._socket.recv_into(view)


def _reply(status: int, headers: dict[bytes, bytes], body: Body) -> HttpReply:
    keeps_alive = headers.get(b"connection", b"").lower() != b"close"
    return HttpReply(status, headers, body, body.end - body.start, keeps_alive)


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise HttpBroken("not an HTTP reply")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            headers[name] = headers[name] + b", " + value if name in headers else value
    return int(status[1]), headers
