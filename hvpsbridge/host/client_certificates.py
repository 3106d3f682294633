"""The certificate by which hvps logs in to a host, and its private key.

A key that is a secret never becomes a file: OpenSSL reads it from memory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.secret import Secret

MAX_BYTES = 1024 * 1024
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_KEY = "PRIVATE KEY-----"
# In both forms of an encrypted key, PKCS #8 and that of older OpenSSL.
_ENCRYPTED = "ENCRYPTED"


def check_client_certificate(connection: HostConnection) -> None:
    """Return if the client certificate and its key can be used, or none is configured.

    Raises:
        ConfigurationError: they cannot; the text says what to do.
    """
    if connection.certificate is not None:
        load_client_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connection)


def load_client_certificate(context: ssl.SSLContext, connection: HostConnection) -> None:
    """Have a context present the client certificate of ``connection``, if one is configured.

    Raises:
        ConfigurationError: it cannot be used; the text says what to do.
    """
    path = connection.certificate
    if path is None:
        return
    where = f"host {connection.name}"
    password = "" if connection.password is None else connection.password.reveal()
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("latin-1")
        with _key_file(connection.certificate_key) as key:
            # Always with a password, or OpenSSL asks for one on the terminal.
            context.load_cert_chain(path, key, password)
    except ssl.SSLError as err:
        problem = _problem(connection, text, mismatch=err.reason == "KEY_VALUES_MISMATCH")
        raise ConfigurationError(where, f"certificate: {path} {problem}") from None
    except OSError as err:
        raise ConfigurationError(where, f"certificate: {path} cannot be read: {err.strerror}") from None
    except ValueError:
        what = "is not a path, or the password of its key is too long"
        raise ConfigurationError(where, f"certificate: {path} {what}") from None


@contextmanager
def _key_file(key: Secret | None) -> Iterator[Path | None]:
    if key is None:
        yield None
        return
    descriptor = os.memfd_create("hvps-key", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.reveal().encode())
        file.flush()
        yield Path(f"/proc/self/fd/{descriptor}")


def _problem(connection: HostConnection, text: str, *, mismatch: bool) -> str:
    if mismatch:
        return "does not belong to the private key; give the key that it was issued for"
    if _CERTIFICATE not in text:
        return "has no certificate in PEM form"
    key = text if connection.certificate_key is None else connection.certificate_key.reveal()
    if _KEY not in key:
        if connection.certificate_key is None:
            return "has no private key; give it as certificate_key"
        return "cannot be used: certificate_key is not a private key in PEM form"
    if _ENCRYPTED in key:
        if connection.password is None:
            return "has an encrypted private key; give its passphrase as password"
        return "has a private key that the password does not decrypt"
    return "or its private key cannot be read; export both again, as PEM"
