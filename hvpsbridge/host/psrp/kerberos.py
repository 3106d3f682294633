"""Why Kerberos gave no session, said in words that help. The door to the errors of pyspnego and krb5.

Rule: decisions rest on the numbers of the Kerberos protocol (RFC 4120 section 7.5.9) and of MIT's library,
which GSSAPI hands on as minor codes; the library's texts are in the user's language and are only shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from spnego.exceptions import BadMechanismError, SpnegoError

from hvpsbridge.errors import ConfigurationError, HostError, KdcUnreachable, TicketRefused
from hvpsbridge.host.connection import HostConnection

try:
    from gssapi.raw.misc import GSSError
    from krb5 import Krb5Error
except ImportError:
    INSTALLED = False
    LIBRARY_ERRORS: tuple[type[Exception], ...] = (SpnegoError,)
else:
    INSTALLED = True
    LIBRARY_ERRORS = (SpnegoError, Krb5Error, GSSError)

# MIT's library numbers the protocol's errors, and its own, from here; GSSAPI gives them without a sign.
_BASE = -1765328384
_GSS_NO_CREDENTIALS = 7 << 16
_GSS_CREDENTIALS_EXPIRED = 11 << 16
_GSS_CONTEXT_EXPIRED = 12 << 16
_GSS_FAILURE = 13 << 16
# Others speak of a context that was there, as of a broken seal, and have minor codes of another meaning.
_ABOUT_TICKETS = frozenset({0, _GSS_NO_CREDENTIALS, _GSS_CREDENTIALS_EXPIRED, _GSS_FAILURE})

_NO_TICKET = "there is no ticket: run kinit, name a keytab in KRB5_CLIENT_KTNAME, or give a password"
_EXPIRED = "the ticket has expired: run kinit again, or name a keytab in KRB5_CLIENT_KTNAME"
_CLOCKS = "the clocks of this machine and of the domain controller differ by more than Kerberos allows"
_SECRET = "the password is wrong, or the keytab is older than the password"  # noqa: S105 - a text about one
_REALM = "nothing says where the realm's domain controllers are: see /etc/krb5.conf"
_REASONS = {
    6: "the realm has no such user: write it as user@REALM",
    7: "the realm has no such host: give its full name in the domain as its address, no alias or number",
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
    181: "the keytab has no key of that user",
    195: _NO_TICKET,
    217: _REALM,
    220: _REALM,
    224: _REALM,
}
_UNREACHABLE = 156
_MAJOR_REASONS = {_GSS_NO_CREDENTIALS: _NO_TICKET, _GSS_CREDENTIALS_EXPIRED: _EXPIRED}
# Around the library's own text in an exception's.
_KRB5_NUMBER = re.compile(r" -\d+$")
_GSS_MINOR = re.compile(r"Minor \(\d+\): (.*)", re.DOTALL)


def check_installed(connection: HostConnection) -> None:
    """Return when what ``connection`` needs to authenticate is installed here.

    Raises:
        ConfigurationError: it needs Kerberos, and the extra is missing.
    """
    # Without a password Negotiate has nothing but a ticket to show.
    needed = connection.auth == "kerberos" or (connection.auth == "negotiate" and connection.password is None)
    if needed and not INSTALLED:
        raise ConfigurationError(
            f"host {connection.name}",
            "Kerberos needs the extra: pip install 'hvpsbridge[kerberos]' (docs/real-host.md, Kerberos)",
        )


def ticket_failure(host: str, err: Exception) -> HostError | None:
    """What an error of the Kerberos libraries says about tickets; None when it says nothing about them."""
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
        return KdcUnreachable(host, " ".join(text.split()))
    reason = _REASONS.get(number) or _MAJOR_REASONS.get(major)
    if reason is None:
        return TicketRefused(host, " ".join(text.split()))
    return TicketRefused(host, f"{reason} ({' '.join(text.split())})" if number in _REASONS else reason)


def context_failure(connection: HostConnection, err: Exception) -> HostError | None:
    """What an error of a security context means while a connection is being made; None for all others."""
    if isinstance(err, BadMechanismError) and connection.password is None:
        # No scheme could even begin.
        return TicketRefused(connection.name, _NO_TICKET)
    if any(getattr(cause, "maj_code", 0) == _GSS_CONTEXT_EXPIRED for cause in _chain(err)):
        return TicketRefused(connection.name, _EXPIRED)
    return None


def seconds_left(context: object) -> float | None:
    """How long a security context of pyspnego is good; 0 when it is no more, None when it never ends.

    A context ends with the ticket it was made of, and a reply sealed in it can be opened no more.
    """
    # Negotiate wraps Kerberos, which wraps GSSAPI's own context; NTLM has no such end.
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
    """The host did not accept the ticket that the realm gave for it."""
    return TicketRefused(
        host, "it did not take the ticket: its clock is off, or its service name belongs to another account"
    )


def _chain(err: BaseException) -> Iterator[BaseException]:
    """``err`` and what it came from, as Python and as pyspnego keep it."""
    cause: BaseException | None = err
    while cause is not None:
        yield cause
        cause = getattr(cause, "base_error", None) or cause.__cause__ or cause.__context__
