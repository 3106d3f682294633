"""What goes wrong between us and a host while pypsrp talks to it, as errors of hvps."""

from __future__ import annotations

from xml.etree import ElementTree

import requests
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import WSMan

from hvpsbridge.errors import (
    CertificateRejected,
    HostBusy,
    HostError,
    HostRefused,
    HostUnreachable,
    SessionLost,
)
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.kerberos import LIBRARY_ERRORS, context_failure, ticket_failure, ticket_not_taken

# WSMan faults: nothing to say yet; rights; no such shell (docs/hyperv-facts.md#wsman-faults).
FAULT_OPERATION_TIMEOUT = 0x80338029
FAULT_ACCESS_DENIED = 5
FAULT_NO_SUCH_SHELL = 0x8033805B

# Whatever can go wrong between us and the host while pypsrp talks to it.
TRANSPORT_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    WinRMError,
    OSError,
    ElementTree.ParseError,
    *LIBRARY_ERRORS,
)
# What pypsrp's deserializer raises when a reply is no CLIXML of the kind it knows.
UNREADABLE_ERRORS: tuple[type[Exception], ...] = (TypeError, ValueError, LookupError, AttributeError)


# What HTTP.sys answers while the WinRM service starts or stops.
HTTP_UNAVAILABLE = 503


def connect_failure(connection: HostConnection, err: Exception) -> HostError:
    """What an exception means while a shell is being opened."""
    host = connection.name
    if failure := ticket_failure(host, err) or context_failure(connection, err):
        return failure
    if isinstance(err, AuthenticationError) and connection.auth == "kerberos":
        return ticket_not_taken(host)
    if isinstance(err, AuthenticationError):
        return HostRefused(host, "authentication failed")
    if isinstance(err, requests.exceptions.SSLError):
        return CertificateRejected(host, _short(err))
    if isinstance(err, WSManFaultError) and err.code == FAULT_NO_SUCH_SHELL:
        # It was being opened and went away, as when the host restarts: worth another try.
        return HostBusy(host, _short(err))
    if isinstance(err, WSManFaultError):
        return HostRefused(host, _short(err))
    if isinstance(err, WinRMTransportError) and err.code in (401, 403):
        return HostRefused(host, f"HTTP {err.code}")
    if isinstance(err, WinRMTransportError) and err.code == HTTP_UNAVAILABLE:
        return HostBusy(host, _short(err))
    if isinstance(err, (requests.RequestException, OSError, WinRMError, ElementTree.ParseError)):
        return HostUnreachable(host, _short(err))
    # Kerberos and NTLM contexts raise their library's own classes when no ticket or key can be had.
    return HostRefused(host, _short(err))


def transport_failure(host: str, operation: str, err: Exception) -> HostError:
    """What a transport exception means while a shell is in use."""
    if isinstance(err, HostError):
        return err
    if failure := ticket_failure(host, err):
        return failure
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


def transport_fault_text(err: Exception) -> bytes | None:
    """The SOAP fault in a failed HTTP exchange; None when it failed otherwise."""
    if isinstance(err, WinRMTransportError) and err.response_text:
        return str(err.response_text).encode()
    return None


def is_operation_timeout(fault_text: bytes) -> bool:
    """Whether a SOAP fault says that the host had nothing to send in time.

    Raises:
        WSManFaultError: it says something else.
    """
    fault = WSMan._parse_wsman_fault(fault_text.decode("utf-8"))
    if fault.code == FAULT_OPERATION_TIMEOUT:
        return True
    raise fault
