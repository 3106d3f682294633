"""pypsrp's own connection, borrowed: messages go out and come in on it without what requests does for each.

The connection is taken out of requests' pool after pypsrp used it, so that TLS, its checks and the
authentication that belongs to it are what they were. requests and ``http.client`` take two to four times as
long for an exchange as all else that pypsrp does for it (docs/performance.md).
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from pypsrp.exceptions import WinRMError
from pypsrp.wsman import WSMan

from hvpsbridge.host.psrp.http import Body, HalfExchange

UNAUTHORIZED = 401


class ConnectionUnavailable(Exception):
    """The connection that pypsrp talks over cannot be had; messages must go pypsrp's way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to one message.

    Attributes:
        status: of HTTP.
        soap: its content, valid until the next answer is received; empty when the host only asks who we are.
        body_bytes: how long the body was, sealing included.
        keeps_alive: whether the connection may carry another message.
    """

    status: int
    soap: Body
    body_bytes: int
    keeps_alive: bool


class RawConnection:
    """A connection out of requests' pool, with what an HTTP request on it needs. One exchange at a time.

    Attributes:
        answers: how many have come.
    """

    def __init__(self, wsman: WSMan, read_timeout_seconds: float) -> None:
        """Take the connection.

        Args:
            wsman: whose last message opened and authenticated it.
            read_timeout_seconds: how long no answer at all is waited for.

        Raises:
            ConnectionUnavailable: it is not there, or not where it used to be.
        """
        transport = wsman.transport
        session = transport.session
        try:
            assert session is not None
            headers = {"Content-Type": "application/soap+xml;charset=UTF-8", **session.headers}
            prepared = session.prepare_request(
                requests.Request("POST", transport.endpoint, data=None, headers=headers)
            )
            adapter: Any = session.get_adapter(transport.endpoint)
            pool = adapter.get_connection_with_tls_context(prepared, session.verify, cert=session.cert)
            self._connection = pool._get_conn(timeout=0)
            sock: socket.socket | None = self._connection.sock
            # Asked for before each message, and not there before urllib3 2.
            self._connection.is_connected  # noqa: B018
        except (AssertionError, AttributeError, TypeError) as err:
            raise ConnectionUnavailable(str(err)) from err
        if sock is None:
            raise ConnectionUnavailable("pypsrp's connection is not open any more")
        self.answers = 0
        self._exchange = HalfExchange(sock, read_timeout_seconds)
        self._encryption = transport.encryption
        where = urlsplit(transport.endpoint)
        lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [
            f"{name}: {_header_text(value)}"
            for name, value in prepared.headers.items()
            if name.lower() not in ("content-length", "content-type")
        ]
        self._head = "\r\n".join([*lines, ""]).encode("latin-1")
        self._plain_head = self._head + b"Content-Type: application/soap+xml;charset=UTF-8\r\n"

    @property
    def waiting(self) -> bool:
        """Whether a message is out whose answer has not come."""
        return self._exchange.waiting

    @property
    def connected(self) -> bool:
        """Whether the host has not hung up. Meant for between two exchanges: an answer looks the same."""
        return bool(self._connection.is_connected)

    def ask(self, text: bytes) -> None:
        """Send one message, sealed when the connection's messages are.

        Raises:
            OSError: the connection is gone.
        """
        if self._encryption is None:
            self._exchange.send(self._plain_head, text)
            return
        kind, payload = self._encryption.wrap_message(text)
        content_type = f'{kind};protocol="{self._encryption.protocol}";boundary="Encrypted Boundary"'
        self._exchange.send(self._head + f"Content-Type: {content_type}\r\n".encode(), payload)

    def answer(self, timeout_seconds: float) -> Answer | None:
        """The answer, or None when none has started within the time; the message stays out then.

        Raises:
            OSError: the connection is gone, the answer is overdue, or it is none.
            WinRMError: it cannot be opened.
        """
        reply = self._exchange.receive(timeout_seconds)
        if reply is None:
            return None
        self.answers += 1
        if reply.status == UNAUTHORIZED:
            soap = Body(b"")
        else:
            soap = self._opened(reply.headers.get(b"content-type", b""), reply.body)
        return Answer(reply.status, soap, len(reply.body), reply.keeps_alive)

    def _opened(self, content_type: bytes, body: Body) -> Body:
        if self._encryption is None or not content_type.startswith(b"multipart/"):
            return body
        content = bytes(body)
        sealed = _sealed_part(content)
        if sealed is not None:
            header, data, length = sealed
            plain: bytes = self._encryption.context.unwrap_winrm(header, data)
            if len(plain) != length:
                raise WinRMError(f"a sealed reply of {len(plain)} bytes that says {length}")
            return Body(plain)
        boundary = re.search(rb"boundary=[\"'](.*)[\"']", content_type)
        if boundary is None:
            raise WinRMError("a sealed reply without a boundary")
        return Body(self._encryption.unwrap_message(content, boundary[1].decode()))

    def close(self) -> None:
        """Close the connection: an answer may still be under way on it. Never raises."""
        with suppress(Exception):
            self._connection.close()


_SEAL_START = b"\tContent-Type: application/octet-stream\r\n"
_SEAL_END = b"--Encrypted Boundary--\r\n"
_SEAL_LENGTH = re.compile(rb"Length=(\d+)\r\n")
_SEAL_HEAD_BYTES = 1024


def _sealed_part(body: bytes) -> tuple[bytes, bytes, int] | None:
    """Signature, sealed bytes and plain length of a message in one part, as WinRM sends it.

    None for any other layout. pypsrp's own way takes the message apart with regular expressions over all
    of its bytes, several times.
    """
    start = body.find(_SEAL_START, 0, _SEAL_HEAD_BYTES)
    length = _SEAL_LENGTH.search(body, 0, _SEAL_HEAD_BYTES)
    if start < 0 or length is None or length.end() > start or not body.endswith(_SEAL_END):
        return None
    start += len(_SEAL_START)
    end = len(body) - len(_SEAL_END)
    signature_bytes = int.from_bytes(body[start : start + 4], "little")
    data = start + 4 + signature_bytes
    # The sealed part is as long as the plain one with every scheme but CredSSP's, which pypsrp reads.
    if end - data != int(length[1]):
        return None
    return body[start + 4 : data], body[data:end], int(length[1])


def _header_text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
