"""What is wrong with the TLS connection to a host, and what to do about it."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator

import requests

from hvpsbridge.errors import CertificateChanged, CertificateRejected, HostError, HostRefused, HostUnreachable
from hvpsbridge.host.address import HTTP_PORT, HTTPS_PORT
from hvpsbridge.host.certificates import authorities
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.fingerprints import fingerprint_of
from hvpsbridge.host.psrp.dialing import WrongFingerprint, dialed_tls
from hvpsbridge.text import MAX_REASON, one_line

_GIVE_CA = "give the certificate of its CA as ca, or pin it with hvps host trust"
_NO_CERTIFICATE = "it ended the TLS connection; check that its HTTPS listener has a certificate"
_NO_LATE_CERTIFICATE = (
    "it ended the connection instead of taking the client certificate; with TLS 1.3, switch that off for its "
    "WinRM binding (docs/real-host.md, Client certificates)"
)
# Numbers of OpenSSL (X509_V_ERR_...), which are the same in all versions.
_OTHER_NAME = frozenset({62, 64})
_REASONS = {
    7: f"it was issued by another CA of the same name; {_GIVE_CA}",
    9: "it is not valid yet; check the clocks of the host and of this machine",
    10: "it has expired; renew it on the host, and bind the new one to the WinRM listener",
    18: "it is self-signed; compare it on the host, then pin it with hvps host trust",
    19: f"its CA is unknown here; {_GIVE_CA}",
    20: f"its CA is unknown here; {_GIVE_CA}",
    21: f"its CA is unknown here; {_GIVE_CA}",
    23: "it was revoked; issue a new one for the host",
    24: "its issuer is not a CA; give a certificate that may issue others",
    26: "it is not for servers; issue one with the purpose Server Authentication",
}
# What OpenSSL says when the peer does not speak TLS, or no version that both accept.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
_OLD_TLS = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "HANDSHAKE_FAILURE"}
    | {"SSLV3_ALERT_HANDSHAKE_FAILURE", "DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}
)
# How a host refuses the certificate of its client, within TLS.
_CLIENT_REFUSED = frozenset(
    {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED"}
    | {"SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "TLSV1_ALERT_ACCESS_DENIED"}
    | {"SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV13_ALERT_CERTIFICATE_REQUIRED"}
    | {"TLSV1_ALERT_DECRYPT_ERROR"}
)
# Enough to recognise a host by.
MAX_NAMES = 5


def tls_failure(connection: HostConnection, err: Exception) -> HostError | None:
    """The error for an exception about TLS while connecting; None for other exceptions.

    May connect once more, without sending anything secret, to learn what the host speaks or shows.
    """
    endpoint = connection.endpoint
    if changed := changed_certificate(connection.name, err):
        return changed
    causes = list(_causes(err))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateRejected(connection.name, refusal_of(connection, cause))
        if isinstance(cause, ssl.SSLError):
            return _handshake_failure(connection, cause)
    if isinstance(err, requests.exceptions.SSLError):
        return HostUnreachable(connection.name, f"TLS failed: {one_line(str(causes[-1]), MAX_REASON)}")
    ended = any(isinstance(cause, http.client.RemoteDisconnected | ConnectionResetError) for cause in causes)
    if not ended:
        return None
    speaks_tls = _speaks_tls(connection)
    if speaks_tls and connection.certificate is not None:
        return HostRefused(connection.name, _NO_LATE_CERTIFICATE)
    if endpoint.tls and not speaks_tls:
        return HostUnreachable(connection.name, _NO_CERTIFICATE)
    if speaks_tls and not endpoint.tls:
        reason = f"port {endpoint.port} speaks TLS; write https:// in the address (usually port {HTTPS_PORT})"
        return HostUnreachable(connection.name, reason)
    return None


def changed_certificate(host: str, err: Exception) -> CertificateChanged | None:
    """The error for an exception about a certificate that is not the pinned one; None for others."""
    for cause in _causes(err):
        if isinstance(cause, WrongFingerprint):
            return CertificateChanged(host, fingerprint_of(cause.certificate))
    return None


def _handshake_failure(connection: HostConnection, err: ssl.SSLError) -> HostError:
    if err.reason in _NOT_TLS:
        reason = (
            f"port {connection.endpoint.port} does not speak TLS; the HTTPS listener usually has {HTTPS_PORT}"
        )
        return HostUnreachable(connection.name, f"{reason}, and http:// in the address means {HTTP_PORT}")
    if err.reason in _CLIENT_REFUSED:
        if connection.certificate is None:
            return HostRefused(connection.name, "it wants a client certificate; set auth: certificate")
        return HostRefused(connection.name, f"it does not accept the client certificate ({err.reason})")
    if err.reason in _OLD_TLS:
        reason = "it has no TLS version, cipher or key that this machine accepts; enable TLS 1.2 on the host"
        return HostUnreachable(connection.name, reason)
    if isinstance(err, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return HostUnreachable(connection.name, _NO_CERTIFICATE)
    return HostUnreachable(connection.name, f"TLS failed: {err.reason or type(err).__name__}")


def refusal_of(connection: HostConnection, err: ssl.SSLCertVerificationError) -> str:
    """Why a certificate is not accepted, and what to do about it."""
    if err.verify_code not in _OTHER_NAME:
        return _REASONS.get(err.verify_code) or f"{err.verify_message}; {_GIVE_CA}"
    server = connection.endpoint.server
    names = _names(connection)
    if not names:
        return f"it has no name, and {server} is required; issue one with the host's name as a DNS name"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (
        f"it is for {', '.join(names[:MAX_NAMES])}{more}, not for {server}; "
        "use a name of the certificate as the address"
    )


def _names(connection: HostConnection) -> list[str]:
    """The names in the host's certificate, which must be from a trusted CA."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with contextlib.suppress(OSError, ValueError):
        if (path := authorities(connection)[1]) is not None:
            is_folder = path.is_dir()
            context.load_verify_locations(
                cafile=None if is_folder else path, capath=path if is_folder else None
            )
        with dialed_tls(connection, context) as secure:
            certificate = secure.getpeercert() or {}
            found = certificate.get("subjectAltName", ())
            return [str(pair[1]) for pair in found if pair[0] in ("DNS", "IP Address")]
    return []


def _speaks_tls(connection: HostConnection) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only whether there is TLS: nothing is sent, and nothing received is believed.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with dialed_tls(connection, context):
            return True
    except (OSError, ValueError):
        return False


def _causes(err: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = err
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
