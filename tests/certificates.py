"""Certificates with anything wrong, and a TLS server that shows them."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_END = "-----END CERTIFICATE-----"


def issue(
    folder: Path,
    names: Sequence[str] = ("127.0.0.1",),
    *,
    days: tuple[int, int] = (-1, 1),
    self_signed: bool = False,
    subject: str = "hv01",
    password: bytes = b"",
) -> tuple[Path, Path]:
    """A certificate with its key in one file, and the file of the CA that issued it.

    Args:
        folder: where both files are made.
        names: DNS names and IP addresses that the certificate is for.
        days: from when and until when it is valid, counted from now.
        self_signed: without a CA; the second file is the certificate then.
        subject: common name.
        password: of the key, which is not encrypted without one.
    """
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name(subject if self_signed else "Example CA")

    def signed(owner: x509.Name, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> bytes:
        start, end = (now + datetime.timedelta(days=day) for day in days)
        signer = key if self_signed else ca_key
        return (
            x509.CertificateBuilder()
            .subject_name(owner)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(extension, critical=False)
            .sign(signer, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    leaf = signed(
        _name(subject), key.public_key(), x509.SubjectAlternativeName([_general(name) for name in names])
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (folder / "chain.pem").write_bytes(leaf + private)
    ca = (
        leaf
        if self_signed
        else signed(issuer, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
    )
    (folder / "issuer.pem").write_bytes(ca)
    return folder / "chain.pem", folder / "issuer.pem"


def der_of(chain: Path) -> bytes:
    """The first certificate of a PEM file, in DER form."""
    text = chain.read_text()
    return ssl.PEM_cert_to_DER_cert(text[: text.index(_END) + len(_END)])


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def tls_server(chain: Path | None) -> Iterator[int]:
    """Port of a server that ends each connection after the handshake, or that speaks plain HTTP."""
    context = None
    if chain is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.settimeout(5)
                if context is None:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                else:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
