"""Explains why Kerberos did not authenticate. Handles the errors of pyspnego, krb5 and gssapi.

Decisions depend on the error numbers of the Kerberos protocol (RFC 4120 section 7.5.9) and of MIT's library,
which GSSAPI passes on as minor codes. Texts of the library are in the user's language and are only shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from spnego.exceptions import BadMechanismError, SpnegoError

from hvpsbridge.errors import ConfigurationError, HostError, KdcUnreachable, TicketRefused
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.text import one_line

try:
    from gssapi.raw.misc import GSSError
    from krb5 import Krb5Error
except ImportError:
    INSTALLED = False
    LIBRARY_ERRORS: tuple[type[Exception], ...] = (SpnegoError,)
else:
    INSTALLED = True
    LIBRARY_ERRORS = (SpnegoError, Krb5Error, GSSError)

# MIT's library adds this to the error numbers of the protocol and to its own; GSSAPI has them unsigned.
_BASE = -1765328384
_GSS_NO_CREDENTIALS = 7 << 16
_GSS_CREDENTIALS_EXPIRED = 11 << 16
_GSS_CONTEXT_EXPIRED = 12 << 16
_GSS_FAILURE = 13 << 16
# Other errors are about an established context, such as a failed decryption; their minor codes differ.
_ABOUT_TICKETS = frozenset({0, _GSS_NO_CREDENTIALS, _GSS_CREDENTIALS_EXPIRED, _GSS_FAILURE})

_NO_TICKET = "there is no ticket; run kinit, set KRB5_CLIENT_KTNAME to a keytab, or use a password"
_EXPIRED = "the ticket has expired; run kinit again, or set KRB5_CLIENT_KTNAME to a keytab"
_CLOCKS = "the clocks of this machine and the domain controller differ by more than Kerberos allows"
_SECRET = "the password is wrong, or the keytab is older than the password"  # noqa: S105 - a text about one
_REALM = "cannot find the domain controllers of the realm; check /etc/krb5.conf"
_REASONS = {
    6: "the realm has no such user; write it as user@REALM",
    7: "the realm has no such host; use its full domain name as the address, not an alias or an IP address",
    18: "the account is disabled or locked",
    23: "the password has expired",
    24: _SECRET,
    31: _SECRET,
    32: _EXPIRED,
    33: _CLOCKS,
    37: _CLOCKS,
    141: _NO_TICKET,
    148: _CLOCKS,
    154: _REALM,
    181: "the keytab has no key for that user",
    195: _NO_TICKET,
    217: _REALM,
    220: _REALM,
    224: _REALM,
}
_UNREACHABLE = 156
_MAJOR_REASONS = {_GSS_NO_CREDENTIALS: _NO_TICKET, _GSS_CREDENTIALS_EXPIRED: _EXPIRED}
# What exceptions add to the text of the library.
_KRB5_NUMBER = re.compile(r" -\d+$")
_GSS_MINOR = re.compile(r"Minor \(\d+\): (.*)", re.DOTALL)


def check_installed(connection: HostConnection) -> None:
    """Return if everything that ``connection`` needs to authenticate is installed.

    Raises:
        ConfigurationError: it needs Kerberos, which is not installed.
    """
    # Without a password Negotiate can only use a ticket.
    needed = connection.auth == "kerberos" or (connection.auth == "negotiate" and connection.password is None)
    if needed and not INSTALLED:
        raise ConfigurationError(
            f"host {connection.name}",
            "Kerberos is not installed; run pip install 'hvpsbridge[kerberos]' (docs/real-host.md, Kerberos)",
        )


def ticket_failure(host: str, err: Exception) -> HostError | None:
    """The error for an exception about Kerberos tickets; None for other exceptions."""
    major = minor = 0
    text = ""
    for cause in _chain(err):
        if isinstance(code := getattr(cause, "err_code", None), int):
            minor, text = code, _KRB5_NUMBER.sub("", str(cause))
        elif isinstance(code := getattr(cause, "min_code", None), int):
            major, minor = getattr(cause, "maj_code", 0), code
            found = _GSS_MINOR.search(str(cause))
            text = found[1] if found else ""
    if not minor or major not in _ABOUT_TICKETS:
        return None
    number = (minor - _BASE) & 0xFFFFFFFF
    if number == _UNREACHABLE:
        return KdcUnreachable(host, one_line(text))
    reason = _REASONS.get(number) or _MAJOR_REASONS.get(major)
    if reason is None:
        return TicketRefused(host, one_line(text))
    return TicketRefused(host, f"{reason} ({one_line(text)})" if number in _REASONS else reason)


def context_failure(connection: HostConnection, err: Exception) -> HostError | None:
    """The error for an exception of a security context while connecting; None for other exceptions."""
    if isinstance(err, BadMechanismError) and connection.password is None:
        # No authentication scheme could start.
        return TicketRefused(connection.name, _NO_TICKET)
    if any(getattr(cause, "maj_code", 0) == _GSS_CONTEXT_EXPIRED for cause in _chain(err)):
        return TicketRefused(connection.name, _EXPIRED)
    return None


def seconds_left(context: object) -> float | None:
    """How long a security context of pyspnego is valid; 0 if it has expired, None if it does not expire.

    A context expires with its ticket, and replies encrypted in it can then not be decrypted.
    """
    # Negotiate wraps Kerberos, which wraps the context of GSSAPI. NTLM contexts do not expire.
    for _ in range(3):
        try:
            left = getattr(context, "lifetime", None)
        except LIBRARY_ERRORS:
            return 0.0
        if isinstance(left, int):
            return float(left)
        context = getattr(context, "_context", None)
    return None


def ticket_not_taken(host: str) -> TicketRefused:
    """The error for a host that does not accept its ticket."""
    return TicketRefused(
        host, "the host did not accept the ticket; check its clock, and which account has its service name"
    )


def _chain(err: BaseException) -> Iterator[BaseException]:
    """``err`` and its causes, as Python and pyspnego record them."""
    cause: BaseException | None = err
    while cause is not None:
        yield cause
        cause = getattr(cause, "base_error", None) or cause.__cause__ or cause.__context__
