"""Opens connections to a host: by name or IP address, directly or through a proxy, with TLS.

urllib3 would use the name in the URL for everything. Here the resolver gets the name as it was written, with
a trailing dot or a zone, and TLS, HTTP and Kerberos the name without them. Variables such as ``HTTPS_PROXY``
are not read: hosts are on the administrator's own network.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from requests.packages import urllib3  # type: ignore[attr-defined]  # requests has it there in every version

from hvpsbridge.host.address import parse_proxy
from hvpsbridge.host.client_certificates import load_client_certificate
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.fingerprints import fingerprint_of, parse_fingerprint

_HEAD_END = b"\r\n\r\n"
# Of a proxy's answer to CONNECT.
_LONGEST_HEAD = 16 * 1024
_LOGIN_REQUIRED = 407


class ProxyRefused(OSError):
    """A proxy did not connect to the host."""


class WrongFingerprint(requests.exceptions.SSLError):
    """The host shows another certificate than the one that is pinned.

    Attributes:
        certificate: what it shows, in DER form.
    """

    def __init__(self, certificate: bytes) -> None:
        super().__init__("the certificate is not the pinned one")
        self.certificate = certificate


def dial(connection: HostConnection, timeout_seconds: float) -> socket.socket:
    """A connected socket without TLS.

    Raises:
        OSError: there is no connection.
    """
    endpoint = connection.endpoint
    if connection.proxy is None:
        return _connected((endpoint.resolved or endpoint.server, endpoint.port), timeout_seconds)
    proxy = parse_proxy(connection.proxy)
    try:
        sock = _connected((proxy.server, proxy.port), timeout_seconds)
    except (ConnectionError, TimeoutError, socket.gaierror) as err:
        failure = str(err)
    else:
        failure = ""
    if failure:
        # Not within the except: the innermost cause is what gets reported.
        raise ProxyRefused(f"proxy {proxy.location} cannot be reached: {failure}")
    try:
        _open_tunnel(sock, f"proxy {proxy.location}", endpoint.location, timeout_seconds)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(address: tuple[str, int], timeout_seconds: float) -> socket.socket:
    sock = socket.create_connection(address, timeout_seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _open_tunnel(sock: socket.socket, proxy: str, location: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    sock.sendall(f"CONNECT {location} HTTP/1.1\r\nHost: {location}\r\n\r\n".encode("idna"))
    head = b""
    while not head.endswith(_HEAD_END):
        # Byte by byte, because what follows belongs to the host; a proxy answers with few.
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = sock.recv(1)
        if not byte or len(head) > _LONGEST_HEAD:
            raise ProxyRefused(f"{proxy} ended the connection instead of connecting to {location}")
        head += byte
    sock.settimeout(timeout_seconds)
    parts = head.split(b"\r\n")[0].split(b" ", 2)
    status = parts[1] if len(parts) > 1 and parts[0].startswith(b"HTTP/1.") else b""
    if status.isdigit() and int(status) == _LOGIN_REQUIRED:
        raise ProxyRefused(f"{proxy} asks for a login, which hvps does not support")
    if not status.startswith(b"2"):
        answer = f"HTTP {status.decode()}" if status.isdigit() else "something other than HTTP"
        raise ProxyRefused(
            f"{proxy} answered {answer} for {location}; allow it there to connect to that port"
        )


@contextmanager
def dialed_tls(connection: HostConnection, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which nothing was sent, for a look at the host's certificate.

    Raises:
        OSError: there is none; ``ssl.SSLError`` if TLS failed.
    """
    with (
        dial(connection, connection.connect_timeout) as plain,
        context.wrap_socket(plain, server_hostname=connection.endpoint.server) as secure,
    ):
        yield secure


def tls_context(connection: HostConnection) -> ssl.SSLContext | None:
    """The context for connections with a client certificate; None if the default is enough."""
    if connection.certificate is None:
        return None
    mode = ssl.CERT_REQUIRED if connection.checks_authority else ssl.CERT_NONE
    context: ssl.SSLContext = urllib3.util.ssl_.create_urllib3_context(cert_reqs=mode)
    # Windows asks for it after the request, if the listener does not negotiate client certificates.
    context.post_handshake_auth = True
    load_client_certificate(context, connection)
    return context


def check_pin(connection: HostConnection, sock: Any) -> None:
    """Return if the host at the other end of a TLS socket shows the pinned certificate, or none is pinned.

    Raises:
        WrongFingerprint: it shows another one.
    """
    if connection.fingerprint is None:
        return
    certificate = sock.getpeercert(binary_form=True) or b""
    if fingerprint_of(certificate) != parse_fingerprint(connection.fingerprint):
        raise WrongFingerprint(certificate)


class _Dialed:
    """What both kinds of connections of urllib3 share: they are opened by :func:`dial`."""

    timeout: float

    def __init__(self, *args: Any, target: HostConnection, **options: Any) -> None:
        super().__init__(*args, **options)
        self._target = target

    def _new_conn(self) -> socket.socket:
        try:
            return dial(self._target, self.timeout)
        except socket.gaierror as err:
            raise urllib3.exceptions.NewConnectionError(self, f"the name was not found: {err}") from err
        except TimeoutError as err:
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from err
        except OSError as err:
            raise urllib3.exceptions.NewConnectionError(self, f"no connection: {err}") from err


class DialedHttp(_Dialed, urllib3.connection.HTTPConnection):  # type: ignore[misc]  # untyped base
    """A connection without TLS."""


class DialedHttps(_Dialed, urllib3.connection.HTTPSConnection):  # type: ignore[misc]  # untyped base
    """A connection with TLS."""

    def connect(self) -> None:
        """Connect, and compare the certificate before anything is sent."""
        super().connect()
        check_pin(self._target, self.sock)
