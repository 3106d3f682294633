"""TLS of a simulated host: its certificate, and those of clients."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from threading import Lock


class ServerTls:
    """The certificates of a listener. Thread-safe.

    The file is read again when it has changed, so that a host can change its certificate as real ones do.

    Args:
        certificate: PEM file with certificate chain and key.
        client_authorities: PEM file with the CAs whose client certificates are accepted.

    Attributes:
        names_asked: the names that clients asked for (SNI); None for a client that asked for none.
    """

    def __init__(self, certificate: Path, client_authorities: Path | None = None) -> None:
        self._certificate = certificate
        self._client_authorities = client_authorities
        self._lock = Lock()
        self._changed = 0
        self._newest = ssl.TLSVersion.MAXIMUM_SUPPORTED
        self._context = self._load()
        self.names_asked: list[str | None] = []

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        with self._lock:
            if self._certificate.stat().st_mtime_ns != self._changed:
                self._context = self._load()
            return self._context

    def only_tls_1_2(self) -> None:
        """Speak nothing newer from the next connection on, as Windows before Server 2022."""
        with self._lock:
            self._newest = ssl.TLSVersion.TLSv1_2
            self._context = self._load()

    def binding(self) -> bytes:
        """What a login is bound to (RFC 5929, ``tls-server-end-point``), if SHA-256 signs the certificate."""
        text = self._certificate.read_text(encoding="ascii")
        end = "-----END CERTIFICATE-----"
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
        return b"tls-server-end-point:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()

    def _load(self) -> ssl.SSLContext:
        self._changed = self._certificate.stat().st_mtime_ns
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        context.maximum_version = self._newest
        context.sni_callback = self._asked
        if self._client_authorities is not None:
            context.load_verify_locations(self._client_authorities)
            context.verify_mode = ssl.CERT_OPTIONAL
            # Not in the handshake of TLS 1.3 but when a request asks for it, as http.sys does.
            context.post_handshake_auth = True
        return context

    def _asked(self, sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.names_asked.append(name)
