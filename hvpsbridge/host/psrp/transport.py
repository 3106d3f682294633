"""Sends pypsrp's own messages: the first on each connection, with what authenticates it.

requests would follow redirects with the account's credentials, expand any content encoding, and read a body
of any length, all before the host has proved who it is. Here a message is a POST to the one address of the
host, and its reply is read by ``http``, within a bound and a deadline. ``dialing`` opens the connection, and
urllib3 verifies the certificate.
"""

from __future__ import annotations

import ssl
import struct
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError
from pypsrp.wsman import _TransportHTTP
from requests.adapters import HTTPAdapter
from requests.packages import urllib3  # type: ignore[attr-defined]  # requests has it there in every version

from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.dialing import DialedHttp, DialedHttps, tls_context
from hvpsbridge.host.psrp.http import HttpConnection, HttpReply
from hvpsbridge.host.psrp.safe_xml import UnusableReply, check_xml, fault_text

OK = 200
UNAUTHORIZED = 401
FIRST_ERROR_STATUS = 400
# NTLM takes two refusals of a message, Kerberos one or two.
MAX_REFUSALS = 10
# What stands for a login in the headers of a request whose connection has a client certificate (MS-WSMV).
MUTUAL_TLS = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"

Timeout = int | float | tuple[int | float, int | float] | None


