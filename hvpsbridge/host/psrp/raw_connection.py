"""pypsrp's own connection, used directly, without what requests does for each message.

The connection is taken out of requests' pool after pypsrp used it, so TLS and authentication stay as they
were. requests and ``http.client`` take two to four times as long for a message as everything else that pypsrp
does for it (docs/performance.md).
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from pypsrp.encryption import WinRMEncryption
from pypsrp.exceptions import WinRMError
from pypsrp.wsman import WSMan

from hvpsbridge.host.connection import Recorder
from hvpsbridge.host.psrp.http import Body, HttpConnection, HttpReply
from hvpsbridge.host.psrp.safe_xml import UnusableReply
from hvpsbridge.host.psrp.transport import FIRST_ERROR_STATUS, UNAUTHORIZED, header_text


class ConnectionUnavailable(Exception):
    """The connection that pypsrp uses cannot be taken; pypsrp must send the messages."""


class RawConnection:
    """A connection out of requests' pool, and the headers of a request on it. One message at a time.

    Attributes:
        replies: how many were received.
    """

    def __init__(self, wsman: WSMan, read_timeout_seconds: float) -> None:
        """Take the connection.

        Args:
            wsman: the client whose last message opened and authenticated it.
            read_timeout_seconds: how long to wait for a reply to start.

        Raises:
            ConnectionUnavailable: pypsrp or requests keeps it elsewhere, or it is closed.
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
            # Used before each message; urllib3 1 does not have it.
            self._connection.is_connected  # noqa: B018
        except (AssertionError, AttributeError, TypeError) as err:
            raise ConnectionUnavailable(str(err)) from err
        if sock is None:
            raise ConnectionUnavailable("pypsrp's connection is closed")
        self.replies = 0
        self._http = HttpConnection(sock, read_timeout_seconds)
        self._recorder: Recorder | None = getattr(wsman, "recorder", None)
        self._sent: deque[tuple[bytes, float]] = deque()
        self._encryption = transport.encryption
        where = urlsplit(transport.endpoint)
        lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [
            f"{name}: {header_text(value)}"
            for name, value in prepared.headers.items()
            if name.lower() not in ("content-length", "content-type")
        ]
        self._head = "\r\n".join([*lines, ""]).encode("latin-1")
        self._plain_head = self._head + b"Content-Type: application/soap+xml;charset=UTF-8\r\n"

    @property
    def waiting(self) -> bool:
        """Whether a message was sent whose reply has not come."""
        return self._http.waiting

    @property
    def connected(self) -> bool:
        """Whether the host has not closed it. Only valid between a reply and the next message."""
        return bool(self._connection.is_connected)

    def send(self, text: bytes) -> None:
        """Send one message, encrypted if the connection encrypts messages.

        Raises:
            OSError: the connection is gone.
        """
        if self._recorder is not None:
            self._sent.append((text, time.monotonic()))
        if self._encryption is None:
            self._http.send(self._plain_head, text)
            return
        kind, payload = self._encryption.wrap_message(text)
        content_type = f'{kind};protocol="{self._encryption.protocol}";boundary="Encrypted Boundary"'
        self._http.send(self._head + f"Content-Type: {content_type}\r\n".encode(), payload)

    def receive(self, timeout_seconds: float) -> HttpReply | None:
        """The reply, decrypted; None if none has started within the time, and then it is still expected.

        The body of a refused login (:data:`UNAUTHORIZED`) is left as it is.

        Raises:
            OSError: the connection is gone, the reply is overdue, or it is not HTTP.
            WinRMError: it cannot be decrypted, or is not encrypted as it must be.
        """
        reply = self._http.receive(timeout_seconds)
        if reply is None:
            return None
        self.replies += 1
        if self._encryption is not None and reply.status != UNAUTHORIZED:
            content_type = reply.headers.get(b"content-type", b"")
            if content_type.startswith(b"multipart/"):
                reply.body = _decrypted(self._encryption, content_type, reply.body)
            elif reply.status < FIRST_ERROR_STATUS:
                raise UnusableReply("the reply is not encrypted")
            else:
                # Anybody on the way can make these up: nothing but the status is read.
                reply.body = Body(b"")
        if self._recorder is not None and self._sent:
            text, sent = self._sent.popleft()
            self._recorder.exchange(text, bytes(reply.body), time.monotonic() - sent, reply.status)
        return reply

    def close(self) -> None:
        """Close the connection, even while a reply is expected. Never raises."""
        with suppress(Exception):
            self._connection.close()


_PART_START = b"\tContent-Type: application/octet-stream\r\n"
_PART_END = b"--Encrypted Boundary--\r\n"
_PART_LENGTH = re.compile(rb"Length=(\d+)\r\n")
_PART_HEAD_BYTES = 1024


def _decrypted(encryption: WinRMEncryption, content_type: bytes, body: Body) -> Body:
    try:
        return _plain(encryption, content_type, bytes(body))
    except (ValueError, LookupError, struct.error) as err:
        raise UnusableReply(f"a reply cannot be decrypted: {err}") from err


def _plain(encryption: WinRMEncryption, content_type: bytes, content: bytes) -> Body:
    part = _encrypted_part(content)
    if part is not None:
        header, data, length = part
        plain: bytes = encryption.context.unwrap_winrm(header, data)
        if len(plain) != length:
            raise WinRMError(f"a decrypted reply has {len(plain)} bytes instead of {length}")
        return Body(plain)
    boundary = re.search(rb"boundary=[\"'](.*)[\"']", content_type)
    if boundary is None:
        raise WinRMError("an encrypted reply has no boundary")
    return Body(encryption.unwrap_message(content, boundary[1].decode()))


def _encrypted_part(body: bytes) -> tuple[bytes, bytes, int] | None:
    """Signature, encrypted bytes and decrypted length of a message in one part, as WinRM sends it.

    None for any other layout. pypsrp itself searches all bytes of a message with regular expressions, several
    times.
    """
    start = body.find(_PART_START, 0, _PART_HEAD_BYTES)
    length = _PART_LENGTH.search(body, 0, _PART_HEAD_BYTES)
    if start < 0 or length is None or length.end() > start or not body.endswith(_PART_END):
        return None
    start += len(_PART_START)
    end = len(body) - len(_PART_END)
    signature_bytes = int.from_bytes(body[start : start + 4], "little")
    data = start + 4 + signature_bytes
    # With every scheme but CredSSP encrypted and decrypted bytes are equally many; pypsrp reads CredSSP's.
    if end - data != int(length[1]):
        return None
    return body[start + 4 : data], body[data:end], int(length[1])
