"""One thread's way to a shell: a WSMan client of pypsrp, and what its exceptions mean.

pypsrp sends a Receive again by itself after a read timeout, which can lose an object without a trace
when the lost reply ended one. Ours does not: a read timeout ends the session, and
:mod:`~hvpsbridge.host.retry` decides by the operation's effect.

What pypsrp calls private and this package leans on is looked up at import (:data:`LEANED_ON`), so an
update that moves it fails at start, not in the middle of a night.
"""

from __future__ import annotations

import base64
import logging
import re
import socket
import time
import uuid
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit
from xml.etree import ElementTree

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import Fragmenter, PowerShell, RunspacePool
from pypsrp.wsman import NAMESPACES, OptionSet, WSMan, WSManAction

from hvpsbridge.errors import (
    CertificateRejected,
    HostError,
    HostRefused,
    HostUnreachable,
    InternalError,
    SessionLost,
)
from hvpsbridge.host.connection import HostConnection

# Below warnings pypsrp logs whole messages: script text, parameters and disk contents. They are not ours to
# show, whatever level the rest of the process logs at.
for _library in ("pypsrp", "spnego"):
    logging.getLogger(_library).setLevel(logging.WARNING)

# WinRM's own default since 2012; replies grow with it (reference section 7.1).
ENVELOPE_BYTES = 512_000

# http.sys closes a connection that was idle for 120 s, and a client learns of it too late.
STALE_SECONDS = 60.0

# WSMan faults (reference section 9): nothing to say yet; rights; no such shell.
FAULT_OPERATION_TIMEOUT = 0x80338029
FAULT_ACCESS_DENIED = 5
FAULT_NO_SUCH_SHELL = 0x8033805B

# Whatever can go wrong between us and the host while pypsrp talks to it.
TRANSPORT_ERRORS = (requests.RequestException, WinRMError, OSError, ElementTree.ParseError)
# What pypsrp's deserializer raises when a reply is no CLIXML of the kind it knows.
UNREADABLE_ERRORS = (TypeError, ValueError, LookupError, AttributeError)

# Names of pypsrp beyond its documented interface.
LEANED_ON: tuple[tuple[type, str], ...] = (
    (RunspacePool, "_parse_responses"),
    (PowerShell, "poll_invoke"),
    (PowerShell, "begin_invoke"),
    (WSMan, "_create_header"),
    (WSMan, "invoke"),
    (Fragmenter, "fragment"),
)
for _owner, _name in LEANED_ON:
    if not hasattr(_owner, _name):
        raise InternalError(f"this pypsrp lacks {_owner.__name__}.{_name}")


class _QuietWSMan(WSMan):
    """pypsrp's WSMan without its silent second Receive."""

    def receive(
        self,
        resource_uri: str,
        resource: Any,
        option_set: Any = None,
        selector_set: Any = None,
        timeout: int | None = None,
    ) -> Any:
        reply = self.invoke(WSManAction.RECEIVE, resource_uri, resource, option_set, selector_set, timeout)
        return reply.find("{http://www.w3.org/2003/05/soap-envelope}Body")


def new_wsman(connection: HostConnection) -> WSMan:
    """A WSMan client for ``connection``; it talks to nobody yet."""
    endpoint = connection.endpoint
    return _QuietWSMan(
        endpoint.server,
        port=endpoint.port,
        path=endpoint.path,
        ssl=endpoint.tls,
        auth=connection.auth,
        username=connection.user,
        password=None if connection.password is None else connection.password.reveal(),
        # Documented as a path too; the annotation says bool only.
        cert_validation=cast(bool, True if connection.ca is None else str(connection.ca)),
        encryption="never" if connection.auth == "basic" else "auto",
        # A host on the administrator's own network is never behind the web proxy of the environment.
        no_proxy=True,
        max_envelope_size=ENVELOPE_BYTES,
        operation_timeout=connection.operation_timeout_seconds,
        read_timeout=connection.read_timeout_seconds,
        connection_timeout=connection.connect_timeout_seconds,
    )


