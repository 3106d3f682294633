"""Login with a client certificate. A certificate's account is its common name; Windows has a table for it."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Collection, Mapping

from hvpsbridge.sim.wsman.auth import SOAP_TYPE, Allowed, Denied
from hvpsbridge.sim.wsman.envelope import Parts

logger = logging.getLogger(__name__)

# In ``Authorization``, in place of a scheme (MS-WSMV).
MUTUAL_TLS = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_LOOK_SECONDS = 0.05
_LOOKS = 100


class MutualAuthenticator:
    """Authentication by the certificate of a TLS connection.

    With TLS 1.3 the certificate is requested when a request asks for this scheme, as http.sys does, with
    older versions in the handshake.

    Args:
        users: accounts that may log on.
        sock: the connection.
    """

    def __init__(self, users: Collection[str], sock: socket.socket) -> None:
        self._users = frozenset(user.lower() for user in users)
        self._socket = sock

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The account of the client's certificate, if it may log on."""
        if headers.get("authorization", "").lower() == MUTUAL_TLS:
            user = _common_name(self._certificate())
            if user in self._users:
                return Allowed(user)
            logger.debug("refused: no account for the certificate of %r", user)
        return Denied(())

    def _certificate(self) -> Mapping[str, object]:
        sock = self._socket
        if not isinstance(sock, ssl.SSLSocket):
            return {}
        if sock.getpeercert() or sock.version() != "TLSv1.3":
            return sock.getpeercert() or {}
        before = sock.gettimeout()
        with contextlib.suppress(ssl.SSLError):
            sock.verify_client_post_handshake()
        sock.do_handshake()  # sends the request
        sock.settimeout(_LOOK_SECONDS)
        try:
            # A read takes in the certificate; the client sends nothing else while it waits for the reply.
            for _ in range(_LOOKS):
                with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                    sock.recv(1)
                if found := sock.getpeercert():
                    return found
        finally:
            sock.settimeout(before)
        return {}

    def open(self, content_type: str, body: bytes) -> bytes:
        """The body as it is."""
        return body

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """The body as it is."""
        return SOAP_TYPE, body


def _common_name(certificate: Mapping[str, object]) -> str:
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    names = [value for part in subject for name, value in part if name == "commonName"]
    return str(names[-1]).lower() if names else ""
