"""A look at the certificate of a host, without logging in."""

from __future__ import annotations

import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from hvpsbridge.errors import ConfigurationError, HostUnreachable
from hvpsbridge.host.certificates import authorities, check_authorities
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.dialing import dialed_tls
from hvpsbridge.host.psrp.errors import connect_failure
from hvpsbridge.host.psrp.tls import refusal_of
from hvpsbridge.host.shown_certificate import ShownCertificate, read_certificate


def look_at_certificate(connection: HostConnection) -> ShownCertificate:
    """The certificate that the host shows, and whether a CA vouches for it. Nothing is sent to the host.

    Raises:
        ConfigurationError: the host is reached by plain HTTP, or the CA certificates cannot be read.
        HostUnreachable: there is no TLS connection.
    """
    if not connection.endpoint.tls:
        raise ConfigurationError(f"host {connection.name}", "is reached over http, which has no certificate")
    check_authorities(connection)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with dialed_tls(connection, context) as secure:
            certificate = secure.getpeercert(binary_form=True) or b""
        return read_certificate(certificate, _refusal(connection))
    except OSError as err:
        raise connect_failure(connection, err) from err
    except ValueError as err:
        raise HostUnreachable(connection.name, f"its certificate cannot be read: {err}") from err


def _refusal(connection: HostConnection) -> str:
    """Why the certificate is not accepted without a pin; empty if it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    path = authorities(connection)[1] or Path(DEFAULT_CA_BUNDLE_PATH)
    is_folder = path.is_dir()
    context.load_verify_locations(cafile=None if is_folder else path, capath=path if is_folder else None)
    try:
        with dialed_tls(connection, context):
            return ""
    except ssl.SSLCertVerificationError as err:
        return refusal_of(connection, err)