class Door:
    """One thread's way into a shell: a WSMan connection and pypsrp's view of the pool over it.

    Attributes:
        host: name of the host.
        received_bytes: reply bodies so far, as they came out of TLS and message sealing.
    """

    def __init__(self, host: str, wsman: WSMan, pool: RunspacePool) -> None:
        self.host = host
        self.wsman = wsman
        self.pool = pool
        self.received_bytes = 0
        self._used = time.monotonic()
        self._send = wsman.transport.send
        wsman.transport.send = self._exchange  # type: ignore[method-assign]  # of this one connection

    def _exchange(self, *args: Any, **options: Any) -> bytes:
        if time.monotonic() - self._used > STALE_SECONDS:
            self.start_over()
        reply = self._send(*args, **options)
        self._used = time.monotonic()
        self.received_bytes += len(reply)
        return reply

    def start_over(self) -> None:
        """Forget the connection and the security context that goes with it; the next request makes both.

        pypsrp would seal a message with the old context and send it over a new connection.
        """
        transport = self.wsman.transport
        transport.close()
        transport.session = None
        transport.encryption = None

    def close(self) -> None:
        """Close the connection; the shell stays."""
        with suppress(Exception):
            self.wsman.close()


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


def transport_fault_text(err: Exception) -> bytes | None:
    """The SOAP fault in a failed HTTP exchange; None when it failed otherwise."""
    if isinstance(err, WinRMTransportError) and err.response_text:
        return str(err.response_text).encode()
    return None


def is_operation_timeout(fault_text: bytes | bytearray) -> bool:
    """Whether a SOAP fault says that the host had nothing to send in time.

    Raises:
        WSManFaultError: it says something else.
    """
    fault = WSMan._parse_wsman_fault(bytes(fault_text).decode("utf-8"))
    if fault.code == FAULT_OPERATION_TIMEOUT:
        return True
    raise fault


def stream_fragments(body: bytes | bytearray) -> bytes:
    """Decoded stream contents of a reply of any layout, as pypsrp itself takes them out."""
    reply = ElementTree.fromstring(bytes(body))  # noqa: S314 - pypsrp reads all other replies with it too
    path = "s:Body/rsp:ReceiveResponse/rsp:Stream"
    return b"".join(base64.b64decode(found.text) for found in reply.findall(path, NAMESPACES) if found.text)


def connect_failure(host: str, err: Exception) -> HostError:
    """What an exception means while a shell is being opened."""
    if isinstance(err, AuthenticationError):
        return HostRefused(host, "authentication failed")
    if isinstance(err, requests.exceptions.SSLError):
        return CertificateRejected(host, _short(err))
    if isinstance(err, WSManFaultError) and err.code == FAULT_NO_SUCH_SHELL:
        # It was being opened and went away, as when the host restarts: worth another try.
        return HostUnreachable(host, _short(err))
    if isinstance(err, WSManFaultError):
        return HostRefused(host, _short(err))
    if isinstance(err, WinRMTransportError) and err.code in (401, 403):
        return HostRefused(host, f"HTTP {err.code}")
    if isinstance(err, (requests.RequestException, OSError, WinRMError, ElementTree.ParseError)):
        return HostUnreachable(host, _short(err))
    # Kerberos and NTLM contexts raise their library's own classes when no ticket or key can be had.
    return HostRefused(host, _short(err))


def transport_failure(host: str, operation: str, err: Exception) -> HostError:
    """What a transport exception means while a shell is in use."""
    if isinstance(err, HostError):
        return err
    if isinstance(err, AuthenticationError):
        return HostRefused(host, f"{operation}: authentication failed")
    if isinstance(err, WSManFaultError) and err.code == FAULT_ACCESS_DENIED:
        return HostRefused(host, f"{operation}: {_short(err)}")
    return SessionLost(host, operation, _short(err))


def _short(err: Exception) -> str:
    """One line about an exception, without the addresses of objects and nested reprs."""
    if isinstance(err, WSManFaultError):
        code = err.code
        text = f"0x{code:08X} " if isinstance(code, int) else f"{code} " if code else ""
        return f"WSMan fault {text}{err.reason or ''}".strip()
    if isinstance(err, WinRMTransportError):
        return f"HTTP {err.code}"
    if isinstance(err, requests.exceptions.Timeout):
        return "no answer in time"
    cause: BaseException = err
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    text = str(cause) or type(cause).__name__
    return " ".join(text.split())[:300]
