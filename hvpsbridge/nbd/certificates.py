"""Certificates for one run of the server: an authority, the server and one client.

The client's key gives access to the disks; nothing else does. The authority's key is never stored.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Names that GnuTLS clients (libnbd, nbdkit, QEMU) look for in a folder of certificates.
CA_NAME, CLIENT_NAME, CLIENT_KEY_NAME = "ca-cert.pem", "client-cert.pem", "client-key.pem"
_SERVER_NAME, _SERVER_KEY_NAME = "server-cert.pem", "server-key.pem"
# Clocks differ; a server that runs longer is started again.
_BEFORE, _AFTER = timedelta(days=1), timedelta(days=30)


def make_certificates(folder: Path, address: str) -> ssl.SSLContext:
    """Make all certificates, and leave those for the client in a folder.

    Args:
        folder: exists, and is for this account only.
        address: name or IP address by which clients reach the server.

    Returns:
        The server's side: it takes clients with the certificate of this run only.
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hvps serve")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _write(folder / CA_NAME, ca.public_bytes(serialization.Encoding.PEM))
    for usage, name, key_name in (
        (ExtendedKeyUsageOID.SERVER_AUTH, _SERVER_NAME, _SERVER_KEY_NAME),
        (ExtendedKeyUsageOID.CLIENT_AUTH, CLIENT_NAME, CLIENT_KEY_NAME),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address[:64])])
        made = (
            _builder(subject, ca_name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(address)]), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _write(folder / name, made.public_bytes(serialization.Encoding.PEM))
        encoded = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(folder / key_name, encoded)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / CA_NAME)
    context.load_cert_chain(folder / _SERVER_NAME, folder / _SERVER_KEY_NAME)
    for name in (_SERVER_NAME, _SERVER_KEY_NAME):
        (folder / name).unlink()
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _AFTER)
    )


def _alternative(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _write(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as sink:
        sink.write(content)
