"""The CA certificates by which a host is trusted, checked before a connection is tried."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.host.connection import HostConnection

# requests takes certificates from these, in this order, when no other file is named.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# A bundle of all public authorities has 200 KiB.
MAX_BYTES = 16 * 1024 * 1024
# How OpenSSL looks for certificates in a directory.
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


def check_authorities(connection: HostConnection) -> None:
    """Return if the CA certificates for the host can be read, or none are needed.

    Raises:
        ConfigurationError: they cannot; the text says what to do.
    """
    name, path = authorities(connection)
    if path is not None and connection.checks_authority and (problem := _problem(path)):
        raise ConfigurationError(f"host {connection.name}", f"{name}: {path} {problem}")


def authorities(connection: HostConnection) -> tuple[str, Path | None]:
    """Where the CA certificates come from: key or variable, and file or directory; None for the system's."""
    if connection.ca is not None:
        return "ca", connection.ca
    for name in CA_VARIABLES:
        if path := os.environ.get(name):
            return name, Path(path)
    return "", None


def _problem(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            if any(_HASHED.fullmatch(entry.name) for entry in path.iterdir()):
                return None
            return "is a directory without hashed certificates; name a PEM file, or run `openssl rehash`"
        if not stat.S_ISREG(mode):
            return "is not a file; name a PEM file"
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return "does not exist; name a PEM file with the certificate of the CA"
    except OSError as err:
        return f"cannot be read: {err.strerror}"
    except ValueError:  # a null byte
        return "is not a path"
    if len(data) > MAX_BYTES:
        return "is too large for certificates; name a PEM file"
    if b"-----BEGIN CERTIFICATE-----" not in data and b"-----BEGIN TRUSTED CERTIFICATE-----" not in data:
        return _without_certificate(data)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        return "has a certificate that cannot be read; export it from the CA again, as PEM"
    return None


def _without_certificate(data: bytes) -> str:
    if not data.strip():
        return "is empty; name a PEM file with the certificate of the CA"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data)
    except (ssl.SSLError, ValueError):
        return "has no certificate in PEM form"
    return "is DER; convert it to PEM with `openssl x509 -inform der -in FILE -out ca.pem`"
