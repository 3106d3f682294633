"""One HTTP exchange in halves, on a connection that pypsrp opened and authenticated.

Rule: bytes only. The connection is requests' own, taken out of its pool, so TLS, its checks and the
connection's authentication are what they were; only the sending and reading are done here, because
``http.client`` parses every reply's header through the e-mail package and requests copies its body.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
# Enough for the answers to what is sent; where blocks come, it grows to what they take and some more.
_FIRST_BUFFER = 16 * 1024
_SPARE = 1.25
# Where a reply starts in the buffer. What malloc gives for so much starts 16 bytes into a page, and to there
# the kernel copies out of a socket four times as slowly on processors whose ``rep movsb`` takes source and
# destination for one when they are that near, page by page (docs/performance.md).
_START = 64
# A reply is bounded by the envelope; this is only against nonsense.
_LONGEST_BODY = 256 * 1024 * 1024


class HttpBroken(OSError):
    """The peer's bytes are no HTTP reply, or the connection ended within one."""


class Body:
    """The body of a reply, in the buffer that it was received into.

    Attributes:
        buffer: what it stands in, valid as long as the body is; not to be changed.
        start: where it begins there.
        end: where it ends.
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


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status, headers in lower case, and the whole body.

    The body is in the exchange's own buffer: it is valid until the next reply is received. A fresh half
    megabyte per reply costs more than decoding it.
    """

    status: int
    headers: dict[bytes, bytes]
    body: Body

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may carry another exchange."""
        return self.headers.get(b"connection", b"").lower() != b"close"


class HalfExchange:
    """Requests out and replies in on one connected socket, one exchange under way at most.

    Attributes:
        waiting: a request is out whose reply has not come.
    """

    def __init__(self, sock: socket.socket, read_timeout_seconds: float) -> None:
        self._socket = sock
        self._read_timeout = read_timeout_seconds
        self._buffer = bytearray(_FIRST_BUFFER)
        self._sent_at = 0.0
        self._timeout = -1.0
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
        """The reply, or None when none has started within the time; the request stays out then.

        Raises:
            HttpBroken: the reply is none, or stops half-way.
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
        reply = self._read(count)
        self.waiting = False
        return reply

    def _set_timeout(self, seconds: float) -> None:
        # A system call each, three times a reply.
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def _read(self, count: int) -> HttpReply:
        buffer, at = self._buffer, _START + count
        while (head_end := buffer.find(_HEAD_END, _START, at)) < 0:
            if not count:
                raise HttpBroken("the connection ended before a reply")
            if at == len(buffer):
                raise HttpBroken("a reply without an end to its headers")
            count = self._socket.recv_into(memoryview(buffer)[at:])
            at += count
        status, headers = _parse_head(bytes(buffer[_START:head_end]))
        start = head_end + len(_HEAD_END)
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            return HttpReply(status, headers, Body(self._chunked(buffer[start:at])))
        try:
            length = int(headers.get(b"content-length", b""))
        except ValueError as err:
            raise HttpBroken("a reply without a length") from err
        if not at - start <= length <= _LONGEST_BODY:
            raise HttpBroken(f"a reply of {length} bytes")
        end = start + length
        if len(buffer) < end:
            self._buffer = bytearray(int(end * _SPARE))
            self._buffer[:at] = memoryview(buffer)[:at]
        view = memoryview(self._buffer)
        while at < end:
            count = self._socket.recv_into(view[at:end])
            if not count:
                raise HttpBroken(f"the connection ended {end - at} bytes before the end of a reply")
            at += count
        return HttpReply(status, headers, Body(self._buffer, start, end))

    def _chunked(self, data: bytearray) -> bytearray:
        """A body in chunks, as a proxy may make of it."""
        body = bytearray()
        while True:
            while (line := data.find(b"\r\n")) < 0:
                self._more(data)
            try:
                length = int(data[:line].split(b";")[0], 16)
            except ValueError as err:
                raise HttpBroken("a chunk without a length") from err
            if len(body) + length > _LONGEST_BODY:
                raise HttpBroken("a reply without an end")
            start, end = line + 2, line + 2 + length
            while len(data) < end + 2:
                self._more(data)
            body += data[start:end]
            if data[end : end + 2] != b"\r\n" or (not length and len(data) > end + 2):
                # Trailers are allowed by HTTP and sent by nobody who speaks WSMan.
                raise HttpBroken("a chunk without an end")
            del data[: end + 2]
            if not length:
                return body

    def _more(self, data: bytearray) -> None:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise HttpBroken("the connection ended within a reply")
        data += memoryview(self._buffer)[:count]


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise HttpBroken("no HTTP reply")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers
