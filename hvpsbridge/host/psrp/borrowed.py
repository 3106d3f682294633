"""pypsrp's own connection, borrowed for the fast way: a Receive built once, sealed and opened like the rest.

The connection is taken out of requests' pool after pypsrp used it, so that TLS, its checks and the
authentication that belongs to it are what they were.
"""

from __future__ import annotations

import base64
import re
import socket
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import requests
from pypsrp.exceptions import WinRMError
from pypsrp.wsman import NAMESPACES, OptionSet, WSManAction

from hvpsbridge.errors import InternalError
from hvpsbridge.host.psrp.door import Door


class ConnectionUnavailable(Exception):
    """The connection that pypsrp talks over cannot be had; replies must go pypsrp's way."""


class ReceiveRequest:
    """The Receive of one command, built once; only the message id differs from one to the next."""

    def __init__(self, door: Door, command_id: str, timeout_seconds: int) -> None:
        wsman, shell = door.wsman, door.pool.shell
        options = OptionSet()
        options.add_option("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True")
        message_id, header = wsman._create_header(
            WSManAction.RECEIVE, shell.resource_uri, options, shell._selector_set, timeout_seconds
        )
        envelope = ElementTree.Element(f"{{{NAMESPACES['s']}}}Envelope")
        envelope.append(header)
        body = ElementTree.SubElement(envelope, f"{{{NAMESPACES['s']}}}Body")
        receive = ElementTree.SubElement(body, f"{{{NAMESPACES['rsp']}}}Receive")
        stream = ElementTree.SubElement(receive, f"{{{NAMESPACES['rsp']}}}DesiredStream")
        stream.attrib["CommandId"] = command_id
        stream.text = "stdout"
        text: bytes = ElementTree.tostring(envelope, encoding="utf-8", method="xml")
        self._before, found, self._after = text.partition(message_id.encode())
        if not found:
            raise InternalError("a WSMan header without its message id")

    def text(self) -> tuple[bytes, bytes]:
        """A fresh message id, as the reply will relate to it, and the request that carries it."""
        message_id = str(uuid.uuid4()).upper().encode()
        return b"uuid:" + message_id, self._before + message_id + self._after


class Borrowed:
    """A connection out of requests' pool, with what an HTTP request on it needs.

    Attributes:
        socket: connected, verified and authenticated by pypsrp's last request.
    """

    def __init__(self, door: Door) -> None:
        transport = door.wsman.transport
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
            self.socket: socket.socket = self._connection.sock
        except (AssertionError, AttributeError, TypeError) as err:
            raise ConnectionUnavailable(str(err)) from err
        if self.socket is None:
            raise ConnectionUnavailable("pypsrp's connection is not open any more")
        self._encryption = transport.encryption
        where = urlsplit(transport.endpoint)
        lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [
            f"{name}: {_header_text(value)}"
            for name, value in prepared.headers.items()
            if name.lower() not in ("content-length", "content-type")
        ]
        self._head = "\r\n".join([*lines, ""]).encode("latin-1")
        self._plain_type = b"Content-Type: application/soap+xml;charset=UTF-8\r\n"

    def sealed(self, text: bytes) -> tuple[bytes, bytes]:
        """Head (without length) and body of a request, sealed when the connection's messages are."""
        if self._encryption is None:
            return self._head + self._plain_type, text
        kind, payload = self._encryption.wrap_message(text)
        content_type = f'{kind};protocol="{self._encryption.protocol}";boundary="Encrypted Boundary"'
        return self._head + f"Content-Type: {content_type}\r\n".encode(), payload

    def opened(self, content_type: bytes, body: bytearray) -> bytes | bytearray:
        """The SOAP in a reply's body."""
        if self._encryption is None or not content_type.startswith(b"multipart/"):
            return body
        sealed = _sealed_part(body)
        if sealed is not None:
            header, data, length = sealed
            plain: bytes = self._encryption.context.unwrap_winrm(header, data)
            if len(plain) != length:
                raise WinRMError(f"a sealed reply of {len(plain)} bytes that says {length}")
            return plain
        boundary = re.search(rb"boundary=[\"'](.*)[\"']", content_type)
        if boundary is None:
            raise WinRMError("a sealed reply without a boundary")
        opened: bytes = self._encryption.unwrap_message(bytes(body), boundary[1].decode())
        return opened

    def close(self) -> None:
        """Close the connection: a reply may still be under way on it. Never raises."""
        with suppress(Exception):
            self._connection.close()


_SEAL_START = b"\tContent-Type: application/octet-stream\r\n"
_SEAL_END = b"--Encrypted Boundary--\r\n"
_SEAL_LENGTH = re.compile(rb"Length=(\d+)\r\n")
_SEAL_HEAD_BYTES = 1024


def _sealed_part(body: bytearray) -> tuple[bytes, bytes, int] | None:
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
    with memoryview(body) as view:
        return bytes(view[start + 4 : data]), bytes(view[data:end]), int(length[1])


def _header_text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def stream_fragments(body: bytes | bytearray) -> bytes:
    """Decoded stream contents of a reply of any layout, as pypsrp itself takes them out."""
    reply = ElementTree.fromstring(bytes(body))  # noqa: S314 - pypsrp reads all other replies with it too
    path = "s:Body/rsp:ReceiveResponse/rsp:Stream"
    return b"".join(base64.b64decode(found.text) for found in reply.findall(path, NAMESPACES) if found.text)
