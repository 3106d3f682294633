"""One thread's way to a shell: a WSMan client of pypsrp, and what its exceptions mean.

pypsrp sends a Receive again by itself after a read timeout, which can lose an object without a trace
when the lost reply ended one. Ours does not: a read timeout ends the session, and
:mod:`~hvpsbridge.host.retry` decides by the operation's effect.

What pypsrp calls private and this package leans on is looked up at import (:data:`LEANED_ON`), so an
update that moves it fails at start, not in the middle of a night.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast
from xml.etree import ElementTree

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import Fragmenter, PowerShell, RunspacePool
from pypsrp.wsman import WSMan, WSManAction

from hvpsbridge.errors import (
    CertificateRejected,
    HostError,
    HostRefused,
    HostUnreachable,
    InternalError,
    SessionLost,
)
from hvpsbridge.host.connection import HostConnection

# WinRM's own default since 2012; replies grow with it (reference section 7.1).
ENVELOPE_BYTES = 512_000

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
        self._count_replies()

    def _count_replies(self) -> None:
        send = self.wsman.transport.send

        def counted(*args: Any, **options: Any) -> bytes:
            reply = send(*args, **options)
            self.received_bytes += len(reply)
            return reply

        self.wsman.transport.send = counted  # type: ignore[method-assign]  # of this one connection

    def close(self) -> None:
        """Close the connection; the shell stays."""
        with suppress(Exception):
            self.wsman.close()


def connect_failure(host: str, err: Exception) -> HostError:
    """What an exception means while a shell is being opened."""
    if isinstance(err, AuthenticationError):
        return HostRefused(host, "authentication failed")
    if isinstance(err, requests.exceptions.SSLError):
        return CertificateRejected(host, _short(err))
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
