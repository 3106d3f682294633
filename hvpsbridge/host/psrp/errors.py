"""Turns exceptions of pypsrp and below into errors of hvps."""

from __future__ import annotations

import errno
import os
from xml.etree import ElementTree

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import WSMan

from hvpsbridge.errors import (
    ConnectionLimit,
    EndpointDiffers,
    HostBusy,
    HostError,
    HostRefused,
    HostUnreachable,
    ProtocolViolation,
    SessionLost,
)
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.kerberos import LIBRARY_ERRORS, context_failure, ticket_failure, ticket_not_taken
from hvpsbridge.host.psrp.safe_xml import UnusableReply, fault_text
from hvpsbridge.host.psrp.tls import changed_certificate, tls_failure
from hvpsbridge.text import MAX_REASON, one_line, without_users

# Codes of WSMan faults (docs/hyperv-facts.md#wsman-faults). The first means that there is nothing to send
# yet.
FAULT_OPERATION_TIMEOUT = 0x80338029
FAULT_ACCESS_DENIED = 5
FAULT_NO_SUCH_SHELL = 0x8033805B
# Of a session configuration that does not exist (docs/hyperv-facts.md#jea-sessions).
FAULTS_NO_SUCH_RESOURCE = frozenset({0x8033803B, 0x80338000})

# Everything that pypsrp, requests and the security libraries raise while a host is contacted.
TRANSPORT_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    WinRMError,
    OSError,
    ElementTree.ParseError,
    *LIBRARY_ERRORS,
)

# Files that sockets need, and memory. While a shell is in use, a lack of memory counts as a lost connection:
# it passes, and reading goes on.
_FILE_LIMITS = frozenset({errno.EMFILE, errno.ENFILE})
_LIMITS = _FILE_LIMITS | {errno.ENOBUFS, errno.ENOMEM}

_NOT_MAPPED = (
    "it maps the client certificate to no account, or has certificate authentication switched off "
    "(docs/real-host.md, Client certificates)"
)

# HTTP.sys answers with this while the WinRM service starts or stops.
HTTP_UNAVAILABLE = 503


def connect_failure(connection: HostConnection, err: Exception) -> HostError:
    """The error for an exception while a shell is being opened."""
    host = connection.name
    if limit := _limit(err, _LIMITS):
        return ConnectionLimit(host, limit)
    if failure := ticket_failure(host, err) or context_failure(connection, err):
        return failure
    if isinstance(err, AuthenticationError) and connection.auth == "kerberos":
        return ticket_not_taken(host)
    if isinstance(err, AuthenticationError) and connection.auth == "certificate":
        return HostRefused(host, _NOT_MAPPED)
    if isinstance(err, AuthenticationError):
        return HostRefused(host, "authentication failed")
    if failure := tls_failure(connection, err):
        return failure
    if isinstance(err, WSManFaultError) and err.code == FAULT_NO_SUCH_SHELL:
        # The shell disappeared while it was being opened, as when the host restarts: try again.
        return HostBusy(host, _short(err))
    if isinstance(err, WSManFaultError) and err.code in FAULTS_NO_SUCH_RESOURCE and connection.jea:
        return EndpointDiffers(host, connection.jea, "it does not exist")
    if isinstance(err, WSManFaultError):
        return HostRefused(host, _short(err))
    if isinstance(err, WinRMTransportError) and err.code in (401, 403):
        return HostRefused(host, f"HTTP {err.code}")
    if isinstance(err, WinRMTransportError) and err.code == HTTP_UNAVAILABLE:
        return HostBusy(host, _short(err))
    if isinstance(err, (requests.RequestException, OSError, WinRMError, ElementTree.ParseError)):
        return HostUnreachable(host, _short(err))
    # Kerberos and NTLM raise classes of their libraries if there is no ticket or key.
    return HostRefused(host, _short(err))


def _limit(err: BaseException | None, numbers: frozenset[int]) -> str | None:
    """The limit of this machine, one of ``numbers``, that an exception is about; None for any other."""
    while err is not None:
        if isinstance(err, OSError) and err.errno in numbers:
            return os.strerror(err.errno)
        err = err.__cause__ or err.__context__
    return None


def transport_failure(host: str, operation: str, err: Exception) -> HostError:
    """The error for an exception while a shell is in use."""
    if isinstance(err, HostError):
        return err
    if limit := _limit(err, _FILE_LIMITS):
        return ConnectionLimit(host, limit)
    if not isinstance(err, TRANSPORT_ERRORS):
        # Whatever pypsrp raises where it reads an odd answer.
        return ProtocolViolation(
            host, operation, f"unreadable ({type(err).__name__}: {str(err)[:MAX_REASON]})"
        )
    if failure := ticket_failure(host, err) or changed_certificate(host, err):
        return failure
    if isinstance(err, AuthenticationError):
        return HostRefused(host, f"{operation}: authentication failed")
    if isinstance(err, WSManFaultError) and err.code == FAULT_ACCESS_DENIED:
        return HostRefused(host, f"{operation}: {_short(err)}")
    return SessionLost(host, operation, _short(err))


def _short(err: Exception) -> str:
    """An exception in one line, without addresses of objects and nested reprs."""
    if isinstance(err, WSManFaultError):
        code = err.code
        text = f"0x{code:08X} " if isinstance(code, int) else f"{code} " if code else ""
        return f"WSMan fault {text}{(err.reason or '')[:MAX_REASON]}".strip()
    if isinstance(err, WinRMTransportError):
        return f"HTTP {err.code}"
    if isinstance(err, requests.exceptions.Timeout):
        return "no reply in time"
    cause: BaseException = err
    while not isinstance(cause, UnusableReply) and (
        cause.__cause__ is not None or cause.__context__ is not None
    ):
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, UnicodeError):
        # Its text names the letter, which may be one of a password.
        return "it cannot be encoded for this authentication method"
    text = str(cause) or type(cause).__name__
    return without_users(one_line(text))[:MAX_REASON]


def transport_fault_text(err: Exception) -> bytes | None:
    """The SOAP fault of a failed HTTP request; None if it has none."""
    if isinstance(err, WinRMTransportError) and err.response_text:
        return str(err.response_text).encode()
    return None


def is_operation_timeout(soap: bytes) -> bool:
    """True if a SOAP fault says that the host had nothing to send in time.

    Raises:
        WSManFaultError: for any other fault.
    """
    fault = WSMan._parse_wsman_fault(fault_text(soap))
    if fault.code == FAULT_OPERATION_TIMEOUT:
        return True
    raise fault