def header_text(value: str | bytes) -> str:
    """The value of a header, which requests has as either."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


class OneEndpoint(HTTPAdapter):
    """An adapter of requests that sends POST to one URL and nothing else.

    Args:
        url: the host's endpoint.
        connection: how to reach it, and what to check.
    """

    def __init__(self, url: str, connection: HostConnection) -> None:
        self._connection = connection
        super().__init__()
        self._url = str(requests.Request("POST", url).prepare().url)
        self._refusals = 0

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        """Make the pools of this adapter, which requests calls for."""
        super().init_poolmanager(*sizes, **options, ssl_context=tls_context(self._connection))

    def get_connection_with_tls_context(self, *request: Any, **options: Any) -> Any:
        """The pool of the endpoint's connections."""
        pool: Any = super().get_connection_with_tls_context(*request, **options)
        kind: Any = DialedHttps if pool.scheme == "https" else DialedHttp
        pool.ConnectionCls = partial(kind, target=self._connection)
        return pool

    def send(  # type: ignore[override]  # pypsrp passes what is needed
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Timeout = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """The reply to a message, read whole; proxies are never used.

        Raises:
            UnusableReply: the request is not one to the endpoint, or the reply redirects it.
            AuthenticationError: the host asks for authentication again and again.
            requests.RequestException: as requests raises it.
        """
        if request.method != "POST" or request.url != self._url:
            raise UnusableReply(f"only POST requests to {self._url} are sent")
        connect_seconds, read_seconds = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        pool = self.get_connection_with_tls_context(request, verify, cert=cert)
        self.cert_verify(pool, self._url, verify, cert)
        connection: Any = pool._get_conn(timeout=0)
        try:
            if connection.sock is None:
                connection.timeout = connect_seconds
                connection.connect()
            reply = _exchange(connection.sock, request, read_seconds or 0)
            peer = _Peer(connection.sock)
            if not reply.keeps_alive:
                connection.close()
        except BaseException as err:
            connection.close()
            if (known := _as_requests(err)) is not None:
                raise known from err
            raise
        finally:
            pool._put_conn(connection)
        self._refusals = self._refusals + 1 if reply.status == UNAUTHORIZED else 0
        if self._refusals > MAX_REFUSALS:
            raise AuthenticationError("the host asks for authentication again and again")
        if OK < reply.status < FIRST_ERROR_STATUS:
            raise UnusableReply(f"the host answered with HTTP {reply.status}, which is not followed")
        return self._response(request, reply, peer)

    def _response(
        self, request: requests.PreparedRequest, reply: HttpReply, peer: _Peer
    ) -> requests.Response:
        raw = urllib3.response.HTTPResponse(
            body=peer,
            headers={header_text(name): header_text(value) for name, value in reply.headers.items()},
            status=reply.status,
            preload_content=False,
        )
        response = self.build_response(request, raw)
        response._content = bytes(reply.body)
        response._content_consumed = True
        return response


class _Peer:
    """Where pypsrp finds the certificate that NTLM and Kerberos bind to: ``fp.raw._sock`` of a body.

    A host closes the connection on which it asks for a login (docs/hyperv-facts.md#http-sys), so the
    certificate is kept.
    """

    def __init__(self, sock: Any) -> None:
        self.fp = self.raw = self._sock = self
        self._certificate = sock.getpeercert(True) if isinstance(sock, ssl.SSLSocket) else None

    def getpeercert(self, binary_form: bool) -> bytes:
        """The certificate, as a TLS socket gives it.

        Raises:
            AttributeError: the connection has no TLS, as pypsrp expects.
        """
        if self._certificate is None:
            raise AttributeError("no TLS")
        return self._certificate

    def read(self, *sizes: int) -> bytes:
        """Nothing: the body was read already."""
        return b""


def _exchange(sock: Any, request: requests.PreparedRequest, read_seconds: float) -> HttpReply:
    where = urlsplit(str(request.url))
    lines = [f"POST {request.path_url} HTTP/1.1", f"Host: {where.netloc}"]
    lines += [
        f"{name}: {header_text(value)}"
        for name, value in request.headers.items()
        if name.lower() not in ("content-length", "host")
    ]
    body = request.body or b""
    assert isinstance(body, bytes), "pypsrp sends bytes"
    http = HttpConnection(sock, read_seconds)
    http.send("\r\n".join([*lines, ""]).encode("latin-1"), body)
    reply = http.receive(read_seconds)
    if reply is None:
        raise requests.ReadTimeout(f"no reply from {where.netloc}")
    return reply


def _as_requests(err: BaseException) -> requests.RequestException | None:
    """An exception of a connection as requests raises it; None for others."""
    exceptions = urllib3.exceptions
    if isinstance(err, requests.RequestException):
        return None
    if isinstance(err, (ssl.SSLError, ssl.CertificateError, exceptions.SSLError)):
        return requests.exceptions.SSLError(err)
    if isinstance(err, exceptions.ConnectTimeoutError) and not isinstance(err, exceptions.NewConnectionError):
        return requests.ConnectTimeout(err)
    if isinstance(err, TimeoutError):
        return requests.ReadTimeout(err)
    if isinstance(err, (OSError, exceptions.HTTPError)):
        return requests.ConnectionError(err)
    return None


class Transport(_TransportHTTP):
    """pypsrp's transport, with :class:`OneEndpoint` below it.

    Args:
        connection: how to reach the host, and what to check.
        options: those of pypsrp.
    """

    def __init__(self, connection: HostConnection, **options: Any) -> None:
        super().__init__(**options)
        self._connection = connection

    def _build_auth_certificate(self, session: requests.Session) -> None:
        # The certificate itself is in the TLS context; pypsrp would take the key from a file only.
        session.headers["Authorization"] = MUTUAL_TLS

    def _build_session(self) -> requests.Session:
        session = super()._build_session()
        # Its settings were read; .netrc and proxies of the environment are not wanted.
        session.trust_env = False
        adapter = OneEndpoint(self.endpoint, self._connection)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Timeout = None) -> bytes:
        """The SOAP reply to a SOAP message.

        Raises:
            WinRMError: the host refused, or its reply cannot be used.
            requests.RequestException: no reply.
        """
        try:
            return super().send(message, retries_on_read_timeout=0, timeout=timeout)
        except WinRMTransportError:
            raise
        except Exception as err:
            # A security context that was not finished must not be used, nor its connection.
            self.close()
            self.session, self.encryption = None, None
            if isinstance(err, KeyError) and err.args == (urlsplit(self.endpoint).hostname,):
                # pypsrp looks for the security context, and there was no login.
                raise UnusableReply(f"it answered without a login by {self.auth}") from err
            if (unreadable := _unreadable(err)) is not None:
                raise unreadable from err
            raise

    def _send_request(self, request: requests.PreparedRequest, timeout: Timeout = None) -> bytes:
        assert self.session is not None
        response = self.session.send(
            request,
            timeout=(self.connection_timeout, self.read_timeout) if timeout is None else timeout,
            allow_redirects=False,
        )
        status = response.status_code
        if status == UNAUTHORIZED:
            raise AuthenticationError(f"Failed to authenticate the user {self.username} with {self.auth}")
        content: bytes = response.content
        kind = response.headers.get("content-type", "")
        if kind.startswith(("multipart/encrypted;", "multipart/x-multi-encrypted;")):
            if self.encryption is None:
                raise UnusableReply("the reply is encrypted before any key was agreed on")
            content = self.encryption.unwrap_message(content, _boundary(kind))
        elif self.encryption is not None:
            # Anybody on the way can make these up: nothing but the status is read.
            content = b""
            if status < FIRST_ERROR_STATUS:
                raise UnusableReply("the reply is not encrypted")
        if status >= FIRST_ERROR_STATUS:
            raise WinRMTransportError("http", status, fault_text(content))
        check_xml(content)
        return content


def _unreadable(err: Exception) -> UnusableReply | None:
    """The error for what pypsrp raises where it reads headers and tokens; None for other exceptions."""
    kinds = (TypeError, ValueError, LookupError, AttributeError, struct.error)
    if not isinstance(err, kinds) or isinstance(err, (requests.RequestException, UnicodeError)):
        return None
    return UnusableReply(f"the reply cannot be read ({type(err).__name__}: {err})")


def _boundary(content_type: str) -> str:
    _, found, rest = content_type.partition('boundary="')
    if not found or '"' not in rest:
        raise WinRMError("an encrypted reply has no boundary")
    return rest.partition('"')[0]
