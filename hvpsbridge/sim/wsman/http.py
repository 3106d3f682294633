"""One HTTP/1.1 connection. As with WinRM, bodies have a length; chunks are not accepted."""

from __future__ import annotations

import logging
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from itertools import islice

from hvpsbridge.sim.wsman.auth import Authenticator, Denied, Unreadable
from hvpsbridge.sim.wsman.connection_faults import ConnectionFaults, Cut, Status, action_of, send_faulty
from hvpsbridge.sim.wsman.envelope import Parts
from hvpsbridge.sim.wsman.exchange import Caller, Reply
from hvpsbridge.sim.wsman.outbox import ClientGone
from hvpsbridge.sim.wsman.service import Service
from hvpsbridge.units import KIB, MIB

logger = logging.getLogger(__name__)

HEAD_LIMIT_BYTES = 64 * KIB
# Far above any MaxEnvelopeSizekb in use; the service checks the configured limit.
BODY_LIMIT_BYTES = 64 * MIB
# Idle connections are closed after the default time of http.sys.
IDLE_SECONDS = 120.0
PATH = "/wsman"
_READ_BYTES = 64 * KIB
# Linux takes up to 1024 buffers per call (IOV_MAX).
_PARTS_AT_ONCE = 512


class Closed(Exception):
    """The client closed the connection, or the connection must be closed."""


@dataclass(slots=True)
class _Message:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """Serves one accepted socket, in its own thread."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        service: Service,
        authenticator: Authenticator,
        faults: ConnectionFaults,
    ) -> None:
        self._socket = sock
        self._address = address
        self._service = service
        self._authenticator = authenticator
        self._faults = faults
        self._buffer = bytearray()

    def serve(self) -> None:
        """Answer requests until the connection ends. Errors of a client are not raised."""
        try:
            self._socket.settimeout(IDLE_SECONDS)
            while True:
                self._answer(self._read())
        except (Closed, Cut, OSError) as err:
            logger.debug("connection from %s ended: %s", self._address, err)
        finally:
            self._socket.close()

    # -- reading --------------------------------------------------------------------------------------

    def _read(self) -> _Message:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT_BYTES:
                raise Closed("request head too long")
            self._fill()
        head = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        request_line, *lines = head.split("\r\n")
        method, path, *_ = (*request_line.split(" "), "", "")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers.get("content-length") or 0)
        if not 0 <= length <= BODY_LIMIT_BYTES or "transfer-encoding" in headers:
            self._write(HTTPStatus.LENGTH_REQUIRED, (), "", b"")
            raise Closed("request without a usable length")
        if headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._buffer) < length:
            self._fill()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return _Message(method, path, headers, body)

    def _fill(self) -> None:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise Closed("closed by the client")
        self._buffer += data

    def _alive(self) -> bool:
        """Whether the client still has the connection open. It sends nothing while it waits."""
        try:
            self._socket.setblocking(False)
            # A TLS socket cannot peek. A read without data raises.
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as err:
            return _would_block(err)
        finally:
            self._socket.settimeout(IDLE_SECONDS)
        self._buffer += data
        return bool(data)

    # -- answering ------------------------------------------------------------------------------------

    def _answer(self, message: _Message) -> None:
        if message.path.partition("?")[0].rstrip("/") != PATH:
            self._write(HTTPStatus.NOT_FOUND, (), "", b"")
            return
        if message.method != "POST":
            self._write(HTTPStatus.METHOD_NOT_ALLOWED, (("Allow", "POST"),), "", b"")
            return
        result = self._authenticator.check(message.headers)
        if isinstance(result, Denied):
            self._challenge(result)
            return
        user = result.user
        if not message.body:
            # pypsrp establishes a security context with an empty request.
            self._write(HTTPStatus.OK, result.headers, "", b"")
            return
        try:
            envelope = self._authenticator.open(message.headers.get("content-type", ""), message.body)
        except Unreadable as err:
            logger.debug("refused: %s", err)
            self._write(HTTPStatus.UNAUTHORIZED, self._challenges(HTTPStatus.UNAUTHORIZED), "", b"")
            return
        action = action_of(envelope)
        reply = self._faults.before(action, envelope, user)
        if isinstance(reply, Status):
            self._write(HTTPStatus(reply.code), self._challenges(reply.code), "", b"")
            return
        if reply is None:
            try:
                reply = self._service.handle(envelope, Caller(user, self._address, self._alive))
            except ClientGone as err:
                raise Closed("the client disconnected while it waited") from err
        self._send(reply, action, len(message.body), result.headers)

    def _challenge(self, denied: Denied) -> None:
        """Ask for a login. The connection stays only while a login is under way, as with http.sys."""
        under_way = any(challenge.startswith(("Negotiate ", "Kerberos ")) for challenge in denied.challenges)
        last = () if under_way else (("Connection", "close"),)
        self._write(HTTPStatus.UNAUTHORIZED, (*_challenge_headers(denied), *last), "", b"")
        if not under_way:
            raise Closed("not authenticated")

    def _challenges(self, status: int) -> tuple[tuple[str, str], ...]:
        denied = self._authenticator.check({}) if status == HTTPStatus.UNAUTHORIZED else None
        return _challenge_headers(denied) if isinstance(denied, Denied) else ()

    def _send(
        self, reply: Reply, action: str, received_bytes: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        content_type, body = self._authenticator.seal(reply.body)
        length = sum(map(len, body))
        data = (_head(HTTPStatus(reply.status), headers, content_type, length), *body)
        fault = self._faults.after(action, reply)
        if fault is not None:
            send_faulty(fault, b"".join(data), self._socket.sendall, self._alive)
        else:
            try:
                send_parts(self._socket, data)
            except OSError:
                if reply.undelivered is not None:
                    reply.undelivered()
                raise
        self._service.counters.answered(action, received_bytes, length)

    def _write(
        self, status: HTTPStatus, headers: tuple[tuple[str, str], ...], content_type: str, body: bytes
    ) -> None:
        self._socket.sendall(_head(status, headers, content_type, len(body)) + body)


def _head(status: HTTPStatus, headers: tuple[tuple[str, str], ...], content_type: str, length: int) -> bytes:
    lines = [
        # Without a reason, as http.sys sends it (docs/hyperv-facts.md#http-sys).
        f"HTTP/1.1 {status.value} ",
        "Server: Microsoft-HTTPAPI/2.0",
        *(f"{name}: {value}" for name, value in headers),
        f"Date: {formatdate(usegmt=True)}",
        *((f"Content-Type: {content_type}",) if content_type else ()),
        f"Content-Length: {length}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")


def send_parts(sock: socket.socket, parts: Parts) -> None:
    """Send all parts; a socket without TLS does not need them joined."""
    if isinstance(sock, ssl.SSLSocket):
        sock.sendall(b"".join(parts))
        return
    left = deque(memoryview(part) for part in parts if len(part))
    while left:
        sent = sock.sendmsg(list(islice(left, _PARTS_AT_ONCE)))
        while left and sent >= len(left[0]):
            sent -= len(left.popleft())
        if sent:
            left[0] = left[0][sent:]


def _challenge_headers(denied: Denied) -> tuple[tuple[str, str], ...]:
    return tuple(("WWW-Authenticate", challenge) for challenge in denied.challenges)


def _would_block(err: OSError) -> bool:
    return isinstance(err, ssl.SSLWantReadError | ssl.SSLWantWriteError)
